//! Nothing acknowledged is lost when all nodes are killed at once (P8).

use rollcall_proto::packet::{QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{assert_alternating, of_client, short};

const SESSIONS: usize = 30;

fn persistent(index: usize) -> Options {
    let version = if index.is_multiple_of(2) { Version::V5 } else { Version::V311 };
    Options::new(version, format!("kept-{index}")).persistent()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_of_all_three_nodes_persistent_subscriptions_and_every_event_are_there() {
    let mut cluster = TestCluster::start(3).await;
    let mut clients = Vec::new();
    for index in 0..SESSIONS {
        let mut client = RawClient::connect(cluster.nodes[index % 3].mqtt(), &persistent(index)).await;
        let granted = client.subscribe(&format!("kept/{index}/+"), QoS::AtLeastOnce).await;
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        clients.push(client);
    }
    let fleeting = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("fleeting")).await;
    let told = cluster.agreed_events().await;

    cluster.kill_all();
    drop((clients, fleeting));
    cluster.nodes.iter_mut().for_each(|node| node.spawn());
    cluster.all_ready().await;

    let events = cluster.agreed_events().await;
    assert_eq!(&events[..told.len()], &told[..], "what was told stays told");
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    let mut resumed = Vec::new();
    for index in 0..SESSIONS {
        // Another node than before.
        let node = cluster.nodes[(index + 1) % 3].mqtt();
        let (mut client, ack) = RawClient::try_connect(node, &persistent(index)).await.expect("a CONNACK");
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, true), "kept-{index}");
        publisher.publish(&format!("kept/{index}/x"), b"still subscribed", QoS::AtLeastOnce).await;
        assert_eq!(client.message(SOON).await.payload, "still subscribed");
        resumed.push(client);
    }
    let after = cluster.agreed_events().await;
    assert_alternating(&after);
    for index in 0..SESSIONS {
        let history: Vec<String> = of_client(&after, &format!("kept-{index}")).iter().map(short).collect();
        assert_eq!(history[..2], ["client.connected", "client.subscribed"], "kept-{index}");
        assert_eq!(history.len(), 4, "one end and one new connection: {history:?}");
        assert_eq!(history[3], "client.connected", "kept-{index}");
    }
}
