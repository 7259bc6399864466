//! What was acknowledged survives a power cut that takes away whatever was not synced (P8).

use std::path::Path;
use std::time::Duration;

use rollcall_chaos::disk::{Lost, PowerCut};
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::node::Node;

/// After which nothing more is expected.
const QUIET: Duration = Duration::from_secs(1);

/// Nodes whose disks lose at a power cut what was not synced; or, to show that these tests can fail, all there ever was.
async fn start(count: u16, disks_sync: bool) -> TestCluster {
    TestCluster::start_changed(count, &[], |spec| {
        let power = PowerCut::over(&spec.data_dir);
        spec.env = if disks_sync { power.env() } else { power.env_ignoring_syncs() };
    })
    .await
}

/// Cuts the power of all nodes at one moment.
fn cut_power(cluster: &mut TestCluster) -> Vec<Lost> {
    cluster.kill_all();
    cluster.nodes.iter().map(|node: &Node| PowerCut::over(&node.spec.data_dir).cut()).collect()
}

fn persistent(index: usize) -> Options {
    Options::v5(format!("kept-{index}")).persistent()
}

/// Subscribes persistently on each node; the clients stay connected as long as they are kept.
async fn subscribe(cluster: &TestCluster, sessions: usize) -> Vec<RawClient> {
    let mut clients = Vec::new();
    for index in 0..sessions {
        let node = cluster.nodes[index % cluster.nodes.len()].mqtt();
        let mut client = RawClient::connect(node, &persistent(index)).await;
        let granted = client.subscribe(&format!("kept/{index}"), QoS::AtLeastOnce).await;
        assert_eq!(granted, ReasonCode::GrantedQoS1);
        clients.push(client);
    }
    clients
}

/// Every session is resumed, with its subscription.
async fn assert_kept(cluster: &TestCluster, sessions: usize) {
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for index in 0..sessions {
        let node = cluster.nodes[(index + 1) % cluster.nodes.len()].mqtt();
        let (mut client, ack) = RawClient::try_connect(node, &persistent(index)).await.expect("a CONNACK");
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, true), "kept-{index}");
        publisher.publish(&format!("kept/{index}"), b"still subscribed", QoS::AtLeastOnce).await;
        assert_eq!(client.message(SOON).await.payload, "still subscribed");
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).expect("the data directory is there").next().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_keeps_its_persistent_subscriptions_over_power_cuts() {
    let mut cluster = start(1, true).await;
    for round in 1..=3 {
        let clients = subscribe(&cluster, 10 * round).await;
        let told = cluster.agreed_events().await;
        cut_power(&mut cluster);
        drop(clients);
        cluster.nodes[0].spawn();
        cluster.all_ready().await;
        assert_eq!(cluster.agreed_events().await[..told.len()], told[..], "what was told stays told");
        assert_kept(&cluster, 10 * round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_that_lose_power_at_once_keep_every_persistent_subscription() {
    let mut cluster = start(3, true).await;
    let clients = subscribe(&cluster, 30).await;
    let told = cluster.agreed_events().await;
    cut_power(&mut cluster);
    drop(clients);
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.all_ready().await;
    assert_eq!(cluster.agreed_events().await[..told.len()], told[..], "what was told stays told");
    assert_kept(&cluster, 30).await;
}

/// The number of each message that came to a session, until it is quiet for a while.
async fn drained(cluster: &TestCluster, node: usize, index: usize) -> Vec<u32> {
    let connected = RawClient::try_connect(cluster.nodes[node].mqtt(), &persistent(index)).await;
    let (mut client, _) = connected.expect("a CONNACK");
    let mut numbers = Vec::new();
    while let Some(message) = client.message_within(QUIET).await {
        numbers.push(u32::from_be_bytes(message.payload[..].try_into().expect("a number")));
    }
    client.disconnect().await;
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_acknowledged_survive_the_power_cuts_of_all_nodes_five_times_over() {
    const ROUNDS: u32 = 5;
    const MESSAGES: u32 = 30;
    let mut cluster = start(3, true).await;
    for client in subscribe(&cluster, 3).await {
        client.disconnect().await;
    }
    for round in 0..ROUNDS {
        let node = round as usize % 3;
        let mut publisher =
            RawClient::connect(cluster.nodes[node].mqtt(), &Options::v5("publisher").persistent()).await;
        for number in round * MESSAGES..(round + 1) * MESSAGES {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publisher.publish(&format!("kept/{}", number % 3), &number.to_be_bytes(), qos).await;
        }
        cut_power(&mut cluster);
        cluster.nodes.iter_mut().for_each(Node::spawn);
        cluster.all_ready().await;
    }
    for index in 0..3 {
        let mut came = drained(&cluster, (index + 1) % 3, index).await;
        // The order is promised for each QoS by itself: at QoS 2 the publisher's own shard comes first.
        came.sort_by_key(|number| number % 2);
        let (once, exactly): (Vec<u32>, Vec<u32>) =
            (0..ROUNDS * MESSAGES).filter(|number| *number as usize % 3 == index).partition(|number| number % 2 == 0);
        assert_eq!(came, [once, exactly].concat(), "kept-{index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_disks_that_do_not_sync_a_power_cut_takes_messages_that_were_acknowledged() {
    let mut cluster = start(3, false).await;
    for client in subscribe(&cluster, 1).await {
        client.disconnect().await;
    }
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("kept/0", &7_u32.to_be_bytes(), QoS::AtLeastOnce).await;
    cut_power(&mut cluster);
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.all_ready().await;
    assert!(drained(&cluster, 1, 0).await.is_empty(), "the other tests here could not fail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_does_not_sync_a_power_cut_takes_the_subscription() {
    let mut cluster = start(1, false).await;
    let clients = subscribe(&cluster, 1).await;
    let lost = cut_power(&mut cluster);
    drop(clients);
    assert!(lost[0].writes > 0 && lost[0].names > 0, "{lost:?}");
    assert!(is_empty(&cluster.nodes[0].spec.data_dir), "the node had begun with nothing");
    cluster.nodes[0].spawn();
    cluster.all_ready().await;
    let (_, ack) = RawClient::try_connect(cluster.nodes[0].mqtt(), &persistent(0)).await.expect("a CONNACK");
    assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, false));
}
