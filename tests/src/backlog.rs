//! Many sessions that are away, much that waits for them: whether it fits, whether all of it comes, in order, and whether
//! the disk is given back.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_proto::packet::{Packet, QoS};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::{Options, RawClient, Received};
use crate::cluster::TestCluster;
use crate::footprint::{disk, peak_memory};
use crate::patience::until;

/// Messages of one publisher on their way at once.
const WINDOW: u32 = 200;
const PUBLISHERS: usize = 8;
/// Sessions that come back at one moment.
const AT_ONCE: usize = 32;
/// How long a message or an acknowledgement may take while the nodes work as fast as they can.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the log may take to be freed when nothing waits any more.
const FREED: Duration = Duration::from_secs(120);

/// What waits for whom.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    pub nodes: u16,
    pub sessions: u32,
    /// For each session.
    pub messages: u32,
    /// Bytes of one message.
    pub payload: usize,
    /// Bytes of messages that a node keeps in memory.
    pub inbox_memory: u64,
}

/// What it took. Of the node that needed the most.
#[derive(Debug)]
pub struct Report {
    pub backlog: Backlog,
    pub queued_in: Duration,
    pub drained_in: Duration,
    /// Bytes, at any time.
    pub memory: u64,
    pub disk_before: u64,
    pub disk_full: u64,
    pub disk_after: u64,
}

impl Backlog {
    /// Panics where a message is lost, comes twice or out of order, or where the disk does not come back to twice what it
    /// was.
    pub async fn run(self, tell: fn(&str)) -> Report {
        let settings = [
            format!("inbox.memory={}B", self.inbox_memory),
            format!("inbox.max_messages={}", self.messages),
            "inbox.max_bytes=1GiB".to_owned(),
        ];
        let cluster = TestCluster::start_with(self.nodes, &settings.each_ref().map(String::as_str)).await;
        self.leave_sessions(&cluster).await;
        let disk_before = most_disk(&cluster);
        tell(&format!("{} sessions are away; {} of disk", self.sessions, mib(disk_before)));
        let started = Instant::now();
        self.queue(&cluster).await;
        let (queued_in, disk_full) = (started.elapsed(), most_disk(&cluster));
        let total = u64::from(self.sessions) * u64::from(self.messages);
        tell(&format!("{total} messages wait after {queued_in:.1?}; {} of disk", mib(disk_full)));
        let started = Instant::now();
        self.drain(&cluster).await;
        let drained_in = started.elapsed();
        tell(&format!("all of them came in {drained_in:.1?}"));
        let memory = cluster.nodes.iter().map(|node| peak_memory(node.pid())).max().unwrap_or_default();
        let disk_after = until("the disk is given back", FREED, || {
            let now = most_disk(&cluster);
            let given_back = now <= 2 * disk_before;
            async move { if given_back { Ok(now) } else { Err(mib(now)) } }
        })
        .await;
        Report { backlog: self, queued_in, drained_in, memory, disk_before, disk_full, disk_after }
    }

    async fn leave_sessions(self, cluster: &TestCluster) {
        for_all(self.sessions, cluster, move |session, node| async move {
            let mut client = RawClient::connect(node, &absent(session)).await;
            client.subscribe(&topic(session), QoS::AtLeastOnce).await;
            client.disconnect().await;
        })
        .await;
    }

    async fn queue(self, cluster: &TestCluster) {
        let mut publishing = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let node = cluster.nodes[publisher % cluster.nodes.len()].mqtt();
            let options = Options::v5(format!("publisher-{publisher}"));
            let sessions = (publisher as u32..self.sessions).step_by(PUBLISHERS);
            publishing.spawn(async move {
                let mut client = RawClient::connect(node, &options).await;
                let mut open = 0;
                for number in 0..self.messages {
                    for session in sessions.clone() {
                        client.publish_without_waiting(&topic(session), &self.body(number)).await;
                        open += 1;
                        while open >= WINDOW {
                            acknowledged(&mut client).await;
                            open -= 1;
                        }
                    }
                }
                for _ in 0..open {
                    acknowledged(&mut client).await;
                }
            });
        }
        publishing.join_all().await;
    }

    async fn drain(self, cluster: &TestCluster) {
        for_all(self.sessions, cluster, move |session, node| async move {
            let (mut client, ack) = RawClient::try_connect(node, &absent(session)).await.expect("a CONNACK");
            assert!(ack.session_present, "{session}");
            for number in 0..self.messages {
                let message = client.message(PATIENCE).await;
                assert_eq!(&message.payload[..4], number.to_be_bytes(), "session {session}");
                assert_eq!(message.payload.len(), self.payload.max(4));
            }
            client.disconnect().await;
        })
        .await;
    }

    fn body(self, number: u32) -> Vec<u8> {
        let mut body = vec![number as u8; self.payload.max(4)];
        body[..4].copy_from_slice(&number.to_be_bytes());
        body
    }
}

/// Does the same for each session, some at a time; they come to a node other than the one before.
async fn for_all<F>(sessions: u32, cluster: &TestCluster, act: impl Fn(u32, std::net::SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for session in 0..sessions {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore stays open");
        let acting = act(session, cluster.nodes[session as usize % cluster.nodes.len()].mqtt());
        tasks.spawn(async move {
            acting.await;
            drop(permit);
        });
    }
    tasks.join_all().await;
}

fn absent(session: u32) -> Options {
    Options::v5(format!("absent-{session}")).persistent()
}

fn topic(session: u32) -> String {
    format!("backlog/of/{session}")
}

async fn acknowledged(client: &mut RawClient) {
    match client.receive(PATIENCE).await {
        Received::Packet(Packet::PubAck(_)) => {}
        other => panic!("{other:?} came instead of a PUBACK"),
    }
}

fn most_disk(cluster: &TestCluster) -> u64 {
    cluster.nodes.iter().map(|node| disk(&node.spec.data_dir)).max().unwrap_or_default()
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Backlog { nodes, sessions, messages, payload, inbox_memory } = self.backlog;
        let total = f64::from(sessions) * f64::from(messages);
        writeln!(out, "{total} messages of {payload} B for {sessions} absent sessions, {nodes} nodes")?;
        writeln!(out, "queued   {:>10.1?}  {:>8.0}/s", self.queued_in, total / self.queued_in.as_secs_f64())?;
        writeln!(out, "drained  {:>10.1?}  {:>8.0}/s", self.drained_in, total / self.drained_in.as_secs_f64())?;
        writeln!(out, "memory   {:>10}  at most, inbox.memory {}", mib(self.memory), mib(inbox_memory))?;
        let (before, full, after) = (mib(self.disk_before), mib(self.disk_full), mib(self.disk_after));
        writeln!(out, "disk     {before:>10}  before, {full} full, {after} after")
    }
}
