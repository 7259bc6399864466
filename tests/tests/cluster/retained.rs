//! Retained messages: kept by a majority, the same on every node, there for whoever subscribes after the PUBACK (P3).

use std::time::Duration;

use bytes::Bytes;
use rollcall_proto::packet::{Packet, Publish, QoS, RetainHandling, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;

const QUIET: Duration = Duration::from_millis(500);

async fn assert_quiet(client: &mut RawClient) {
    match client.receive(QUIET).await {
        Received::Silence => {}
        other => panic!("{other:?} came where nothing is due"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_subscribes_anywhere_after_the_puback_gets_the_retained_message() {
    let cluster = TestCluster::start(3).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for round in 0..60 {
        let topic = format!("state/{}", round % 7);
        let payload = round.to_string();
        publisher.retain(&topic, payload.as_bytes()).await;
        let version = [Version::V31, Version::V311, Version::V5][round % 3];
        let subscriber = Options::new(version, format!("subscriber-{round}"));
        let mut subscriber = RawClient::connect(cluster.nodes[round % 3].mqtt(), &subscriber).await;
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await;
        let message = subscriber.message(SOON).await;
        assert_eq!((&message.payload[..], message.retain), (payload.as_bytes(), true));
        subscriber.disconnect().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_messages_survive_a_power_cut_and_come_to_wildcards_until_they_are_removed() {
    const TOPICS: usize = 200;
    let mut cluster = TestCluster::start(3).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for number in 0..TOPICS {
        publisher.retain(&format!("kept/{number}/state"), number.to_string().as_bytes()).await;
    }
    publisher.retain("kept/0/state", b"").await;
    cluster.kill_all();
    cluster.nodes.iter_mut().for_each(|node| node.spawn());
    cluster.all_ready().await;
    // To a clean session and, by its inbox, to a persistent one.
    for (node, options) in [(1, Options::v5("clean")), (2, Options::v311("durable").persistent())] {
        let mut subscriber = RawClient::connect(cluster.nodes[node].mqtt(), &options).await;
        subscriber.subscribe("kept/+/state", QoS::AtLeastOnce).await;
        let mut found = Vec::new();
        for _ in 1..TOPICS {
            let message = subscriber.message(SOON).await;
            assert!(message.retain);
            let payload = String::from_utf8(message.payload.to_vec()).expect("a number");
            assert_eq!(&*message.topic, format!("kept/{payload}/state"));
            found.push(payload.parse::<usize>().expect("a number"));
        }
        found.sort_unstable();
        assert_eq!(found, (1..TOPICS).collect::<Vec<_>>());
        assert_quiet(&mut subscriber).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_says_whether_it_wants_what_is_retained() {
    let cluster = TestCluster::start(3).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    publisher.retain("wanted", b"now").await;
    let mut subscriber = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("subscriber")).await;
    let options = |retain_handling| SubscribeOptions { qos: QoS::AtLeastOnce, retain_handling, ..Default::default() };
    subscriber.subscribe_with(&[("wanted", options(RetainHandling::DoNotSend))], SubscribeProperties::default()).await;
    assert_quiet(&mut subscriber).await;
    subscriber.subscribe_with(&[("wanted", options(RetainHandling::SendIfNew))], SubscribeProperties::default()).await;
    assert_quiet(&mut subscriber).await;
    subscriber.subscribe_with(&[("wanted", options(RetainHandling::Send))], SubscribeProperties::default()).await;
    assert_eq!(subscriber.message(SOON).await.payload, "now");
    subscriber.subscribe_with(&[("+", options(RetainHandling::SendIfNew))], SubscribeProperties::default()).await;
    assert_eq!(subscriber.message(SOON).await.payload, "now");
    assert_quiet(&mut subscriber).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_later_message_of_a_publisher_overtakes_its_retained_one() {
    let cluster = TestCluster::start(3).await;
    let mut subscriber = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("subscriber")).await;
    subscriber.subscribe("order", QoS::AtMostOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for number in 0..100_u32 {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: number % 10 == 0,
            topic: "order".into(),
            packet_id: None,
            properties: None,
            payload: Bytes::copy_from_slice(&number.to_be_bytes()),
        };
        publisher.send(&Packet::Publish(publish)).await.expect("PUBLISH is sent");
    }
    for number in 0..100_u32 {
        let message = subscriber.message(SOON).await;
        assert_eq!(message.payload, number.to_be_bytes()[..]);
        assert!(!message.retain, "a live message is as published only for those who ask [MQTT-3.3.1-12]");
    }
}
