//! A rolling restart loses nothing that was acknowledged (P9), whether its client was there or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;

const TOPIC: &str = "while/we/restart";
/// Longer than a drain may take on a busy machine.
const DRAINED: Duration = Duration::from_secs(30);

/// Publishes number after number, each until some node has acknowledged it; how many those were.
async fn publish_on_any(nodes: Vec<SocketAddr>, over: Arc<AtomicBool>) -> u32 {
    let mut number: u32 = 0;
    for node in nodes.iter().cycle() {
        // A node that is stopping or not there yet is no reason to give up.
        let Ok((mut client, ack)) = RawClient::try_connect(*node, &Options::v5("publisher").persistent()).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if ack.reason != ReasonCode::Success {
            continue;
        }
        while !over.load(Ordering::Relaxed) && client.try_publish(TOPIC, &number.to_be_bytes()).await {
            number += 1;
        }
        if over.load(Ordering::Relaxed) {
            return number;
        }
    }
    unreachable!("a cycle has no end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_away_through_a_rolling_restart_gets_everything_on_another_node() {
    let mut cluster = TestCluster::start_with(3, &["inbox.max_messages=1000000", "inbox.max_bytes=1GiB"]).await;
    let away = Options::v5("away").persistent();
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &away).await;
    client.subscribe(TOPIC, QoS::AtLeastOnce).await;
    client.disconnect().await;
    let over = Arc::new(AtomicBool::new(false));
    let nodes = cluster.nodes.iter().map(|node| node.mqtt()).collect();
    let publishing = tokio::spawn(publish_on_any(nodes, over.clone()));
    for node in 0..3 {
        let mut there = RawClient::connect(cluster.nodes[node].mqtt(), &Options::v5(format!("there-{node}"))).await;
        cluster.nodes[node].terminate();
        let told = there.closed(DRAINED).await.expect("a DISCONNECT");
        assert!([ReasonCode::UseAnotherServer, ReasonCode::ServerShuttingDown].contains(&told.reason), "{told:?}");
        assert!(cluster.nodes[node].ended(DRAINED).await.success(), "node-{node} drains cleanly");
        cluster.nodes[node].spawn();
        cluster.all_ready().await;
    }
    over.store(true, Ordering::Relaxed);
    let acknowledged = publishing.await.expect("the publisher ends");
    assert!(acknowledged > 50, "only {acknowledged} messages say little");
    let (mut client, ack) = RawClient::try_connect(cluster.nodes[2].mqtt(), &away).await.expect("a CONNACK");
    assert!(ack.session_present);
    let mut expected = 0;
    while expected < acknowledged {
        let number = u32::from_be_bytes(client.message(SOON).await.payload[..].try_into().expect("a number"));
        // What was published again because its PUBACK was lost comes twice.
        assert!(number <= expected, "{expected} is missing: {number} came");
        expected = expected.max(number + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_the_lease_of_a_node_that_has_stopped() {
    const LEASE: Duration = Duration::from_secs(8);
    let leases = ["cluster.route_lease=8s", "cluster.lease=10s", "cluster.node_timeout=20s"];
    let mut cluster = TestCluster::start_with(3, &leases).await;
    for node in 1..3 {
        cluster.nodes[node].terminate();
        assert!(cluster.nodes[node].ended(DRAINED).await.success(), "node-{node} drains cleanly");
        let stopped = Instant::now();
        let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("client")).await;
        client.subscribe(&format!("after/{node}"), QoS::AtLeastOnce).await;
        assert!(stopped.elapsed() < LEASE / 2, "the SUBACK came after {:?}", stopped.elapsed());
        cluster.nodes[node].spawn();
        cluster.all_ready().await;
    }
}
