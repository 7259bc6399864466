//! One node as a process: `rollcall serve` with its own data directory and log file.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary;
use crate::http::Api;

/// What a node is started with, and started with again after it died.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    pub name: String,
    pub mqtt_port: u16,
    pub http_port: u16,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    /// `key=value`, as after `--set`.
    pub settings: Vec<String>,
    /// A file with more of them, weaker.
    pub file: Option<PathBuf>,
    /// What its environment has besides ours.
    pub env: Vec<(String, String)>,
    /// Instead of the program under test.
    pub program: Option<PathBuf>,
}

impl NodeSpec {
    /// What a key is set to.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find_map(|setting| setting.strip_prefix(key)?.strip_prefix('='))
    }

    /// `rollcall serve` with every setting.
    pub fn command(&self) -> Command {
        let program = self.program.as_deref().unwrap_or_else(|| binary::rollcall());
        let mut command = Command::new(program);
        command.arg("serve").envs(self.env.iter().cloned());
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
    }
}

/// A node's process, alive, paused or dead. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    pub spec: NodeSpec,
    child: Option<Child>,
    paused: bool,
}

impl Node {
    pub fn start(spec: NodeSpec) -> Self {
        let mut node = Self { spec, child: None, paused: false };
        node.spawn();
        node
    }

    /// Starts the process (again) on its data directory. Its output is appended to its log file.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.spec.name);
        let log = File::options().create(true).append(true).open(&self.spec.log).expect("the log file opens");
        let errors = log.try_clone().expect("the log file opens twice");
        let child = self.spec.command().stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("the broker program starts"));
    }

    pub fn mqtt(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.spec.mqtt_port))
    }

    /// The address as lifecycle events name this node.
    pub fn event_name(&self) -> String {
        self.mqtt().to_string()
    }

    pub fn api(&self) -> Api {
        Api::new(self.spec.http_port)
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("only a running node can be killed");
        child.kill().expect("SIGKILL reaches the node");
        child.wait().expect("a killed node is waited for");
        self.paused = false;
    }

    /// SIGSTOP: the process keeps its sockets and does nothing.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    /// SIGTERM: asks the node to drain.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: asks the node to read its configuration anew.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            let child = self.child.as_mut().expect("the node runs");
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                self.child = None;
                return status;
            }
            assert!(started.elapsed() < limit, "{} has not ended within {limit:?}", self.spec.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Panics with the end of the log if the process has ended unasked.
    pub fn assert_alive(&mut self) {
        let Some(child) = self.child.as_mut() else { return };
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            self.child = None;
            panic!("{} ended unasked ({status}):\n{}", self.spec.name, self.log_tail(40));
        }
    }

    /// The lines with that in them of what the node logged.
    pub fn log_lines(&self, part: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.spec.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of what the node logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a process id is not zero");
        kill_process(pid, signal).expect("the signal reaches the node");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The process may have ended by itself a moment ago: nothing is left to be done then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
