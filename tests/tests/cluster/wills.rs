//! A will is published once however the connection ended, also when its node died; who comes back in time takes it back
//! (P7).

use std::time::Duration;

use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{of_client, text};
use rollcall_tests::patience::until;

/// Nodes that are quickly declared down.
const IMPATIENT: [&str; 3] = ["cluster.route_lease=1s", "cluster.lease=2s", "cluster.node_timeout=3s"];
/// `cluster.node_timeout`, what the reaper takes, and the longest delay here.
const REAPED: Duration = Duration::from_secs(20);

async fn heirs(cluster: &TestCluster, nodes: &[usize]) -> Vec<RawClient> {
    let mut heirs = Vec::new();
    for &node in nodes {
        let mut heir = RawClient::connect(cluster.nodes[node].mqtt(), &Options::v5(format!("heir-{node}"))).await;
        heir.subscribe("wills/#", QoS::AtLeastOnce).await;
        heirs.push(heir);
    }
    heirs
}

/// Takes messages up to that one; their topics.
async fn topics_until(heir: &mut RawClient, last: &str) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let message = heir.message(REAPED).await;
        topics.push(message.topic.to_string());
        if message.topic == last {
            return topics;
        }
    }
}

/// Waits until the end of the client's connection is in the log.
async fn ended(cluster: &TestCluster, teller: usize, client_id: &str) {
    let api = cluster.nodes[teller].api();
    until("the connection's end is in the log", REAPED, || async {
        let events = of_client(&api.events_after(0).await, client_id);
        let ended = events.iter().any(|event| text(event, "event") == "client.disconnected");
        if ended { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wills_of_a_killed_node_are_published_once_by_survivors_unless_their_clients_come_back() {
    let mut cluster = TestCluster::start_with(3, &IMPATIENT).await;
    let victim = cluster.follower().await;
    let survivors = cluster.others(victim);
    let mut heirs = heirs(&cluster, &survivors).await;
    let dying = cluster.nodes[victim].mqtt();
    let with_will =
        |id: &str, delay| Options::v5(id).persistent().will(&format!("wills/{id}"), b"gone").will_delay(delay);
    let mut clients = Vec::new();
    for (id, delay) in [("at-once", 0), ("back", 5), ("late", 7)] {
        clients.push(RawClient::connect(dying, &with_will(id, delay)).await);
    }
    cluster.nodes[victim].kill();
    ended(&cluster, survivors[0], "back").await;
    let elsewhere = cluster.nodes[survivors[1]].mqtt();
    let (back, ack) = RawClient::try_connect(elsewhere, &with_will("back", 5)).await.expect("a CONNACK");
    assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, true), "in time to find its session");
    for heir in &mut heirs {
        // The will of the client that came back would have been due before the last one.
        assert_eq!(topics_until(heir, "wills/late").await, ["wills/at-once", "wills/late"]);
    }

    // The node comes back, and reads in its log what was published without it.
    cluster.nodes[victim].spawn();
    cluster.ready(victim).await;
    let mut newcomer = RawClient::connect(dying, &Options::v5("newcomer")).await;
    newcomer.subscribe("wills/#", QoS::AtLeastOnce).await;
    back.disconnect().await;
    newcomer.publish("wills/last", b"all that is left", QoS::AtLeastOnce).await;
    heirs.push(newcomer);
    for heir in &mut heirs {
        assert_eq!(topics_until(heir, "wills/last").await, ["wills/last"], "nothing comes twice or late");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_will_is_published_after_its_delay_though_its_node_has_restarted_meanwhile() {
    let mut cluster = TestCluster::start_with(3, &IMPATIENT).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    let mut heirs = heirs(&cluster, &others).await;
    let options = Options::v5("gone").persistent().will("wills/gone", b"gone").will_delay(4);
    drop(RawClient::connect(cluster.nodes[leader].mqtt(), &options).await);
    ended(&cluster, others[0], "gone").await;
    cluster.nodes[leader].kill();
    cluster.nodes[leader].spawn();
    cluster.ready(leader).await;
    for heir in &mut heirs {
        assert_eq!(heir.message(SOON).await.topic, "wills/gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_publishes_a_will_without_delay_and_takes_a_delayed_one_back() {
    let cluster = TestCluster::start(3).await;
    let mut heirs = heirs(&cluster, &[0, 1, 2]).await;
    for (id, delay) in [("patient", 1), ("hasty", 0)] {
        let options = Options::v5(id).persistent().will(&format!("wills/{id}"), b"taken over").will_delay(delay);
        let mut first = RawClient::connect(cluster.nodes[0].mqtt(), &options).await;
        let second = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5(id).persistent()).await;
        first.closed(SOON).await;
        second.disconnect().await;
    }
    let short = Options::v5("short").will("wills/short", b"no session to wait for").will_delay(3_600);
    drop(RawClient::connect(cluster.nodes[2].mqtt(), &short).await);
    ended(&cluster, 2, "short").await;
    // Due after the patient one would have been.
    let last = Options::v5("last").persistent().will("wills/last", b"last").will_delay(2);
    drop(RawClient::connect(cluster.nodes[2].mqtt(), &last).await);
    for heir in &mut heirs {
        assert_eq!(topics_until(heir, "wills/last").await, ["wills/hasty", "wills/short", "wills/last"]);
    }
}
