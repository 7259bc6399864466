//! Messages between clients of different nodes and protocol versions.

use rollcall_proto::packet::{QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_reaches_every_version_on_another_node_at_every_qos() {
    let cluster = TestCluster::start(3).await;
    for (i, from) in VERSIONS.into_iter().enumerate() {
        for (j, to) in VERSIONS.into_iter().enumerate() {
            let (here, there) = (cluster.nodes[i].mqtt(), cluster.nodes[(j + 1) % 3].mqtt());
            let mut publisher = RawClient::connect(here, &Options::new(from, format!("from-{i}{j}"))).await;
            let mut subscriber = RawClient::connect(there, &Options::new(to, format!("to-{i}{j}"))).await;
            subscriber.subscribe("any/+/way", QoS::ExactlyOnce).await;
            for qos in LEVELS {
                publisher.publish("any/old/way", &[0xFF, 0, qos as u8], qos).await;
                let message = subscriber.message(SOON).await;
                assert_eq!((message.qos, &message.payload[..]), (qos, &[0xFF, 0, qos as u8][..]), "{from:?} to {to:?}");
            }
            subscriber.disconnect().await;
            publisher.disconnect().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_comes_with_the_lower_of_the_published_and_the_granted_qos() {
    let cluster = TestCluster::start(3).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    let mut subscriber = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("subscriber")).await;
    for granted in LEVELS {
        subscriber.subscribe("lower/of/both", granted).await;
        for published in LEVELS {
            publisher.publish("lower/of/both", b"x", published).await;
            assert_eq!(subscriber.message(SOON).await.qos, published.min(granted));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_publisher_stay_in_order_over_nodes() {
    const MESSAGES: u32 = 2_000;
    let cluster = TestCluster::start(3).await;
    let mut subscriber = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("subscriber")).await;
    subscriber.subscribe("ordered", QoS::AtLeastOnce).await;
    let node = cluster.nodes[0].mqtt();
    let publishing = tokio::spawn(async move {
        let mut publisher = RawClient::connect(node, &Options::v5("publisher")).await;
        for number in 0..MESSAGES {
            publisher.publish("ordered", &number.to_be_bytes(), QoS::AtLeastOnce).await;
        }
    });
    for number in 0..MESSAGES {
        assert_eq!(subscriber.message(SOON).await.payload, number.to_be_bytes()[..]);
    }
    publishing.await.expect("all were published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_published_when_the_connection_breaks_and_not_when_it_is_ended() {
    let cluster = TestCluster::start(3).await;
    let mut heir = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("heir")).await;
    heir.subscribe("wills/#", QoS::AtMostOnce).await;
    let node = cluster.nodes[0].mqtt();
    RawClient::connect(node, &Options::v5("calm").will("wills/calm", b"no")).await.disconnect().await;
    drop(RawClient::connect(node, &Options::v311("sudden").will("wills/sudden", b"yes")).await);
    let first = heir.message(SOON).await;
    assert_eq!((&*first.topic, &first.payload[..]), ("wills/sudden", &b"yes"[..]), "the first will of two connections");
    let asked = RawClient::connect(node, &Options::v5("asked").will("wills/asked", b"too")).await;
    asked.disconnect_with(ReasonCode::DisconnectWithWill).await;
    assert_eq!(heir.message(SOON).await.topic, "wills/asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_session_keeps_its_subscriptions_when_it_moves_to_another_node() {
    let cluster = TestCluster::start(3).await;
    for (version, id) in [(Version::V5, "moves-5"), (Version::V311, "moves-311")] {
        let options = Options::new(version, id).persistent();
        let mut first = RawClient::connect(cluster.nodes[0].mqtt(), &options).await;
        first.subscribe(&format!("moves/{id}"), QoS::AtLeastOnce).await;
        first.disconnect().await;
        let (mut second, ack) = RawClient::try_connect(cluster.nodes[1].mqtt(), &options).await.expect("a CONNACK");
        assert!(ack.session_present, "{id} finds its session");
        let mut publisher = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("publisher")).await;
        publisher.publish(&format!("moves/{id}"), b"here", QoS::AtLeastOnce).await;
        assert_eq!(second.message(SOON).await.payload, "here");
        second.disconnect().await;
        let clean = Options::new(version, id);
        let (third, ack) = RawClient::try_connect(cluster.nodes[2].mqtt(), &clean).await.expect("a CONNACK");
        assert!(!ack.session_present, "a clean start finds nothing");
        third.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_to_events_is_refused_and_reaches_nobody() {
    let cluster = TestCluster::start(3).await;
    let mut watcher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("watcher")).await;
    watcher.subscribe("$events/client_connected", QoS::AtMostOnce).await;
    let forged = b"{\"clientid\":\"ghost\"}";
    let mut forger = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("forger")).await;
    assert!(!forger.try_publish("$events/client_connected", forged).await);
    forger.publish("$events/client_connected", forged, QoS::AtMostOnce).await;
    let after = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("after-the-forger")).await;
    loop {
        let told = watcher.message(SOON).await.payload;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(!told.contains("ghost"), "a forged event was delivered: {told}");
        if told.contains("after-the-forger") {
            break;
        }
    }
    after.disconnect().await;
}
