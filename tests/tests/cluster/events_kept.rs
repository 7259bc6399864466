//! A persistent subscriber to lifecycle events is away, and misses none (P5).

use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::number;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_subscriber_to_events_is_told_every_one_that_happened_while_it_was_away_and_a_leader_died() {
    const CLIENTS: usize = 40;
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let here = cluster.others(leader)[0];
    let watcher = Options::v5("watcher").persistent();
    let mut client = RawClient::connect(cluster.nodes[here].mqtt(), &watcher).await;
    client.subscribe("$events/#", QoS::AtLeastOnce).await;
    let first: Value = serde_json::from_slice(&client.message(SOON).await.payload).expect("JSON");
    client.disconnect().await;
    for index in 0..CLIENTS {
        let node = cluster.nodes[index % 3].mqtt();
        RawClient::connect(node, &Options::v5(format!("passer-by-{index}"))).await.disconnect().await;
    }
    cluster.nodes[leader].kill();
    for index in 0..CLIENTS {
        let node = cluster.nodes[cluster.others(leader)[index % 2]].mqtt();
        RawClient::connect(node, &Options::v5(format!("later-{index}"))).await.disconnect().await;
    }
    cluster.nodes[leader].spawn();
    cluster.all_ready().await;

    let (mut client, ack) = RawClient::try_connect(cluster.nodes[leader].mqtt(), &watcher).await.expect("a CONNACK");
    assert!(ack.session_present);
    let last = cluster.nodes[here].api().last_seq().await.expect("a seq");
    let mut seq = number(&first, "seq");
    while seq < last {
        let message = client.message(SOON).await;
        let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
        assert_eq!((number(&event, "seq"), message.qos), (seq + 1, QoS::AtLeastOnce));
        seq += 1;
    }
    client.disconnect().await;
    // What was acknowledged does not come again: the next one is that of the disconnect.
    let (mut client, _) = RawClient::try_connect(cluster.nodes[here].mqtt(), &watcher).await.expect("a CONNACK");
    let event: Value = serde_json::from_slice(&client.message(SOON).await.payload).expect("JSON");
    assert!(number(&event, "seq") > seq, "{event} came before {seq}");
}
