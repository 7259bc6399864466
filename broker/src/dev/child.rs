//! One node's process: started, its output led on, told to end.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::ChildStdin,
    sync::watch,
};

use super::plan::NodePlan;

/// Where a child's output goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    /// To our stderr, each line behind the node's name.
    Prefixed,
    /// To a file of the node's own.
    File,
}

/// What all children are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    Terminate,
    Kill,
}

pub(super) struct Child {
    process: tokio::process::Child,
    /// The child ends when this is closed, also when this process is killed.
    _alive: Option<ChildStdin>,
}

impl Child {
    pub fn start(plan: &NodePlan, output: Output) -> io::Result<Self> {
        let mut command = std::process::Command::new(&plan.program);
        command.args(["serve", "--exit-with-parent"]);
        for assignment in &plan.set {
            command.arg("--set").arg(assignment);
        }
        command.envs(plan.secrets.iter().map(|(name, value)| (name, value)));
        // A group of its own: what is typed at the terminal is for this process to pass on.
        command.stdin(Stdio::piped()).process_group(0);
        match output {
            Output::Prefixed => {
                command.args(["--log", "human"]).stdout(Stdio::piped()).stderr(Stdio::piped());
            }
            Output::File => {
                let log = File::options().create(true).append(true).open(&plan.log)?;
                command.stdout(log.try_clone()?).stderr(log);
            }
        }
        let mut process = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(lead_on(plan.name.clone(), stdout));
        }
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(lead_on(plan.name.clone(), stderr));
        }
        let alive = process.stdin.take();
        Ok(Self { process, _alive: alive })
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Carries out orders until the process has ended.
    pub async fn supervise(mut self, mut orders: watch::Receiver<Order>) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.process.wait() => return status,
                Ok(()) = orders.changed() => {}
            }
            let order = *orders.borrow_and_update();
            match order {
                Order::Run => {}
                Order::Terminate => self.terminate()?,
                Order::Kill => self.process.start_kill()?,
            }
        }
    }

    fn terminate(&self) -> io::Result<()> {
        // None once the process was waited for: then its number may be another's.
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::TERM)?))
    }
}

async fn lead_on(name: String, from: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{name} | {line}");
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(2);

/// Asks `/readyz` until it says yes.
///
/// # Errors
/// With its last answer, when it has not said yes in time.
pub(super) async fn wait_until_ready(http: SocketAddr, within: Duration) -> Result<(), String> {
    let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(ANSWER));
    let agent = agent.build().new_agent();
    let started = Instant::now();
    loop {
        let (agent, url) = (agent.clone(), format!("http://{}/readyz", reachable(http)));
        let asked = tokio::task::spawn_blocking(move || match agent.get(url).call() {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(mut answer) => Err(answer.body_mut().read_to_string().unwrap_or_default()),
            Err(cause) => Err(cause.to_string()),
        });
        let why = match asked.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(cause) => cause.to_string(),
        };
        if started.elapsed() > within {
            return Err(why);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// A wildcard is no address to ask.
fn reachable(http: SocketAddr) -> SocketAddr {
    match http {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port())),
        SocketAddr::V4(_) | SocketAddr::V6(_) => http,
    }
}
