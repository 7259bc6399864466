//! What is published on any node after a SUBACK was sent reaches that subscriber (P3), with every node running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::latency::Latencies;
use tokio::task::{JoinHandle, JoinSet};

const ROUNDS: usize = 2_000;
/// The round's p99 with the cluster idle, with room for a machine that does other things besides.
const IDLE_P99: Duration = Duration::from_millis(250);
/// Rounds that run at the same time in the test under load.
const AT_ONCE: usize = 8;

/// A subscriber and a publisher on two different nodes.
struct Pair {
    subscriber: RawClient,
    publisher: RawClient,
    name: String,
}

impl Pair {
    async fn connect(cluster: &TestCluster, name: String, subscriber_on: usize, publisher_on: usize) -> Self {
        let (here, there) = (cluster.nodes[subscriber_on].mqtt(), cluster.nodes[publisher_on].mqtt());
        let subscriber = RawClient::connect(here, &Options::v5(format!("{name}-sub"))).await;
        let publisher = RawClient::connect(there, &Options::v311(format!("{name}-pub"))).await;
        Self { subscriber, publisher, name }
    }

    /// Subscribes, publishes at the SUBACK, receives, unsubscribes; from the SUBSCRIBE to the message.
    async fn round(&mut self, round: usize) -> Duration {
        let topic = format!("barrier/{}/{round}", self.name);
        let started = Instant::now();
        assert_eq!(self.subscriber.subscribe(&topic, QoS::AtMostOnce).await, ReasonCode::Success);
        self.publisher.publish(&topic, topic.as_bytes(), QoS::AtMostOnce).await;
        let message = self.subscriber.message(SOON).await;
        let took = started.elapsed();
        assert_eq!(message.topic, topic);
        self.subscriber.unsubscribe(&topic).await;
        took
    }
}

/// All ordered pairs of three nodes.
const PAIRS: [(usize, usize); 6] = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_published_elsewhere_at_the_suback_arrives_2000_times_of_2000_when_idle() {
    let cluster = TestCluster::start(3).await;
    let mut pairs = Vec::new();
    for (subscriber, publisher) in PAIRS {
        pairs.push(Pair::connect(&cluster, format!("{subscriber}{publisher}"), subscriber, publisher).await);
    }
    let mut rounds = Latencies::default();
    for round in 0..ROUNDS {
        let pair = &mut pairs[round % PAIRS.len()];
        rounds.add(pair.round(round).await);
    }
    println!("SUBSCRIBE to message over two nodes, idle: {rounds}");
    assert!(rounds.quantile(0.99) <= IDLE_P99, "p99 of the round: {rounds}");
}

/// Keeps connecting, subscribing and publishing on one node until told to stop; how often it went round.
fn load(cluster: &TestCluster, node: usize, worker: usize, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    let address = cluster.nodes[node].mqtt();
    tokio::spawn(async move {
        let mut turns = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut client = RawClient::connect(address, &Options::v5(format!("load-{node}-{worker}"))).await;
            client.subscribe("load/#", QoS::AtMostOnce).await;
            for _ in 0..20 {
                client.publish(&format!("load/{worker}"), &[0; 64], QoS::AtLeastOnce).await;
            }
            client.disconnect().await;
            turns += 1;
        }
        turns
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_published_elsewhere_at_the_suback_arrives_2000_times_of_2000_under_load() {
    let cluster = TestCluster::start(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..6).map(|worker| load(&cluster, worker % 3, worker, Arc::clone(&stop))).collect();
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (subscriber, publisher) = PAIRS[worker % PAIRS.len()];
        let mut pair = Pair::connect(&cluster, format!("w{worker}"), subscriber, publisher).await;
        tasks.spawn(async move {
            let mut rounds = Latencies::default();
            for round in 0..ROUNDS / AT_ONCE {
                rounds.add(pair.round(round).await);
            }
            rounds
        });
    }
    let mut rounds = Latencies::default();
    tasks.join_all().await.into_iter().for_each(|some| rounds.merge(some));
    stop.store(true, Ordering::Relaxed);
    let mut turns = 0;
    for load in loads {
        turns += load.await.expect("the load ran without a fault");
    }
    println!("SUBSCRIBE to message over two nodes, under load ({turns} turns of 20 QoS 1 publishes): {rounds}");
    assert_eq!(rounds.len(), ROUNDS);
    assert!(turns > 0, "there was no load");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_published_elsewhere_after_the_unsuback_arrives() {
    let cluster = TestCluster::start(3).await;
    for (subscriber, publisher) in PAIRS {
        let mut pair = Pair::connect(&cluster, format!("un{subscriber}{publisher}"), subscriber, publisher).await;
        for round in 0..50 {
            let topic = format!("gone/{round}");
            pair.subscriber.subscribe(&topic, QoS::AtMostOnce).await;
            pair.subscriber.unsubscribe(&topic).await;
            pair.publisher.publish(&topic, b"too late", QoS::AtMostOnce).await;
        }
        // What follows on the same two connections arrives behind whatever should not have come.
        pair.subscriber.subscribe("gone/end", QoS::AtMostOnce).await;
        pair.publisher.publish("gone/end", b"end", QoS::AtMostOnce).await;
        let first = pair.subscriber.message(SOON).await;
        assert_eq!(first.topic, "gone/end", "the first message after 50 UNSUBACKs");
    }
}
