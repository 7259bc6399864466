//! Other people's programs, run as a user would run them.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::binary::workspace;

/// Longer than any of these programs needs on a busy machine.
pub const PROGRAM_LIMIT: Duration = Duration::from_secs(30);

/// A program with its arguments, looked for on the PATH and where Debian puts servers.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let in_sbin = PathBuf::from("/usr/sbin").join(program);
    let mut command = if in_sbin.exists() { Command::new(in_sbin) } else { Command::new(program) };
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// As [`command`], with each line of its output written at once although nobody watches on a terminal.
pub fn line_by_line(program: &str, arguments: &[&str]) -> Command {
    command("stdbuf", &[&["-oL", program], arguments].concat())
}

/// The Python that has the pinned clients of `tests/clients/requirements.txt`.
pub fn python() -> PathBuf {
    clients_folder().join(".venv/bin/python")
}

/// Where the real clients' scripts and what they are installed from lie.
pub fn clients_folder() -> PathBuf {
    workspace().join("tests/clients")
}

/// Runs it to its end and panics with what it printed unless it succeeded.
pub async fn succeed(mut command: Command) -> Output {
    let output = timeout(PROGRAM_LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} has not ended within {PROGRAM_LIMIT:?}"));
    let output = output.unwrap_or_else(|error| panic!("{command:?} does not start ({error}): run tests/clients/setup"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}\n{out}\n{err}", output.status);
    output
}

/// A program that goes on running while its output is read line by line. Dropping it kills it.
pub struct Running {
    lines: Lines<BufReader<ChildStdout>>,
    pub child: Child,
    what: String,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let what = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start ({error}): run tests/clients/setup"));
        let output = child.stdout.take().expect("its output is piped");
        Self { lines: BufReader::new(output).lines(), child, what }
    }

    /// The next line it prints; panics when it ends or none comes within `limit`.
    pub async fn line(&mut self, limit: Duration) -> String {
        match timeout(limit, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => panic!("{} ended instead of printing a line", self.what),
            Ok(Err(error)) => panic!("{}: its output cannot be read: {error}", self.what),
            Err(_) => panic!("{} printed no line within {limit:?}", self.what),
        }
    }

    /// Reads on until a line contains `part`, and answers with that line.
    pub async fn line_with(&mut self, part: &str, limit: Duration) -> String {
        let started = std::time::Instant::now();
        loop {
            let line = self.line(limit.saturating_sub(started.elapsed())).await;
            if line.contains(part) {
                return line;
            }
        }
    }
}
