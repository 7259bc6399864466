//! The cluster that is broken: its processes, their ports, signals and logs.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::disk::{Lost, PowerCut, Trouble};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::net::Net;

/// Longer than any start, rejoin or fence on a busy machine, and than an empty disk waits for the death of what it was.
const READY: Duration = Duration::from_secs(60);
/// Longer than a drain may take by default.
const DRAINED: Duration = Duration::from_secs(40);
/// Below the range of outgoing connections' ports, so that a restarted node finds its own free.
const PORTS: std::ops::Range<u16> = 21_000..30_000;

/// Which of its ports comes first; there are as many of each as nodes.
const MQTT: usize = 0;
const HTTP: usize = 1;
const RPC: usize = 2;
/// Where the other nodes reach a node when what passes between them can be held up.
const FRONT: usize = 3;

/// The nodes' disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Disks {
    /// The machine outlives its processes: what a killed node wrote is there.
    #[default]
    Kept,
    /// A killed node loses what it had not synced.
    LosePower,
    /// A killed node loses all it had written since it was started: its disk has not synced, although it said so.
    NeverSync,
    /// Writes can be made to fail.
    MayFail,
}

struct Node {
    settings: Vec<String>,
    data_dir: PathBuf,
    env: Vec<(String, String)>,
    power: Option<PowerCut>,
    trouble: Option<Trouble>,
    clock: Option<Clock>,
    log: PathBuf,
    child: Option<Child>,
}

/// What a cluster is started as.
pub struct Setup<'a> {
    pub rollcall: &'a Path,
    pub size: usize,
    /// Of each node beside its own, as `key=value`.
    pub settings: &'a [String],
    pub disks: Disks,
    /// The nodes reach each other through this program, which can cut them off.
    pub net: bool,
    /// The nodes' wall clocks can be made to jump.
    pub clocks: bool,
    /// There is an address for a node more than the cluster has, which joins and leaves.
    pub guest: bool,
    /// The nodes' folders stay.
    pub keep: bool,
}

impl Setup<'_> {
    /// Of how many nodes there are ports.
    fn places(&self) -> usize {
        self.size + usize::from(self.guest)
    }
}

pub struct Cluster {
    rollcall: PathBuf,
    /// The last one may be the guest.
    nodes: Vec<Node>,
    size: usize,
    first_port: u16,
    http: reqwest::Client,
    net: Option<Net>,
    lost: Lost,
    /// Removes itself when dropped, unless it is to be kept.
    folder: Option<TempDir>,
}

impl Cluster {
    /// Starts the nodes, and waits until all are ready.
    pub async fn start(setup: &Setup<'_>) -> Result<Self, String> {
        let size = setup.size;
        let folder = tempfile::Builder::new().prefix("rollcall-chaos-").tempdir().map_err(|error| error.to_string())?;
        let places = setup.places();
        let first_port = free_ports(places)?;
        let port = |group: usize, node: usize| first_port + (group * places + node) as u16;
        let ports = |group: usize| (0..places).map(|node| port(group, node)).collect::<Vec<_>>();
        let net = if setup.net { Some(Net::start(&ports(FRONT), &ports(RPC)).await?) } else { None };
        let nodes = (0..places).map(|index| node(folder.path(), first_port, index, setup)).collect();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
        let http = http.map_err(|error| error.to_string())?;
        let (rollcall, lost) = (setup.rollcall.to_owned(), Lost::default());
        let mut cluster = Self { rollcall, nodes, size, first_port, http, net, lost, folder: Some(folder) };
        if setup.keep {
            cluster.keep_folder();
        }
        for index in 0..size {
            cluster.spawn(index)?;
        }
        cluster.all_ready().await?;
        Ok(cluster)
    }

    /// How many nodes it has, the guest not counted.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Of the node that is not always there.
    pub fn guest(&self) -> usize {
        self.size
    }

    /// Of all nodes, and last that of the guest, if there may be one.
    pub fn mqtt_ports(&self) -> Arc<[u16]> {
        (0..self.nodes.len()).map(|index| self.first_port + index as u16).collect()
    }

    /// In the same order.
    pub fn http_ports(&self) -> Arc<[u16]> {
        (0..self.nodes.len()).map(|index| self.http_port(index)).collect()
    }

    /// The network between the nodes, if it can be broken.
    pub fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    /// The disk of a node, if it can be made to fail.
    pub fn trouble(&self, index: usize) -> Option<&Trouble> {
        self.nodes[index].trouble.as_ref()
    }

    /// The wall clock of a node, if it can be made to jump.
    pub fn clock(&self, index: usize) -> Option<&Clock> {
        self.nodes[index].clock.as_ref()
    }

    /// The nodes' folders and logs outlive this program.
    pub fn keep_folder(&mut self) {
        if let Some(folder) = self.folder.take() {
            println!("chaos: the nodes' folders stay in {}", folder.keep().display());
        }
    }

    pub fn spawn(&mut self, index: usize) -> Result<(), String> {
        let node = &mut self.nodes[index];
        let log = File::options().create(true).append(true).open(&node.log).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.rollcall);
        command
            .arg("serve")
            .args(&node.settings)
            .envs(node.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.rollcall.display()))?;
        if let Some(net) = &self.net {
            net.born(index, child.id());
        }
        node.child = Some(child);
        Ok(())
    }

    pub fn kill(&mut self, index: usize) -> Result<(), String> {
        let mut child = self.nodes[index].child.take().ok_or("a dead node cannot be killed")?;
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        if let Some(power) = &self.nodes[index].power {
            self.lost.add(power.cut());
        }
        Ok(())
    }

    /// What killed nodes had written and lost.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Asks a node to stop and waits until it has.
    ///
    /// # Errors
    /// It does not, or not with success.
    pub async fn drain(&mut self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::TERM)?;
        self.ended(index, DRAINED).await
    }

    /// Waits until a node that was told to has ended.
    ///
    /// # Errors
    /// It does not, or not with success.
    pub async fn ended(&mut self, index: usize, limit: Duration) -> Result<(), String> {
        let mut child = self.nodes[index].child.take().ok_or("a dead node does not end")?;
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return if status.success() { Ok(()) } else { Err(format!("node-{index} ended by {status}")) };
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.nodes[index].child = Some(child);
        Err(format!("node-{index} has not ended {limit:?} after it was told to"))
    }

    pub fn pause(&self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::STOP)
    }

    pub fn resume(&self, index: usize) -> Result<(), String> {
        self.signal(index, Signal::CONT)
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<(), String> {
        let child = self.nodes[index].child.as_ref().ok_or("a dead node gets no signal")?;
        let pid = Pid::from_raw(child.id() as i32).ok_or("a process id is not zero")?;
        kill_process(pid, signal).map_err(|error| error.to_string())
    }

    pub async fn all_ready(&mut self) -> Result<(), String> {
        for index in 0..self.size() {
            self.ready(index).await?;
        }
        Ok(())
    }

    pub async fn ready(&mut self, index: usize) -> Result<(), String> {
        let started = Instant::now();
        let url = format!("http://127.0.0.1:{}/readyz", self.http_port(index));
        loop {
            self.still_runs(index)?;
            if self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if started.elapsed() > READY {
                return Err(format!("node-{index} is not ready within {READY:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that a node that is not running had on its disk is gone.
    pub fn wipe(&self, index: usize) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.nodes[index].data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// A node that ended unasked is a finding of its own.
    pub fn still_runs(&mut self, index: usize) -> Result<(), String> {
        let child = self.nodes[index].child.as_mut().ok_or_else(|| format!("node-{index} was left dead"))?;
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => Err(format!("node-{index} ended unasked: {status}")),
            None => Ok(()),
        }
    }

    /// What a GET of `/api/v1/{path}` on one node answers.
    pub async fn get(&self, index: usize, path: &str) -> Result<Value, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.http_port(index));
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())
    }

    /// Who leads the roster, as the first node knows it.
    pub async fn leader(&self) -> Result<Option<usize>, String> {
        let view = self.get(0, "cluster").await?;
        let groups = view["groups"].as_array().ok_or_else(|| format!("no groups in {view}"))?;
        let roster = groups.iter().find(|group| group["group"] == "roster");
        let name = roster.and_then(|group| group["leader"].as_str()).and_then(|name| name.strip_prefix("node-"));
        Ok(name.and_then(|number| number.parse().ok()))
    }

    /// A PUT of `/api/v1/{path}` on one node.
    pub async fn put(&self, index: usize, path: &str, body: &Value) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.http_port(index));
        let answer = self.http.put(url).json(body).send().await.and_then(reqwest::Response::error_for_status);
        answer.map(drop).map_err(|error| error.to_string())
    }

    /// A DELETE of `/api/v1/{path}` on one node.
    pub async fn delete(&self, index: usize, path: &str) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.http_port(index));
        let answer = self.http.delete(url).send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_default()) }
    }

    fn http_port(&self, index: usize) -> u16 {
        self.first_port + (HTTP * self.nodes.len() + index) as u16
    }

    pub fn print_logs(&self) {
        for node in &self.nodes {
            let text = std::fs::read(&node.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of {} ---", node.log.display());
            eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // One that has ended already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn node(folder: &Path, first_port: u16, index: usize, setup: &Setup<'_>) -> Node {
    let port = |group, index| format!("127.0.0.1:{}", first_port as usize + group * setup.places() + index);
    let reached = if setup.net { FRONT } else { RPC };
    // The guest names itself beside those that are there; they do not know of it.
    let peers: Vec<String> = (0..setup.size.max(index + 1)).map(|peer| port(reached, peer)).collect();
    let data_dir = folder.join(format!("node-{index}"));
    let (power, trouble, env) = match setup.disks {
        Disks::Kept => (None, None, Vec::new()),
        Disks::LosePower | Disks::NeverSync => {
            let power = PowerCut::over(&data_dir);
            let env = if setup.disks == Disks::NeverSync { power.env_ignoring_syncs() } else { power.env() };
            (Some(power), None, env)
        }
        Disks::MayFail => {
            let trouble = Trouble::over(&data_dir);
            let env = trouble.env();
            (None, Some(trouble), env)
        }
    };
    let clock = setup.clocks.then(|| Clock::beside(&data_dir));
    let env = together(env, clock.as_ref().map(Clock::env).unwrap_or_default());
    let own = [
        format!("node.name=node-{index}"),
        format!("node.data_dir={}", data_dir.display()),
        format!("listeners.tcp.bind={}", port(MQTT, index)),
        format!("http.bind={}", port(HTTP, index)),
        format!("cluster.rpc_bind={}", port(RPC, index)),
        format!("cluster.rpc_advertise={}", peers[index]),
        format!("cluster.peers={}", peers.join(",")),
    ];
    let log = folder.join(format!("node-{index}.log"));
    let all = own.iter().chain(setup.settings);
    let settings = all.flat_map(|setting| ["--set".to_owned(), setting.clone()]).collect();
    Node { settings, data_dir, env, power, trouble, clock, log, child: None }
}

/// Both preload a library of their own.
fn together(mut env: Vec<(String, String)>, other: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in other {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = format!("{known}:{value}"),
            None => env.push((name, value)),
        }
    }
    env
}

fn free_ports(size: usize) -> Result<u16, String> {
    let count = (FRONT + 1) as u16 * size as u16;
    let free = |first: &u16| (*first..*first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let blocks: Vec<u16> = PORTS.step_by(count as usize).filter(|first| first + count <= PORTS.end).collect();
    // Where the search begins differs from process to process, so that two runs at once seldom meet.
    let start = std::process::id() as usize % blocks.len().max(1);
    blocks.iter().cycle().skip(start).take(blocks.len()).copied().find(free).ok_or_else(|| "no free ports".to_owned())
}
