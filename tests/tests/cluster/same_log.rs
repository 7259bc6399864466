//! Every node tells the same events, in one order, without a gap (P5).

use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{assert_alternating, assert_gap_free, assert_identical, short};
use tokio::task::JoinSet;

/// Each turn is connected, subscribed, unsubscribed, disconnected.
const TRANSITIONS_PER_TURN: usize = 4;
const WORKERS: usize = 60;
const TURNS: usize = 84;

async fn turns(cluster: &TestCluster) {
    let mut tasks = JoinSet::new();
    for worker in 0..WORKERS {
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.mqtt()).collect();
        tasks.spawn(async move {
            for turn in 0..TURNS {
                let node = addresses[(worker + turn) % addresses.len()];
                let mut client = RawClient::connect(node, &Options::v5(format!("log-{worker}-{turn}"))).await;
                client.subscribe("some/+/filter", QoS::AtLeastOnce).await;
                client.unsubscribe("some/+/filter").await;
                client.disconnect().await;
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_tell_20000_transitions_alike_and_each_alone() {
    let mut cluster = TestCluster::start(3).await;
    turns(&cluster).await;
    let events = cluster.agreed_events().await;
    assert_alternating(&events);
    let transitions = WORKERS * TURNS * TRANSITIONS_PER_TURN;
    assert!(transitions >= 20_000);
    assert_eq!(events.len(), transitions, "one event for each transition");
    for what in ["client.connected", "client.subscribed", "client.unsubscribed", "client.disconnected(normal)"] {
        assert_eq!(events.iter().filter(|event| short(event) == what).count(), WORKERS * TURNS, "{what}");
    }
    for alone in 0..3 {
        let others = cluster.others(alone);
        others.iter().for_each(|&other| cluster.nodes[other].pause());
        let told = cluster.nodes[alone].api().events_after(0).await;
        others.iter().for_each(|&other| cluster.nodes[other].resume());
        assert_gap_free(&told);
        assert_identical(&events, &told);
        cluster.all_ready().await;
    }
}
