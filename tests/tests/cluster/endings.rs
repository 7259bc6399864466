//! Every way a connection ends: the packet the client gets, the reason the event tells, the node it names.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{number, of_client, text};
use rollcall_tests::patience::until;
use serde_json::Value;

/// The disconnected event of a client that connected once, as every node tells it, with its connected beside it.
async fn ending(cluster: &TestCluster, client_id: &str) -> Value {
    let mut told = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        let api = node.api();
        let pair = until("the client's end is in the log", SOON, || async {
            let events = of_client(&api.events_after(0).await, client_id);
            match events.iter().position(|event| text(event, "event") == "client.disconnected") {
                Some(place) => Ok((events[0].clone(), events[place].clone())),
                None => Err(format!("{events:?}")),
            }
        })
        .await;
        told.push(pair);
    }
    let (connected, disconnected) = told.remove(0);
    assert!(told.iter().all(|(_, other)| *other == disconnected), "every node tells the same");
    assert_eq!(text(&connected, "event"), "client.connected");
    assert_eq!(number(&connected, "epoch"), number(&disconnected, "epoch"), "one connection, one epoch");
    disconnected
}

fn assert_fields(event: &Value, reason: &str, node: &str) {
    assert_eq!(text(event, "reason"), reason, "{event}");
    assert_eq!(text(event, "node"), node, "{event}");
    for field in ["clientid", "username", "peername", "sockname"] {
        assert!(event[field].is_string(), "{field} is missing: {event}");
    }
    assert!(event["disconnected_at"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "milliseconds: {event}");
    assert!(event.get("timestamp").is_none(), "a disconnected has no timestamp: {event}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_of_leaving_has_its_reason() {
    let cluster = TestCluster::start(3).await;
    let (address, name) = (cluster.nodes[1].mqtt(), cluster.nodes[1].event_name());

    RawClient::connect(address, &Options::v5("polite").username("ann")).await.disconnect().await;
    let event = ending(&cluster, "polite").await;
    assert_fields(&event, "normal", &name);
    assert_eq!(text(&event, "username"), "ann");

    RawClient::connect(address, &Options::v31("polite-31")).await.disconnect().await;
    assert_fields(&ending(&cluster, "polite-31").await, "normal", &name);

    let with_will = RawClient::connect(address, &Options::v5("will-please")).await;
    with_will.disconnect_with(ReasonCode::DisconnectWithWill).await;
    assert_fields(&ending(&cluster, "will-please").await, "normal", &name);

    drop(RawClient::connect(address, &Options::v5("abrupt")).await);
    assert_fields(&ending(&cluster, "abrupt").await, "tcp_closed", &name);

    let mut kicked = RawClient::connect(address, &Options::v5("kicked")).await;
    assert!(cluster.nodes[2].api().kick("kicked").await.status().is_success());
    let goodbye = kicked.closed(SOON).await.expect("5.0 clients are told why");
    assert_eq!(goodbye.reason, ReasonCode::AdministrativeAction);
    assert_fields(&ending(&cluster, "kicked").await, "kicked", &name);

    let mut kicked = RawClient::connect(address, &Options::v311("kicked-311")).await;
    assert!(cluster.nodes[1].api().kick("kicked-311").await.status().is_success());
    assert_eq!(kicked.closed(SOON).await, None, "3.1.1 knows no DISCONNECT from the broker");
    assert_fields(&ending(&cluster, "kicked-311").await, "kicked", &name);
    assert_eq!(cluster.nodes[1].api().kick("nobody").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_closed_at_one_and_a_half_times_its_keep_alive() {
    let cluster = TestCluster::start(3).await;
    let (address, name) = (cluster.nodes[2].mqtt(), cluster.nodes[2].event_name());
    let mut silent = RawClient::connect(address, &Options::v5("silent").keep_alive(2)).await;
    let mut silent_311 = RawClient::connect(address, &Options::v311("silent-311").keep_alive(2)).await;
    let mut talking = RawClient::connect(address, &Options::v5("talking").keep_alive(2)).await;
    let started = Instant::now();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        talking.ping().await;
    }
    let goodbye = silent.closed(SOON).await.expect("5.0 clients are told why");
    let took = started.elapsed();
    assert_eq!(goodbye.reason, ReasonCode::KeepAliveTimeout);
    assert_eq!(silent_311.closed(SOON).await, None);
    assert!(took >= Duration::from_millis(2_900) && took < Duration::from_secs(5), "closed after {took:?}");
    assert_fields(&ending(&cluster, "silent").await, "keepalive_timeout", &name);
    assert_fields(&ending(&cluster, "silent-311").await, "keepalive_timeout", &name);
    talking.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_asked_to_stop_says_go_away_to_its_clients_and_ends_cleanly() {
    let mut cluster = TestCluster::start(3).await;
    let name = cluster.nodes[0].event_name();
    let mut modern = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("sent-away")).await;
    let mut older = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v311("sent-away-311")).await;
    let mut elsewhere = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("stays")).await;
    cluster.nodes[0].terminate();
    let goodbye = modern.closed(SOON).await.expect("5.0 clients are told why");
    match goodbye.reason {
        ReasonCode::UseAnotherServer => assert!(goodbye.properties.server_reference.is_some(), "{goodbye:?}"),
        other => assert_eq!(other, ReasonCode::ServerShuttingDown),
    }
    assert_eq!(older.closed(SOON).await, None);
    let status = cluster.nodes[0].ended(Duration::from_secs(20)).await;
    assert!(status.success(), "a drained node ends with success, not {status}");
    for client in ["sent-away", "sent-away-311"] {
        assert_fields(&ending(&cluster, client).await, "go_away", &name);
    }
    elsewhere.ping().await;
    // What the node held is known as gone, not as lost.
    let events = cluster.agreed_events().await;
    assert!(events.iter().all(|event| text(event, "reason") != "server_internal_error"));
    cluster.nodes[0].spawn();
    cluster.ready(0).await;
    RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("sent-away")).await.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_asked_to_stop_hands_over_and_the_others_serve_on() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    cluster.nodes[leader].terminate();
    let status = cluster.nodes[leader].ended(Duration::from_secs(20)).await;
    assert!(status.success(), "a drained leader ends with success, not {status}");
    let mut subscriber = RawClient::connect(cluster.nodes[others[0]].mqtt(), &Options::v5("after-sub")).await;
    let mut publisher = RawClient::connect(cluster.nodes[others[1]].mqtt(), &Options::v5("after-pub")).await;
    subscriber.subscribe("after/#", QoS::AtMostOnce).await;
    publisher.publish("after/the/drain", b"on", QoS::AtMostOnce).await;
    assert_eq!(subscriber.message(SOON).await.payload, "on");
}
