//! What waits for a persistent session survives its absence, its nodes and its handshakes (P4).

use std::time::Duration;

use bytes::Bytes;
use rollcall_proto::packet::{Ack, Packet, PacketId, Publish, QoS, Version};
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;

const QUIET: Duration = Duration::from_millis(500);

fn ok(packet_id: PacketId) -> Ack {
    Ack { packet_id, reason: ReasonCode::Success, properties: None }
}

fn persistent(version: Version, client_id: &str) -> Options {
    Options::new(version, client_id).persistent()
}

/// A PUBLISH that the test acknowledges itself, or not.
async fn publish_packet(client: &mut RawClient) -> Publish {
    client
        .wait_for("PUBLISH", SOON, |packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
}

async fn acknowledged(client: &mut RawClient, what: fn(&Packet) -> Option<PacketId>) -> PacketId {
    client.wait_for("an acknowledgement", SOON, what).await
}

fn pubrec(packet: &Packet) -> Option<PacketId> {
    if let Packet::PubRec(ack) = packet { Some(ack.packet_id) } else { None }
}

fn pubrel(packet: &Packet) -> Option<PacketId> {
    if let Packet::PubRel(ack) = packet { Some(ack.packet_id) } else { None }
}

fn pubcomp(packet: &Packet) -> Option<PacketId> {
    if let Packet::PubComp(ack) = packet { Some(ack.packet_id) } else { None }
}

async fn assert_quiet(client: &mut RawClient) {
    match client.receive(QUIET).await {
        Received::Silence => {}
        other => panic!("{other:?} came where nothing is due"),
    }
}

/// Connects, subscribes and leaves.
async fn leave_a_session(cluster: &TestCluster, node: usize, options: &Options, filter: &str, qos: QoS) {
    let mut client = RawClient::connect(cluster.nodes[node].mqtt(), options).await;
    client.subscribe(filter, qos).await;
    client.disconnect().await;
}

async fn resume(cluster: &TestCluster, node: usize, options: &Options) -> RawClient {
    let (client, ack) = RawClient::try_connect(cluster.nodes[node].mqtt(), options).await.expect("a CONNACK");
    // 3.1 has no such flag.
    let present = ack.session_present || options.version == Version::V31;
    assert_eq!((ack.reason, present), (ReasonCode::Success, true), "{}", options.client_id);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_meanwhile_comes_on_any_node_in_order_and_at_its_qos() {
    const MESSAGES: u32 = 50;
    let cluster = TestCluster::start(3).await;
    for (round, version) in [Version::V31, Version::V311, Version::V5].into_iter().enumerate() {
        let away = persistent(version, &format!("away-{round}"));
        leave_a_session(&cluster, round, &away, "meanwhile/#", QoS::ExactlyOnce).await;
        let publisher = Options::v5(format!("publisher-{round}"));
        let mut publisher = RawClient::connect(cluster.nodes[(round + 1) % 3].mqtt(), &publisher).await;
        for number in 0..MESSAGES {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publisher.publish("meanwhile/x", &number.to_be_bytes(), qos).await;
            publisher.publish("meanwhile/x", b"not kept", QoS::AtMostOnce).await;
        }
        let mut client = resume(&cluster, (round + 2) % 3, &away).await;
        for number in 0..MESSAGES {
            let message = client.message(SOON).await;
            assert_eq!(message.payload, number.to_be_bytes()[..], "{version:?}");
            assert_eq!(message.qos, if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce });
            assert!(!message.dup, "it was never sent before");
        }
        publisher.publish("meanwhile/x", b"and live", QoS::AtMostOnce).await;
        assert_eq!(client.message(SOON).await.payload, "and live");
        assert_quiet(&mut client).await;
        client.disconnect().await;
        assert_quiet(&mut resume(&cluster, round, &away).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_acknowledged_comes_again_on_another_node_with_dup_and_its_packet_id() {
    let cluster = TestCluster::start(3).await;
    let options = persistent(Version::V5, "forgetful");
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &options).await;
    client.subscribe("again", QoS::ExactlyOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("again", b"one", QoS::AtLeastOnce).await;
    publisher.publish("again", b"two", QoS::ExactlyOnce).await;
    let first = [publish_packet(&mut client).await, publish_packet(&mut client).await];
    assert!(first.iter().all(|publish| !publish.dup));
    drop(client);
    // A takeover of a connection that still stands, and one after it was closed.
    for node in [1, 2] {
        let mut client = resume(&cluster, node, &options).await;
        for before in &first {
            let again = publish_packet(&mut client).await;
            assert_eq!((again.packet_id, &again.payload), (before.packet_id, &before.payload));
            assert!(again.dup, "[MQTT-3.3.1-1]");
        }
    }
    let mut client = resume(&cluster, 0, &options).await;
    assert_eq!(client.message(SOON).await.payload, "one");
    assert_eq!(client.message(SOON).await.payload, "two");
    client.disconnect().await;
    assert_quiet(&mut resume(&cluster, 1, &options).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qos_2_message_that_the_client_has_received_is_only_released_on_its_next_connection() {
    let cluster = TestCluster::start(3).await;
    let options = persistent(Version::V311, "halfway");
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &options).await;
    client.subscribe("halfway", QoS::ExactlyOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("halfway", b"once", QoS::ExactlyOnce).await;
    let id = publish_packet(&mut client).await.packet_id.expect("a packet id");
    client.send(&Packet::PubRec(ok(id))).await.expect("PUBREC is sent");
    assert_eq!(acknowledged(&mut client, pubrel).await, id);
    drop(client);
    let mut client = resume(&cluster, 2, &options).await;
    assert_eq!(acknowledged(&mut client, pubrel).await, id);
    client.send(&Packet::PubComp(ok(id))).await.expect("PUBCOMP is sent");
    assert_quiet(&mut client).await;
    client.disconnect().await;
    assert_quiet(&mut resume(&cluster, 1, &options).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_publishers_qos_2_message_is_published_once_however_often_it_is_sent() {
    let mut cluster = TestCluster::start(3).await;
    let options = persistent(Version::V5, "insistent");
    let mut live = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("live")).await;
    live.subscribe("once", QoS::ExactlyOnce).await;
    for shard in 0..6 {
        let kept = persistent(Version::V5, &format!("kept-{shard}"));
        leave_a_session(&cluster, 1, &kept, "once", QoS::ExactlyOnce).await;
    }
    let id = PacketId::new(7).expect("not zero");
    let publish = |dup| {
        Packet::Publish(Publish {
            dup,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "once".into(),
            packet_id: Some(id),
            properties: None,
            payload: Bytes::from_static(b"once"),
        })
    };
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &options).await;
    publisher.send(&publish(false)).await.expect("PUBLISH is sent");
    assert_eq!(acknowledged(&mut publisher, pubrec).await, id);
    assert_eq!(live.message(SOON).await.payload, "once");
    // Its node dies with the handshake open.
    cluster.nodes[0].kill();
    let mut publisher = resume(&cluster, 2, &options).await;
    publisher.send(&publish(true)).await.expect("PUBLISH is sent again");
    assert_eq!(acknowledged(&mut publisher, pubrec).await, id);
    publisher.send(&Packet::PubRel(ok(id))).await.expect("PUBREL is sent");
    assert_eq!(acknowledged(&mut publisher, pubcomp).await, id);
    // The same packet id again is another message.
    publisher.send(&publish(false)).await.expect("PUBLISH is sent");
    assert_eq!(acknowledged(&mut publisher, pubrec).await, id);
    for shard in 0..6 {
        let mut kept = resume(&cluster, 1, &persistent(Version::V5, &format!("kept-{shard}"))).await;
        assert_eq!(kept.message(SOON).await.payload, "once");
        assert_eq!(kept.message(SOON).await.payload, "once");
        assert_quiet(&mut kept).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_survive_the_death_of_a_node_and_of_all() {
    const MESSAGES: u32 = 100;
    let mut cluster = TestCluster::start(3).await;
    let sessions: Vec<Options> = (0..10).map(|n| persistent(Version::V5, &format!("asleep-{n}"))).collect();
    for (n, options) in sessions.iter().enumerate() {
        leave_a_session(&cluster, n % 3, options, "while/asleep", QoS::AtLeastOnce).await;
    }
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish("while/asleep", &number.to_be_bytes(), QoS::AtLeastOnce).await;
    }
    cluster.nodes[0].kill();
    let mut client = resume(&cluster, 1, &sessions[0]).await;
    for number in 0..MESSAGES {
        assert_eq!(client.message(SOON).await.payload, number.to_be_bytes()[..], "after one death");
    }
    client.disconnect().await;
    cluster.kill_all();
    cluster.nodes.iter_mut().for_each(|node| node.spawn());
    cluster.all_ready().await;
    for (n, options) in sessions.iter().enumerate().skip(1) {
        let mut client = resume(&cluster, n % 3, options).await;
        for number in 0..MESSAGES {
            assert_eq!(client.message(SOON).await.payload, number.to_be_bytes()[..], "after the death of all");
        }
        assert_quiet(&mut client).await;
    }
    assert_quiet(&mut resume(&cluster, 2, &sessions[0]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_inbox_gives_way_as_it_is_told_to() {
    for (policy, expected) in [("drop_oldest", 15..20), ("drop_newest", 0..5)] {
        let overflow = format!("inbox.overflow={policy}");
        let cluster = TestCluster::start_with(3, &["inbox.max_messages=5", &overflow]).await;
        let options = persistent(Version::V5, "full");
        leave_a_session(&cluster, 0, &options, "full", QoS::AtLeastOnce).await;
        let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
        for number in 0..20_u32 {
            publisher.publish("full", &number.to_be_bytes(), QoS::AtLeastOnce).await;
        }
        let mut client = resume(&cluster, 2, &options).await;
        for number in expected {
            assert_eq!(client.message(SOON).await.payload, u32::to_be_bytes(number)[..], "{policy}");
        }
        assert_quiet(&mut client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_inbox_overflows_can_be_made_to_end() {
    let cluster = TestCluster::start_with(3, &["inbox.max_messages=5", "inbox.overflow=end_session"]).await;
    let (full, spared) = (persistent(Version::V5, "full"), persistent(Version::V5, "spared"));
    leave_a_session(&cluster, 0, &full, "full", QoS::AtLeastOnce).await;
    leave_a_session(&cluster, 1, &spared, "other", QoS::AtLeastOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    for _ in 0..6 {
        publisher.publish("full", b"x", QoS::AtLeastOnce).await;
    }
    let api = cluster.nodes[2].api();
    rollcall_tests::patience::until("the session has ended", SOON, || {
        let api = api.clone();
        async move { if api.session("full").await.is_none() { Ok(()) } else { Err("it is there".to_owned()) } }
    })
    .await;
    let (_, ack) = RawClient::try_connect(cluster.nodes[2].mqtt(), &full).await.expect("a CONNACK");
    assert!(!ack.session_present);
    drop(resume(&cluster, 2, &spared).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_expires_in_the_inbox_by_the_time_of_the_log() {
    let mut cluster = TestCluster::start(3).await;
    let options = persistent(Version::V5, "late");
    leave_a_session(&cluster, 0, &options, "late", QoS::AtLeastOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    for (id, (seconds, payload)) in [(2, "gone"), (3600, "there")].into_iter().enumerate() {
        let properties = PublishProperties { message_expiry: Some(seconds), ..PublishProperties::default() };
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "late".into(),
            packet_id: PacketId::new(id as u16 + 1),
            properties: Some(Box::new(properties)),
            payload: Bytes::from_static(payload.as_bytes()),
        };
        publisher.send(&Packet::Publish(publish)).await.expect("PUBLISH is sent");
    }
    for _ in 0..2 {
        let puback = |packet: &Packet| if let Packet::PubAck(ack) = packet { Some(ack.packet_id) } else { None };
        acknowledged(&mut publisher, puback).await;
    }
    cluster.kill_all();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    cluster.nodes.iter_mut().for_each(|node| node.spawn());
    cluster.all_ready().await;
    let mut client = resume(&cluster, 2, &options).await;
    let message = client.message(SOON).await;
    assert_eq!(message.payload, "there");
    let left = message.properties.and_then(|properties| properties.message_expiry).expect("an expiry");
    assert!((3_500..3_599).contains(&left), "{left} s are left");
    assert_quiet(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_start_finds_nothing_of_the_session_before() {
    let cluster = TestCluster::start(3).await;
    let options = persistent(Version::V5, "fresh");
    leave_a_session(&cluster, 0, &options, "fresh", QoS::AtLeastOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("fresh", b"old", QoS::AtLeastOnce).await;
    let clean = Options { clean_start: true, ..options.clone() };
    let (mut client, ack) = RawClient::try_connect(cluster.nodes[2].mqtt(), &clean).await.expect("a CONNACK");
    assert!(!ack.session_present);
    client.subscribe("fresh", QoS::AtLeastOnce).await;
    publisher.publish("fresh", b"new", QoS::AtLeastOnce).await;
    assert_eq!(client.message(SOON).await.payload, "new");
    assert_quiet(&mut client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_with_full_queues_that_publish_at_each_other_do_not_lock_up() {
    const MESSAGES: u32 = 300;
    let cluster = TestCluster::start_with(3, &["inbox.max_messages=10"]).await;
    let mut pair = Vec::new();
    for (me, other) in [("a", "b"), ("b", "a")] {
        let node = cluster.nodes[usize::from(me == "b")].mqtt();
        let mut client = RawClient::connect(node, &persistent(Version::V5, me)).await;
        client.subscribe(&format!("to/{me}"), QoS::AtLeastOnce).await;
        pair.push((client, format!("to/{other}")));
    }
    // Neither acknowledges what it is sent while it publishes.
    let flood = |(mut client, topic): (RawClient, String)| async move {
        for number in 0..MESSAGES {
            client.publish(&topic, &number.to_be_bytes(), QoS::AtLeastOnce).await;
        }
    };
    let (second, first) = (pair.pop().expect("two"), pair.pop().expect("two"));
    let both = async { tokio::join!(flood(first), flood(second)) };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("both come to their end");
}
