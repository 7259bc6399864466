//! Shards over several nodes in one process, with real disks and ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::shard::{Enqueue, Retain, command as shard_command, outcome as shard_outcome};
use tokio::time::{Instant, sleep};

use super::*;
use crate::message::to_body;
use crate::shard::ShardAnswer;

const SHARDS: u32 = 4;

/// Nodes that may not all run.
struct Nodes {
    dir: TempDir,
    peers: Vec<String>,
    replicas: u32,
    running: Vec<Cluster>,
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn address(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn node_config(dir: &Path, at: usize, address: &str, peers: Vec<String>, replicas: u32) -> Config {
    Config {
        node_name: format!("node-{at}"),
        data_dir: dir.join(format!("node-{at}")),
        peers,
        rpc_bind: address.parse().unwrap(),
        rpc_advertise: address.into(),
        shards: SHARDS,
        replicas,
        ..config(Duration::from_secs(2))
    }
}

impl Nodes {
    async fn start(count: usize, replicas: u32) -> Nodes {
        let dir = TempDir::new().unwrap();
        let peers: Vec<String> = (0..count).map(|_| address(free_port())).collect();
        let mut nodes = Nodes { dir, peers: peers.clone(), replicas, running: Vec::new() };
        for (at, address) in peers.iter().enumerate() {
            let config = node_config(nodes.dir.path(), at, address, peers.clone(), replicas);
            nodes.running.push(Cluster::start(config, Arc::new(Nobody)).await.unwrap());
        }
        nodes.ready().await;
        nodes
    }

    /// A node that comes later, knowing only of one that is there.
    async fn add(&mut self) {
        let own = address(free_port());
        let peers = vec![self.peers[1].clone(), own.clone()];
        let config = node_config(self.dir.path(), self.running.len(), &own, peers, self.replicas);
        self.running.push(Cluster::start(config, Arc::new(Nobody)).await.unwrap());
        self.ready().await;
    }

    async fn ready(&self) {
        until("all nodes are ready", || self.running.iter().all(|node| node.readiness().is_ok())).await;
        until("all shards are formed", || {
            let roster = self.running[0].roster();
            roster.placements().len() == SHARDS as usize && roster.placements().iter().all(|shard| shard.formed)
        })
        .await;
    }

    fn holders(&self, shard: u32) -> usize {
        self.running.iter().filter(|node| node.shards().replica(shard).is_some()).count()
    }

    fn held(&self, node: usize) -> usize {
        (1..=SHARDS).filter(|shard| self.running[node].shards().replica(*shard).is_some()).count()
    }

    /// By their applied states; all replicas must agree at last.
    async fn agree(&self) {
        let hash = |node: &Cluster, shard: u32| {
            let mut bytes = Vec::new();
            node.outline(shard, &mut bytes).map(|written| written.map(|_| bytes).unwrap())
        };
        until("all replicas agree", || {
            (1..=SHARDS).all(|shard| {
                let mut states: Vec<_> = self.running.iter().filter_map(|node| hash(node, shard)).collect();
                states.dedup();
                states.len() == 1
            })
        })
        .await;
    }

    async fn stop(self) {
        for node in &self.running {
            node.shutdown().await;
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE * 2, "{what}: not within the time");
        sleep(Duration::from_millis(20)).await;
    }
}

fn message(topic: &str) -> Message {
    Message {
        topic: topic.into(),
        payload: "x".into(),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: None,
        publisher: "".into(),
        expires_at: None,
    }
}

fn retain(topic: &str) -> shard_command::Kind {
    shard_command::Kind::Retain(Retain { message: to_body(&message(topic)), ..Retain::default() })
}

async fn proposed(node: &Cluster, shard: u32, topic: &str) -> ShardAnswer {
    timeout(PATIENCE, node.shards().submit(shard, retain(topic))).await.unwrap().unwrap()
}

fn count(answer: &ShardAnswer) -> u64 {
    match answer.outcome {
        shard_outcome::Kind::Done(done) => done.count,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_is_answered_by_every_shard_and_the_leaders_are_spread() {
    let nodes = Nodes::start(3, 3).await;
    for (at, node) in nodes.running.iter().enumerate() {
        for shard in 1..=SHARDS {
            let answer = proposed(node, shard, &format!("t/{at}/{shard}")).await;
            assert_eq!(count(&answer), 1);
            assert!(*node.shards().replica(shard).unwrap().applied().borrow() + 1 >= answer.index, "applied here");
            let confirmed = node.shards().confirm(shard).await.unwrap();
            assert!(confirmed >= answer.index, "{confirmed} covers {}", answer.index);
            let replica = node.shards().replica(shard).unwrap();
            timeout(PATIENCE, replica.wait_applied(confirmed)).await.unwrap();
        }
    }
    nodes.agree().await;
    until("each shard is led by its first member", || {
        let placements = nodes.running[0].roster().placements().to_vec();
        placements.iter().all(|placement| {
            let first = nodes.running.iter().find(|node| node.me() == placement.members[0]).unwrap();
            first.shards().leading(placement.shard)
        })
    })
    .await;
    let leads: Vec<usize> =
        nodes.running.iter().map(|node| (1..=SHARDS).filter(|shard| node.shards().leading(*shard)).count()).collect();
    assert!(leads.iter().all(|count| (1..=2).contains(count)), "{leads:?}");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_replica_is_answered_by_the_leader() {
    let nodes = Nodes::start(3, 1).await;
    for shard in 1..=SHARDS {
        assert_eq!(nodes.holders(shard), 1);
        for node in &nodes.running {
            let answer = proposed(node, shard, "t").await;
            assert!(node.shards().confirm(shard).await.unwrap() >= answer.index);
        }
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_shard_is_answered_in_order_by_few_entries() {
    let nodes = Nodes::start(1, 1).await;
    let shards = nodes.running[0].shards();
    let asking = (0..500).map(|at| shards.submit(1, retain(&format!("t/{at}"))));
    let answers = timeout(PATIENCE, futures_util::future::join_all(asking)).await.unwrap();
    let indexes: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().index).collect();
    assert!(indexes.is_sorted());
    let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
    assert!(last - first < 100, "{} entries", last - first + 1);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_outlives_the_node_that_led_it() {
    let mut nodes = Nodes::start(3, 3).await;
    proposed(&nodes.running[0], 1, "before").await;
    let leader = nodes.running.iter().position(|node| node.shards().leading(1)).unwrap();
    let gone = nodes.running.remove(leader);
    gone.shutdown().await;
    for node in &nodes.running {
        for shard in 1..=SHARDS {
            proposed(node, shard, "after").await;
        }
    }
    nodes.agree().await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_node_joins_learns_and_takes_over_shards() {
    let mut nodes = Nodes::start(3, 3).await;
    for shard in 1..=SHARDS {
        proposed(&nodes.running[0], shard, "before").await;
    }
    nodes.add().await;
    let statuses = nodes.running[3].groups();
    assert_eq!((statuses[0].voters.len(), statuses[0].learners.len()), (3, 1), "a fourth does not vote");
    until("three replicas of four shards are on four nodes", || (0..4).all(|node| nodes.held(node) == 3)).await;
    for (node, shard) in nodes.running.iter().flat_map(|node| (1..=SHARDS).map(move |shard| (node, shard))) {
        assert_eq!(nodes.holders(shard), 3);
        proposed(node, shard, "after").await;
    }
    nodes.agree().await;
    for shard in 1..=SHARDS {
        let left = nodes.running.iter().find(|node| node.shards().replica(shard).is_none()).unwrap();
        let prefix = format!("{shard}-");
        let mut files = std::fs::read_dir(left.config().data_dir.join("snapshots")).unwrap();
        assert!(!files.any(|file| file.unwrap().file_name().to_string_lossy().starts_with(&prefix)));
    }
    nodes.add().await;
    until("five nodes vote", || nodes.running[0].groups()[0].voters.len() == 5).await;
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let start = || {
        let config = Config { data_dir: dir.path().into(), ..config(Duration::from_secs(2)) };
        Cluster::start(config, Arc::new(Nobody))
    };
    let cluster = started(&dir).await;
    until("the shard is formed", || cluster.roster().placements().first().is_some_and(|shard| shard.formed)).await;
    let enqueue = Enqueue { message: to_body(&message("t")), ..Enqueue::default() };
    let answer = cluster.shards().submit(1, shard_command::Kind::Enqueue(enqueue)).await.unwrap();
    assert_eq!(count(&answer), 0, "there is no inbox");
    proposed(&cluster, 1, "kept").await;
    let before = shard_bytes(&cluster);
    cluster.shutdown().await;
    drop(cluster);
    let again = timeout(PATIENCE, async {
        loop {
            match start().await {
                Ok(cluster) => return cluster,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let again = again.await.unwrap();
    until("the shard is led again", || again.shards().leading(1)).await;
    let index = again.shards().confirm(1).await.unwrap();
    timeout(PATIENCE, again.shards().replica(1).unwrap().wait_applied(index)).await.unwrap();
    assert_eq!(shard_bytes(&again), before);
    again.shutdown().await;
}

fn shard_bytes(cluster: &Cluster) -> Vec<u8> {
    let mut bytes = Vec::new();
    cluster.outline(1, &mut bytes).unwrap().unwrap();
    bytes
}
