//! One simulated node: its disk, its port, its cluster, and the door by which clients come in.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_storage::{Pen, RaftLog, RaftLogOptions};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender, unbounded_channel};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use turmoil::net::TcpListener;

use super::broker::{Broker, Connections, Hello};
use super::chance;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::disk::{self, Disk};
use crate::raft::wiring::Wire;
use crate::testing;

const PORT: u16 = 7400;
/// Connections of other nodes that may wait.
const BACKLOG: usize = 16;
/// How long a disk takes to make durable what waits.
const SYNC: std::ops::Range<u64> = 100..4_000;

/// What a process would be to its clients: gone when it has crashed.
struct Door {
    hellos: UnboundedSender<Hello>,
    broker: Arc<Broker>,
    /// Asks it to drain, as SIGTERM does.
    leave: Arc<Notify>,
}

/// The nodes that run, by their number.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<Mutex<Vec<Option<Door>>>>);

impl Doors {
    pub(super) fn of(count: usize) -> Self {
        Doors(Arc::new(Mutex::new((0..count).map(|_| None).collect())))
    }

    fn open(&self, node: usize, door: Door) {
        self.0.lock()[node] = Some(door);
    }

    /// Nothing of the node may outlive it.
    pub(super) fn close(&self, node: usize) {
        if let Some(door) = self.0.lock()[node].take() {
            door.broker.forget();
        }
    }

    /// Whether the node is there at all.
    pub(super) fn enter(&self, node: usize, hello: Hello) -> bool {
        self.0.lock()[node].as_ref().is_some_and(|door| door.hellos.send(hello).is_ok())
    }

    pub(super) fn ask_to_leave(&self, node: usize) {
        if let Some(door) = &self.0.lock()[node] {
            door.leave.notify_one();
        }
    }

    /// It has crashed, or left.
    pub(super) fn is_gone(&self, node: usize) -> bool {
        self.0.lock()[node].is_none()
    }

    pub(super) fn broker(&self, node: usize) -> Option<Arc<Broker>> {
        self.0.lock()[node].as_ref().map(|door| door.broker.clone())
    }

    /// In words.
    pub(super) fn condition(&self, node: usize) -> String {
        let Some(broker) = self.broker(node) else { return "gone".into() };
        let cluster = broker.cluster();
        let groups = cluster.groups();
        let led: Vec<_> = groups.iter().map(|group| (group.leader, group.term, group.applied_index)).collect();
        let applied = *cluster.replica().applied().borrow();
        format!("{:?}, applied {applied}, leaders, terms and positions {led:?}", cluster.readiness())
    }

    pub(super) fn is_ready(&self, node: usize) -> bool {
        self.0.lock()[node].as_ref().is_some_and(|door| door.broker.cluster().readiness().is_ok())
    }
}

pub(super) fn name(node: usize) -> String {
    format!("node-{node}")
}

/// Everything shorter than by default by about the same, so that little happens in vain between two leases.
pub(super) fn config(node: usize, nodes: usize, root: &std::path::Path) -> Config {
    let address = |node: usize| format!("{}:{PORT}", name(node));
    Config {
        cluster_name: "simulated".into(),
        node_name: name(node),
        data_dir: root.join(name(node)),
        peers: (0..nodes).map(address).collect(),
        rpc_advertise: address(node),
        mqtt_address: address(node),
        heartbeat: Duration::from_millis(60),
        election: Duration::from_millis(200),
        lease: Duration::from_millis(2_000),
        node_timeout: Duration::from_millis(2_800),
        claim_timeout: Duration::from_millis(1_500),
        rpc_timeout: Duration::from_millis(500),
        shards: 1,
        link_window: 64,
        // Small, so that nodes that were away are brought up to date by snapshots.
        snapshot_after: 8 << 10,
        reap_batch: 2,
        event_retention: 1_000_000,
        inbox_memory: 1 << 30,
        inbox_limits: rollcall_proto::schema::shard::InboxLimits {
            max_messages: 1_000_000,
            max_bytes: 1 << 30,
            ..Default::default()
        },
        ..testing::config(Duration::from_millis(700))
    }
}

pub(super) struct Site {
    pub node: usize,
    pub config: Config,
    pub doors: Doors,
    /// The disk, a directory in memory.
    pub root: PathBuf,
}

impl Site {
    /// From the start of the process until it is killed.
    pub(super) async fn run(self) -> turmoil::Result {
        std::fs::create_dir_all(&self.root)?;
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let data_dir = disk::data_dir(&self.config)?;
        let options = RaftLogOptions { segment_size: 256 << 10, ..RaftLogOptions::default() };
        let (log, pen) = RaftLog::open_by_hand(&data_dir.raft_log(), options)?;
        tokio::spawn(keep_writing(pen));
        let disk = Disk::beside(&self.config, data_dir, log)?;
        let connections = Connections::new();
        let cluster = Cluster::start_on(self.config, disk, None, accept(listener), connections.clone()).await?;
        let broker = Broker::new(cluster, connections);
        let (hellos, mut coming) = unbounded_channel::<Hello>();
        let leave = Arc::new(Notify::new());
        self.doors.open(self.node, Door { hellos, broker: broker.clone(), leave: leave.clone() });
        let leaving = leave.notified();
        tokio::pin!(leaving);
        loop {
            tokio::select! {
                biased;
                () = &mut leaving => break,
                Some(hello) = coming.recv() => drop(tokio::spawn(broker.clone().serve(hello))),
            }
        }
        drop(coming);
        if let Err(error) = broker.drain().await {
            tracing::debug!(%error, "a drain that nobody has confirmed");
        }
        broker.cluster().shutdown().await;
        self.doors.close(self.node);
        std::future::pending().await
    }
}

fn accept(listener: TcpListener) -> ReceiverStream<io::Result<Wire>> {
    let (accepted, wires) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if accepted.send(super::wire(stream)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(wires)
}

async fn keep_writing(mut pen: Pen) {
    loop {
        let takes = SYNC.start + chance::draw() % (SYNC.end - SYNC.start);
        sleep(Duration::from_micros(takes)).await;
        pen.write();
    }
}
