//! A broker under measurement: its addresses and its processes.

use std::net::SocketAddr;
use std::time::Duration;

use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::external::{Running, command};
use rollcall_tests::patience::until;
use rollcall_tests::ports;
use tempfile::TempDir;

/// Units in which `/proc/PID/stat` counts CPU time: Linux tells user programs hundredths of a second everywhere.
const TICK: Duration = Duration::from_millis(10);

pub struct Broker {
    pub name: String,
    /// One for each node.
    pub addresses: Vec<SocketAddr>,
    pids: Vec<u32>,
    _kept: Kept,
}

/// What must live as long as the broker runs.
enum Kept {
    Cluster { _cluster: TestCluster },
    Mosquitto { _process: Box<Running>, _folder: TempDir },
}

impl Broker {
    pub async fn rollcall(nodes: u16) -> Self {
        let cluster = TestCluster::start(nodes).await;
        Self {
            name: if nodes == 1 { "rollcall, 1 node".into() } else { format!("rollcall, {nodes} nodes") },
            addresses: cluster.nodes.iter().map(|node| node.mqtt()).collect(),
            pids: cluster.nodes.iter().map(|node| node.pid()).collect(),
            _kept: Kept::Cluster { _cluster: cluster },
        }
    }

    pub async fn mosquitto() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = ports::consecutive(1);
        let file = folder.path().join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type error\n");
        std::fs::write(&file, text).expect("its configuration is written");
        let process = Running::start(command("mosquitto", &["-c", &file.display().to_string()]));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        until("mosquitto accepts", Duration::from_secs(10), || async move {
            RawClient::try_connect(address, &Options::v311("probe")).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        let pid = process.child.id().expect("it runs");
        let kept = Kept::Mosquitto { _process: Box::new(process), _folder: folder };
        Self { name: "mosquitto".into(), addresses: vec![address], pids: vec![pid], _kept: kept }
    }

    /// CPU time of all its processes so far, user and kernel.
    pub fn cpu(&self) -> Duration {
        self.pids.iter().map(|&pid| cpu_of(pid)).sum()
    }
}

fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the broker runs");
    // The program's name, in parentheses, may hold blanks: count the fields behind it.
    let (_, fields) = stat.rsplit_once(')').expect("a stat line");
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().unwrap_or(0)).sum();
    TICK * ticks
}
