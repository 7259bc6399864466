//! Everyone who is refused is told so as far as the protocol has words for it, and a subscriber on another node reads of
//! it. A publish that is too large ends the connection, or by setting is dropped.

use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{number, text};
use serde_json::Value;

const BOTH: [Version; 2] = [Version::V311, Version::V5];
const CLEAN: u8 = 0x02;
const WITH_WILL: u8 = 0x04;

/// A CONNECT that may be wrong; `will` is its topic.
fn connect(version: Version, flags: u8, client_id: &str, will: Option<&str>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let no_properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let flags = if will.is_some() { flags | WITH_WILL } else { flags };
    let mut body = [&text("MQTT"), &[version.level(), flags, 0, 0][..], no_properties, &text(client_id)].concat();
    if let Some(topic) = will {
        body = [&body, no_properties, &text(topic), &text("gone")].concat();
    }
    let length = match body.len() {
        short @ 0..128 => vec![short as u8],
        long => vec![(long % 128) as u8 | 0x80, (long / 128) as u8],
    };
    [&[0x10], &length[..], &body].concat()
}

async fn raw(cluster: &TestCluster, version: Version, bytes: &[u8]) -> RawClient {
    let mut client = RawClient::tcp(cluster.nodes[1].mqtt(), version).await.expect("a TCP connection");
    client.send_raw(bytes).await.expect("bytes are sent");
    client
}

/// The CONNACK's code before the connection closes; `None` without one.
async fn refused(mut client: RawClient) -> Option<ReasonCode> {
    let code = match client.receive(SOON).await {
        Received::Packet(Packet::ConnAck(ack)) => ack.reason,
        Received::Closed => return None,
        other => panic!("{other:?} instead of a refusal"),
    };
    assert!(matches!(client.receive(SOON).await, Received::Closed), "after {code:?}");
    Some(code)
}

async fn watcher(cluster: &TestCluster) -> RawClient {
    let mut watcher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("watcher")).await;
    watcher.subscribe("$events/client_disconnected", QoS::AtLeastOnce).await;
    watcher
}

/// The next event; `node` of it is the one that refused.
async fn told(cluster: &TestCluster, watcher: &mut RawClient, reason: &str) -> Value {
    let event: Value = serde_json::from_slice(&watcher.message(SOON).await.payload).expect("JSON");
    assert_eq!(text(&event, "reason"), reason, "{event}");
    assert_eq!(text(&event, "node"), cluster.nodes[1].event_name(), "{event}");
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_refused_is_told_why_and_a_subscriber_elsewhere_as_well() {
    let cluster = TestCluster::start(2).await;
    let mut watcher = watcher(&cluster).await;
    let too_long = "x".repeat(129);
    let cases = [
        (CLEAN, &*too_long, None, "client_id_too_long", [Some(ReasonCode::ClientIdentifierNotValid); 2]),
        (CLEAN, "a\u{1}b", None, "client_id_invalid", [Some(ReasonCode::ClientIdentifierNotValid); 2]),
        (CLEAN, "wild", Some("a/#"), "bad_will_message", [None, Some(ReasonCode::TopicNameInvalid)]),
        (
            CLEAN,
            "forger",
            Some("$events/x"),
            "bad_will_message",
            [Some(ReasonCode::NotAuthorized), Some(ReasonCode::NotAuthorized)],
        ),
    ];
    for (flags, id, will, reason, codes) in cases {
        for (version, code) in BOTH.into_iter().zip(codes) {
            let client = raw(&cluster, version, &connect(version, flags, id, will)).await;
            assert_eq!(refused(client).await, code, "{version:?} {reason}");
            let event = told(&cluster, &mut watcher, reason).await;
            assert_eq!((text(&event, "clientid"), number(&event, "epoch")), (id, 0), "{event}");
            assert!(event["peername"].is_string() && event["sockname"].is_string(), "{event}");
        }
    }
    let longest = Options::v5("ä".repeat(128));
    RawClient::connect(cluster.nodes[1].mqtt(), &longest).await.disconnect().await;
    told(&cluster, &mut watcher, "normal").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_client_has_to_name_itself_it_is_refused_without_a_name() {
    let cluster = TestCluster::start_with(2, &["listeners.tcp.client_id_required=true"]).await;
    let mut watcher = watcher(&cluster).await;
    for version in BOTH {
        let client = raw(&cluster, version, &connect(version, CLEAN, "", None)).await;
        assert_eq!(refused(client).await, Some(ReasonCode::ClientIdentifierNotValid), "{version:?}");
        assert_eq!(text(&told(&cluster, &mut watcher, "client_id_required").await, "clientid"), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_3_1_1_that_is_to_last_needs_a_name() {
    let cluster = TestCluster::start(2).await;
    let mut watcher = watcher(&cluster).await;
    let client = raw(&cluster, Version::V311, &connect(Version::V311, 0, "", None)).await;
    assert_eq!(refused(client).await, Some(ReasonCode::ClientIdentifierNotValid));
    told(&cluster, &mut watcher, "client_id_required").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_before_the_connect_and_what_is_no_connect_are_told_and_silence_is_not() {
    let cluster = TestCluster::start(2).await;
    let mut watcher = watcher(&cluster).await;
    drop(RawClient::tcp(cluster.nodes[1].mqtt(), Version::V5).await.expect("a TCP connection"));
    for version in BOTH {
        let client = raw(&cluster, version, &[0xC0, 0x00]).await;
        assert_eq!(refused(client).await, None);
        told(&cluster, &mut watcher, "ping_without_connect").await;
        let client = raw(&cluster, version, b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(refused(client).await, None);
        let event = told(&cluster, &mut watcher, "tcp_closed").await;
        assert!(!text(&event, "detail").is_empty(), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anonymous_clients_everyone_is_refused_and_told_of() {
    let cluster = TestCluster::start_with(2, &["access.anonymous=false"]).await;
    let api = cluster.nodes[0].api();
    for version in BOTH {
        let client = raw(&cluster, version, &connect(version, CLEAN, "anybody", None)).await;
        assert_eq!(refused(client).await, Some(ReasonCode::BadUserNameOrPassword), "{version:?}");
    }
    let told = rollcall_tests::patience::until("both are told of", SOON, || async {
        let events = api.events_after(0).await;
        if events.len() == 2 { Ok(events) } else { Err(format!("{events:?}")) }
    })
    .await;
    assert!(told.iter().all(|event| text(event, "reason") == "not_authenticated"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_publishes_an_event_is_told_it_may_not_or_thrown_out() {
    const FORGED: &str = "$events/client_connected";
    let cluster = TestCluster::start(2).await;
    let mut watcher = watcher(&cluster).await;
    for (version, qos) in
        [(Version::V311, QoS::AtMostOnce), (Version::V311, QoS::AtLeastOnce), (Version::V5, QoS::AtMostOnce)]
    {
        let mut forger = RawClient::connect(cluster.nodes[1].mqtt(), &Options::new(version, "forger")).await;
        if qos == QoS::AtMostOnce {
            forger.publish(FORGED, b"{}", qos).await;
        } else {
            forger.publish_without_waiting(FORGED, b"{}").await;
        }
        let goodbye = forger.closed(SOON).await.map(|goodbye| goodbye.reason);
        assert_eq!(goodbye, (version == Version::V5).then_some(ReasonCode::NotAuthorized));
        assert_eq!(text(&told(&cluster, &mut watcher, "not_authorized").await, "clientid"), "forger");
    }
    // Where there is a word for it, the connection goes on.
    let mut forger = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("forger")).await;
    forger.publish_without_waiting(FORGED, b"{}").await;
    let code = forger.wait_for("PUBACK", SOON, |packet| match packet {
        Packet::PubAck(ack) => Some(ack.reason),
        _ => None,
    });
    assert_eq!(code.await, ReasonCode::NotAuthorized);
    forger.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protocol_error_after_the_connect_is_told_with_a_detail() {
    let cluster = TestCluster::start(2).await;
    let mut watcher = watcher(&cluster).await;
    for version in BOTH {
        let mut client = RawClient::connect(cluster.nodes[1].mqtt(), &Options::new(version, "clumsy")).await;
        client.send_raw(&[0x36, 0x07, 0, 1, b'a', 0, 1, 0, b'x']).await.expect("a PUBLISH of QoS 3 is sent");
        let goodbye = client.closed(SOON).await.map(|goodbye| goodbye.reason);
        assert_eq!(goodbye, (version == Version::V5).then_some(ReasonCode::MalformedPacket));
        let event = told(&cluster, &mut watcher, "tcp_closed").await;
        assert!(!text(&event, "detail").is_empty() && number(&event, "epoch") > 0, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_refusals_makes_a_bounded_number_of_events() {
    let cluster = TestCluster::start_with(2, &["events.refusal_burst=20", "events.refusal_rate=1"]).await;
    for _ in 0..100 {
        assert_eq!(refused(raw(&cluster, Version::V5, &[0xC0, 0x00]).await).await, None);
    }
    let mut last = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("last")).await;
    last.ping().await;
    cluster.same_position().await;
    let events = cluster.nodes[0].api().events_after(0).await;
    let refusals = events.iter().filter(|event| event["reason"] == "ping_without_connect").count();
    assert!((1..=40).contains(&refusals), "{refusals} events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_is_too_large_ends_the_connection_or_by_setting_is_dropped() {
    let limit = "listeners.tcp.max_packet=4KiB";
    let large = vec![b'x'; 100 << 10];
    let cluster = TestCluster::start_with(1, &[limit]).await;
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("client")).await;
    client.publish_without_waiting("t", &large).await;
    assert_eq!(client.closed(SOON).await.map(|goodbye| goodbye.reason), Some(ReasonCode::PacketTooLarge));

    let cluster = TestCluster::start_with(1, &[limit, "listeners.tcp.oversize=drop"]).await;
    for version in BOTH {
        let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::new(version, "client")).await;
        client.subscribe("t", QoS::ExactlyOnce).await;
        client.publish("t", &large, QoS::AtMostOnce).await;
        client.publish_without_waiting("t", &large).await;
        let answer = client.wait_for("PUBACK", SOON, |packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        });
        let expected = if version == Version::V5 { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
        assert_eq!(answer.await, expected, "{version:?}");
        client.publish("t", b"small", QoS::ExactlyOnce).await;
        assert_eq!(&client.message(SOON).await.payload[..], b"small", "nothing large came before it");
        client.send_raw(&[0x82, 0xFF, 0x7F]).await.expect("a large SUBSCRIBE is begun");
        client.closed(SOON).await;
    }
}
