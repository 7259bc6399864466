//! `rollcall dev`: a cluster on this machine, one child process per node.

mod child;
mod plan;

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{config::Problems, ctl::Table};
use child::{Child, Order, Output};
use plan::NodePlan;

#[derive(Debug, Args)]
pub struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=15))]
    nodes: u16,
    /// MQTT port of node-0; node-1 has the next one, and so on
    #[arg(long, default_value_t = 1883)]
    mqtt_port: u16,
    /// HTTP port of node-0
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Node-to-node port of node-0
    #[arg(long, default_value_t = 7400)]
    rpc_port: u16,
    /// Where the nodes keep their state, each in a directory of its name
    #[arg(long, default_value = "./rollcall-dev", value_name = "DIR")]
    data_dir: PathBuf,
    /// One key of every node's configuration; may be given many times. Ports of binds rise by one per node
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Start a node again when it died
    #[arg(long)]
    respawn: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--set {key} is decided by `rollcall dev` itself: leave it out, or run `rollcall serve` for each node")]
    OurKey { key: String },
    #[error("{flag} {first} leaves no room for {nodes} nodes below port 65536: choose a lower one")]
    PortsEnd { flag: &'static str, first: u16, nodes: u16 },
    #[error("the configuration of {node} is refused\n{problems}")]
    Config { node: String, problems: Problems },
    #[error("{node} cannot listen on {address}: {cause}; free the port or change {remedy}")]
    PortTaken { node: String, address: SocketAddr, cause: io::Error, remedy: String },
    #[error("cannot find this program's own file: {0}")]
    NoProgram(io::Error),
    #[error("cannot make {path}: {cause}; choose another --data-dir", path = .path.display())]
    Directory { path: PathBuf, cause: io::Error },
    #[error("cannot start {node}: {cause}")]
    Spawn { node: String, cause: io::Error },
    #[error("{node} ended before the cluster was ready ({status}); {hint}")]
    Ended { node: String, status: ExitStatus, hint: String },
    #[error("{node} was not ready after {}s ({why}); {hint}", .after.as_secs())]
    NotReady { node: String, after: Duration, why: String, hint: String },
    #[error("told to stop before the cluster was ready")]
    Interrupted,
    #[error("cannot start the runtime or its signal handlers: {0}")]
    Runtime(#[from] io::Error),
}

/// From the first child's start until all must be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What an orderly end may take beyond `drain.timeout`.
const DRAIN_SLACK: Duration = Duration::from_secs(10);
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

/// Runs the cluster until told to stop.
///
/// # Errors
/// When it cannot be started.
pub fn run(options: Options) -> Result<(), Error> {
    let plans = plan::plan(&options)?;
    plan::check_ports(&plans)?;
    std::fs::create_dir_all(&options.data_dir)
        .map_err(|cause| Error::Directory { path: options.data_dir.clone(), cause })?;
    let output = if io::stdout().is_terminal() { Output::Prefixed } else { Output::File };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? };
        let mut cluster = Cluster::start(plans, output, options.respawn)?;
        let result = cluster.run(stop).await;
        cluster.end().await;
        result
    })
}

struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

struct Cluster {
    plans: Vec<NodePlan>,
    output: Output,
    respawn: bool,
    orders: watch::Sender<Order>,
    /// Each ends with its node's index when its process has.
    children: JoinSet<(usize, io::Result<ExitStatus>)>,
    pids: Vec<Option<u32>>,
}

impl Cluster {
    fn start(plans: Vec<NodePlan>, output: Output, respawn: bool) -> Result<Self, Error> {
        let pids = vec![None; plans.len()];
        let mut cluster =
            Self { plans, output, respawn, orders: watch::Sender::new(Order::Run), children: JoinSet::new(), pids };
        (0..cluster.plans.len()).try_for_each(|index| cluster.spawn(index))?;
        Ok(cluster)
    }

    fn spawn(&mut self, index: usize) -> Result<(), Error> {
        let plan = &self.plans[index];
        let child = Child::start(plan, self.output).map_err(|cause| Error::Spawn { node: plan.name.clone(), cause })?;
        self.pids[index] = child.pid();
        let orders = self.orders.subscribe();
        self.children.spawn(async move { (index, child.supervise(orders).await) });
        Ok(())
    }

    async fn run(&mut self, mut stop: Stop) -> Result<(), Error> {
        tokio::select! {
            ready = self.all_ready() => ready?,
            () = stop.told() => return Err(Error::Interrupted),
        }
        self.announce();
        loop {
            tokio::select! {
                () = stop.told() => break,
                Some(ended) = self.children.join_next() => self.after_end(ended).await?,
            }
        }
        eprintln!("rollcall dev: stopping {} nodes", self.children.len());
        self.orders.send_replace(Order::Terminate);
        let patience = self.patience();
        tokio::select! {
            () = self.all_ended() => {}
            () = stop.told() => eprintln!("rollcall dev: told twice: killing what is left"),
            () = tokio::time::sleep(patience) => eprintln!("rollcall dev: killing what has not ended in time"),
        }
        Ok(())
    }

    /// Leaves no child behind.
    async fn end(&mut self) {
        self.orders.send_replace(Order::Kill);
        self.all_ended().await;
    }

    async fn all_ended(&mut self) {
        while self.children.join_next().await.is_some() {}
    }

    fn patience(&self) -> Duration {
        self.plans.iter().map(|plan| plan.drain_timeout).max().unwrap_or_default() + DRAIN_SLACK
    }

    async fn all_ready(&mut self) -> Result<(), Error> {
        let mut waiting = JoinSet::new();
        for plan in &self.plans {
            let (http, name, hint) = (plan.http, plan.name.clone(), self.hint(plan));
            waiting.spawn(async move {
                let ready = child::wait_until_ready(http, READY_WITHIN).await;
                ready.map_err(|why| Error::NotReady { node: name, after: READY_WITHIN, why, hint })
            });
        }
        loop {
            tokio::select! {
                Some(ended) = self.children.join_next() => {
                    let Ok((index, Ok(status))) = ended else { continue };
                    let plan = &self.plans[index];
                    return Err(Error::Ended { node: plan.name.clone(), status, hint: self.hint(plan) });
                }
                ready = waiting.join_next() => match ready {
                    Some(Ok(ready)) => ready?,
                    Some(Err(_)) => {}
                    None => return Ok(()),
                }
            }
        }
    }

    fn hint(&self, plan: &NodePlan) -> String {
        match self.output {
            Output::Prefixed => "its log is above".to_owned(),
            Output::File => format!("its log is {}", plan.log.display()),
        }
    }

    async fn after_end(
        &mut self,
        ended: Result<(usize, io::Result<ExitStatus>), tokio::task::JoinError>,
    ) -> Result<(), Error> {
        let Ok((index, status)) = ended else { return Ok(()) };
        let plan = &self.plans[index];
        let how = status.map_or_else(|cause| cause.to_string(), |status| status.to_string());
        self.pids[index] = None;
        if !self.respawn {
            eprintln!("rollcall dev: {} ended ({how}); to start it again:\n  {}", plan.name, plan.command_line());
            return Ok(());
        }
        eprintln!("rollcall dev: {} ended ({how}); starting it again", plan.name);
        tokio::time::sleep(RESPAWN_PAUSE).await;
        self.spawn(index)
    }

    fn announce(&self) {
        let mut table = Table::new(&["node", "mqtt", "http", "rpc", "pid"]);
        for (plan, pid) in self.plans.iter().zip(&self.pids) {
            let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let mqtt: Vec<String> = plan.mqtt.iter().map(ToString::to_string).collect();
            let http = format!("http://{}", plan.http);
            table.row(vec![plan.name.clone(), mqtt.join(","), http, plan.rpc.to_string(), pid]);
        }
        println!("{table}");
        println!("to start a node again that was killed:");
        self.plans.iter().for_each(|plan| println!("  {}", plan.command_line()));
        if matches!(self.output, Output::File) {
            println!("logs:");
            self.plans.iter().for_each(|plan| println!("  {}", plan.log.display()));
        }
        println!("\nready: {} nodes", self.plans.len());
    }
}
