//! A broker under measurement: its addresses and its processes.

use std::any::Any;
use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rollcall_proto::reason::ReasonCode;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::{Options, RawClient};
use crate::cluster::TestCluster;
use crate::patience::until;

/// Units in which `/proc/PID/stat` counts CPU time: Linux tells user programs hundredths of a second everywhere.
const TICK: Duration = Duration::from_millis(10);
/// RabbitMQ takes the longest to form a cluster on two busy cores.
const START_LIMIT: Duration = Duration::from_secs(120);

pub struct Broker {
    /// With the number of its nodes, unless it can only be one.
    pub name: String,
    pub nodes: u16,
    /// One for each node.
    pub addresses: Vec<SocketAddr>,
    pids: Vec<u32>,
    /// What must live as long as the broker runs, dropped in this order.
    kept: Vec<Box<dyn Any>>,
}

impl Broker {
    /// With these `key=value` settings on each node.
    pub async fn rollcall(nodes: u16, settings: &[&str]) -> Self {
        let cluster = TestCluster::start_with(nodes, settings).await;
        Self {
            name: named("rollcall", nodes),
            nodes,
            addresses: cluster.nodes.iter().map(|node| node.mqtt()).collect(),
            pids: cluster.nodes.iter().map(|node| node.pid()).collect(),
            kept: vec![Box::new(cluster)],
        }
    }

    /// Somebody else's: node *i* listens for MQTT on `first_port` + *i*, and what it prints goes to a file in the folder.
    /// It is there when every node lets a client in.
    pub(super) async fn of_others(name: String, first_port: u16, commands: Vec<Command>, folder: TempDir) -> Self {
        let nodes = commands.len() as u16;
        let start = |(index, mut command): (usize, Command)| {
            let log = File::create(folder.path().join(format!("log-{index}"))).expect("a file for its output");
            let errors = log.try_clone().expect("the file opens twice");
            let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
            child.unwrap_or_else(|error| panic!("{command:?} does not start ({error}): is its package installed?"))
        };
        let processes: Vec<Child> = commands.into_iter().enumerate().map(start).collect();
        let address = |index| SocketAddr::from(([127, 0, 0, 1], first_port + index));
        let broker = Self {
            name,
            nodes,
            addresses: (0..nodes).map(address).collect(),
            pids: processes.iter().map(|process| process.id().expect("it runs")).collect(),
            kept: vec![Box::new(processes), Box::new(folder)],
        };
        for &address in &broker.addresses {
            until(&format!("{} lets clients in", broker.name), START_LIMIT, || async move {
                let attempt = RawClient::try_connect(address, &Options::v311("probe")).await;
                let (_, ack) = attempt.map_err(|error| error.to_string())?;
                if ack.reason == ReasonCode::Success { Ok(()) } else { Err(format!("{:?}", ack.reason)) }
            })
            .await;
        }
        broker
    }

    /// Goes when the broker goes.
    pub(super) fn keep(&mut self, helper: Child) {
        self.kept.push(Box::new(helper));
    }

    /// The address of a node; neighbours in the count are on different ones.
    pub fn node(&self, index: usize) -> SocketAddr {
        self.addresses[index % self.addresses.len()]
    }

    /// CPU time of all its processes so far, user and kernel.
    pub fn cpu(&self) -> Duration {
        self.pids.iter().map(|&pid| cpu_of(pid)).sum()
    }
}

pub(super) fn named(broker: &str, nodes: u16) -> String {
    if nodes == 1 { format!("{broker}, 1 node") } else { format!("{broker}, {nodes} nodes") }
}

fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the broker runs");
    // The program's name, in parentheses, may hold blanks: count the fields behind it.
    let (_, fields) = stat.rsplit_once(')').expect("a stat line");
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().unwrap_or(0)).sum();
    TICK * ticks
}
