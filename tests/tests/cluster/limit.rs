//! The cluster never holds more connections than its limit, however many nodes accept at once (P2).

use std::time::Duration;

use rollcall_proto::packet::ConnAck;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{short, text};
use rollcall_tests::patience::until;
use tokio::task::JoinSet;

const CLIENTS: usize = 300;
const LIMIT: usize = 100;
const ROUNDS: usize = 20;

/// Every third client speaks 3.1.1, the others 5.0; client `i` goes to node `i % 3`.
fn options(round: usize, index: usize) -> Options {
    let client_id = format!("limit-{round}-{index}");
    if index % 9 < 3 { Options::v311(client_id) } else { Options::v5(client_id) }
}

async fn all_at_once(cluster: &TestCluster, round: usize) -> Vec<(RawClient, ConnAck)> {
    let mut tasks = JoinSet::new();
    for index in 0..CLIENTS {
        let node = cluster.nodes[index % 3].mqtt();
        tasks.spawn(async move { RawClient::try_connect(node, &options(round, index)).await });
    }
    let answers = tasks.join_all().await;
    answers.into_iter().map(|answer| answer.expect("every client gets a CONNACK")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_as_many_as_the_limit_are_accepted_of_300_at_once_over_three_nodes_in_20_rounds() {
    let cluster = TestCluster::start_with(3, &[&format!("limits.max_connections={LIMIT}")]).await;
    for round in 0..ROUNDS {
        let before = cluster.nodes[0].api().last_seq().await.expect("the log is there");
        let (accepted, refused): (Vec<_>, Vec<_>) =
            all_at_once(&cluster, round).await.into_iter().partition(|(_, ack)| ack.reason == ReasonCode::Success);
        assert_eq!((accepted.len(), refused.len()), (LIMIT, CLIENTS - LIMIT), "accepted and refused in round {round}");
        for (mut client, ack) in refused {
            // The client's decoder names return code 3 of 3.x with the one 5.0 reason it stands for.
            let right = [ReasonCode::QuotaExceeded, ReasonCode::ServerUnavailable];
            assert!(right.contains(&ack.reason), "refused with {:?}", ack.reason);
            client.closed(Duration::from_secs(5)).await;
        }
        for (client, _) in accepted {
            client.disconnect().await;
        }
        assert_one_event_each(&cluster, before).await;
    }
    cluster.agreed_events().await;
}

/// 100 connected, as many ends of them, and 200 refusals, since `before`.
async fn assert_one_event_each(cluster: &TestCluster, before: u64) {
    let api = cluster.nodes[0].api();
    let expected = (CLIENTS + LIMIT) as u64;
    until("every event of the round is in the log", Duration::from_secs(10), || async {
        let got = api.last_seq().await? - before;
        if got >= expected { Ok(()) } else { Err(format!("{got} of {expected}")) }
    })
    .await;
    let events = api.events_after(before).await;
    let count = |what: &str| events.iter().filter(|event| short(event) == what).count();
    assert_eq!(count("client.connected"), LIMIT);
    assert_eq!(count("client.disconnected(normal)"), LIMIT);
    assert_eq!(count("client.disconnected(too_many_connection)"), CLIENTS - LIMIT);
    assert_eq!(events.len(), CLIENTS + LIMIT, "nothing else happened");
    let mut refused: Vec<&str> =
        events.iter().filter(|e| text(e, "reason") == "too_many_connection").map(|e| text(e, "clientid")).collect();
    refused.sort_unstable();
    refused.dedup();
    assert_eq!(refused.len(), CLIENTS - LIMIT, "one event for each refused client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_no_more_than_its_own_limit_while_the_others_have_room() {
    let cluster = TestCluster::start_with(3, &["limits.max_connections_per_node=10"]).await;
    let mut tasks = JoinSet::new();
    for index in 0..30 {
        let node = cluster.nodes[1].mqtt();
        tasks.spawn(async move { RawClient::try_connect(node, &Options::v5(format!("crowd-{index}"))).await });
    }
    let answers = tasks.join_all().await;
    let reasons: Vec<ReasonCode> =
        answers.iter().map(|answer| answer.as_ref().expect("every client gets a CONNACK").1.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == ReasonCode::Success).count(), 10);
    assert_eq!(reasons.iter().filter(|reason| **reason == ReasonCode::QuotaExceeded).count(), 20);
    let elsewhere = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("room-here")).await;
    let events = cluster.agreed_events().await;
    let refused: Vec<_> = events.iter().filter(|e| text(e, "reason") == "too_many_connection").collect();
    assert_eq!(refused.len(), 20);
    let refuser = cluster.nodes[1].event_name();
    assert!(refused.iter().all(|event| text(event, "node") == refuser), "the refusing node is named: {refused:?}");
    elsewhere.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_needs_no_free_place_under_the_limit() {
    let cluster = TestCluster::start_with(3, &["limits.max_connections=1"]).await;
    let mut first = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("only-one")).await;
    let second = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("only-one")).await;
    let goodbye = first.closed(Duration::from_secs(5)).await.expect("5.0 clients are told why");
    assert_eq!(goodbye.reason, ReasonCode::SessionTakenOver);
    let (_, answer) =
        RawClient::try_connect(cluster.nodes[2].mqtt(), &Options::v5("one-too-many")).await.expect("CONNACK");
    assert_eq!(answer.reason, ReasonCode::QuotaExceeded);
    second.disconnect().await;
}
