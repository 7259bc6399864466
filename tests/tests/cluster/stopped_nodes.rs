//! The SUBACK barrier (P3) while a node stands still: it waits no longer than it must, and what clients had sent to the
//! stopped node by then reaches the subscriber once the node goes on.

use std::time::{Duration, Instant};

use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::latency::Latencies;
use tokio::task::JoinSet;

const SUBSCRIBERS: usize = 40;

/// Stops `victim` and subscribes elsewhere; at each SUBACK a message is written to a connection of the stopped node.
/// The stop ends as soon as the last SUBACK is there, well before the node would have to fence itself. Answers with how
/// long the SUBACKs took.
async fn subscribe_while_stopped(cluster: &mut TestCluster, victim: usize, limit: Duration, round: usize) -> Latencies {
    let others = cluster.others(victim);
    let mut pairs = Vec::new();
    for index in 0..SUBSCRIBERS {
        let here = cluster.nodes[others[index % 2]].mqtt();
        let subscriber = RawClient::connect(here, &Options::v5(format!("still-{round}-{index}"))).await;
        let there = cluster.nodes[victim].mqtt();
        let publisher = RawClient::connect(there, &Options::v311(format!("stopped-{round}-{index}"))).await;
        pairs.push((subscriber, publisher));
    }
    cluster.nodes[victim].pause();
    let mut tasks = JoinSet::new();
    for (index, (mut subscriber, mut publisher)) in pairs.into_iter().enumerate() {
        tasks.spawn(async move {
            let topic = format!("stopped/{round}/{index}");
            let started = Instant::now();
            subscriber.subscribe_within(&topic, QoS::AtMostOnce, limit).await;
            let took = started.elapsed();
            publisher.publish(&topic, b"held by the kernel", QoS::AtMostOnce).await;
            (took, topic, subscriber, publisher)
        });
    }
    let subscribed = tasks.join_all().await;
    cluster.nodes[victim].resume();
    let mut latencies = Latencies::default();
    for (took, topic, mut subscriber, _publisher) in subscribed {
        latencies.add(took);
        let message = subscriber.message(Duration::from_secs(10)).await;
        assert_eq!(message.topic, topic);
    }
    latencies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_follower_stopped_each_suback_comes_within_3_s_and_nothing_is_missed_after_it() {
    let mut cluster = TestCluster::start(3).await;
    for round in 0..3 {
        let victim = cluster.follower().await;
        let subacks = subscribe_while_stopped(&mut cluster, victim, Duration::from_secs(3), round).await;
        println!("SUBACK with a follower stopped: {subacks}");
        cluster.all_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_leader_stopped_each_suback_comes_within_5_s_and_nothing_is_missed_after_it() {
    let mut cluster = TestCluster::start(3).await;
    for round in 0..3 {
        let victim = cluster.leader().await;
        let subacks = subscribe_while_stopped(&mut cluster, victim, Duration::from_secs(5), round).await;
        println!("SUBACK with the leader stopped: {subacks}");
        cluster.all_ready().await;
    }
}
