//! What time does to messages and sessions. Where a case waits, time itself is what it is about.

use std::time::Duration;

use rollcall_proto::packet::{Connect, Packet, PacketId, Publish, QoS, Version};
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON, ack, publication};
use tokio::time::{Instant, sleep};

use crate::broker::Broker;
use crate::sessions::{leave_a_session, resume};

crate::cases![
    a_message_that_has_expired_is_not_delivered_and_another_says_what_is_left,
    a_retained_message_expires_too,
    a_message_that_was_sent_once_does_not_expire,
    a_qos_2_exchange_goes_on_though_the_message_has_expired,
    a_session_is_discarded_when_its_expiry_has_passed,
    a_session_lasts_as_long_as_its_connection,
];

/// What is made to expire within a case, and a little more than that.
const SHORT: u32 = 2;
const LONGER_THAN_SHORT: Duration = Duration::from_millis(2_300);
/// How long the cluster may take to see that a session's time is over.
const GRACE: Duration = Duration::from_millis(1_500);
/// What does not expire within a case.
const LONG: u32 = 1_000;

fn expiring(topic: &str, payload: &str, qos: QoS, seconds: u32) -> Publish {
    let properties = PublishProperties { message_expiry: Some(seconds), ..PublishProperties::default() };
    Publish { properties: Some(Box::new(properties)), ..publication(topic, payload, qos) }
}

fn left(message: &Publish) -> Option<u32> {
    message.properties.as_ref().and_then(|properties| properties.message_expiry)
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
async fn a_message_that_has_expired_is_not_delivered_and_another_says_what_is_left(broker: Broker) {
    let topic = broker.topic("expires");
    let (v5, v311) = (broker.stays(Version::V5, "v5"), broker.stays(Version::V311, "v311"));
    for stays in [&v5, &v311] {
        leave_a_session(&broker, stays, &topic).await;
    }
    let mut live = broker.connect(broker.v5("live")).await;
    live.subscribe(&topic, QoS::ExactlyOnce).await;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    let published = Instant::now();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish_with(expiring(&topic, "short", qos, SHORT)).await;
        publisher.publish_with(expiring(&topic, "long", qos, LONG)).await;
    }
    publisher.publish_with(publication(topic.clone(), "end", QoS::AtLeastOnce)).await;
    assert_eq!(live.messages_before(b"end").await.len(), 4, "who is there gets them all");
    sleep(LONGER_THAN_SHORT).await;
    for stays in [&v5, &v311] {
        let came = resume(&broker, stays).await.messages_before(b"end").await;
        assert!(came.iter().all(|message| message.payload == "long"), "{came:?}");
        assert_eq!(came.len(), 2);
        for message in came.iter().filter(|_| stays.version == Version::V5) {
            let waited = published.elapsed().as_secs() as u32;
            let left = left(message).expect("an expiry");
            assert!((LONG - waited - 1..LONG).contains(&left), "{left} of {LONG} seconds after {waited}");
        }
    }
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
async fn a_retained_message_expires_too(broker: Broker) {
    let [short, long, end] = ["short", "long", "z"].map(|rest| broker.topic(rest));
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for (topic, seconds) in [(&short, SHORT), (&long, LONG), (&end, LONG)] {
        let payload = if topic == &end { "end" } else { "x" };
        let message = Publish { retain: true, ..expiring(topic, payload, QoS::AtLeastOnce, seconds) };
        publisher.publish_with(message).await;
    }
    sleep(LONGER_THAN_SHORT).await;
    let mut client = broker.connect(broker.v5("client")).await;
    for topic in [&short, &long, &end] {
        client.subscribe(topic, QoS::AtMostOnce).await;
    }
    let came = client.messages_before(b"end").await;
    let [message] = &came[..] else { panic!("{came:?}") };
    assert_eq!(message.topic, long);
    assert!(left(message).is_some_and(|left| left < LONG), "{message:?}");
}

/// [MQTT-4.3.3-7]
async fn a_message_that_was_sent_once_does_not_expire(broker: Broker) {
    let topic = broker.topic("sent");
    let stays = broker.stays(Version::V5, "stays");
    leave_a_session(&broker, &stays, &topic).await;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    publisher.publish_with(expiring(&topic, "sent", QoS::ExactlyOnce, SHORT)).await;
    let mut client = resume(&broker, &stays).await;
    let id = client.unacknowledged().await.packet_id;
    sleep(LONGER_THAN_SHORT).await;
    // Its client comes back for it, and then acknowledges it after it would have expired.
    client.ping().await;
    drop(client);
    let mut client = resume(&broker, &stays).await;
    let again = client.unacknowledged().await;
    assert_eq!((again.packet_id, &again.payload[..], again.dup), (id, &b"sent"[..], true));
    let id = id.expect("a packet identifier");
    client.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
    client.pubrel(id).await;
    client.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
    client.disconnect().await;
}

/// [MQTT-4.3.3-13]
async fn a_qos_2_exchange_goes_on_though_the_message_has_expired(broker: Broker) {
    let topic = broker.topic("exchange");
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut publisher = broker.connect(who).await;
        let id = PacketId::new(9).expect("not zero");
        let message = Publish { packet_id: Some(id), ..expiring(&topic, "x", QoS::ExactlyOnce, SHORT) };
        publisher.send(&Packet::Publish(message.clone())).await.expect("PUBLISH is sent");
        publisher.pubrec(id).await;
        sleep(LONGER_THAN_SHORT).await;
        publisher.send(&Packet::Publish(Publish { dup: true, ..message })).await.expect("PUBLISH is sent again");
        publisher.pubrec(id).await;
        publisher.send(&Packet::PubRel(ack(id))).await.expect("PUBREL is sent");
        assert_eq!(publisher.pubcomp(id).await.reason, ReasonCode::Success);
    }
}

fn lasting(connect: Connect, seconds: u32) -> Connect {
    let mut connect = connect;
    connect.properties.session_expiry = Some(seconds);
    connect
}

async fn is_present(broker: &Broker, connect: Connect) -> bool {
    let (client, connack) = broker.open(connect).await;
    client.disconnect().await;
    connack.session_present
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]
async fn a_session_is_discarded_when_its_expiry_has_passed(broker: Broker) {
    let short = lasting(broker.stays(Version::V5, "short"), SHORT);
    let broken = lasting(broker.stays(Version::V5, "broken"), SHORT);
    let long = lasting(broker.stays(Version::V5, "long"), LONG);
    for stays in [&short, &long] {
        leave_a_session(&broker, stays, &broker.topic("session")).await;
    }
    drop(broker.connect(broken.clone()).await);
    assert!(is_present(&broker, long.clone()).await);
    sleep(LONGER_THAN_SHORT + GRACE).await;
    assert!(!is_present(&broker, short).await, "its time is over");
    assert!(!is_present(&broker, broken).await, "its time is over, too");
    assert!(is_present(&broker, long).await);
}

/// [MQTT-4.1.0-1], [MQTT-4.1.0-2/3.1.1]
async fn a_session_lasts_as_long_as_its_connection(broker: Broker) {
    let topic = broker.topic("lasts");
    let mut clients: Vec<RawClient> = Vec::new();
    for who in
        [broker.v5("none"), lasting(broker.stays(Version::V5, "short"), SHORT), broker.who(Version::V311, "clean")]
    {
        let mut client = broker.connect(who).await;
        client.subscribe(&topic, QoS::AtLeastOnce).await;
        clients.push(client);
    }
    sleep(LONGER_THAN_SHORT + GRACE).await;
    broker.connect(broker.v5("publisher")).await.publish(&topic, b"still", QoS::AtLeastOnce).await;
    for client in &mut clients {
        assert_eq!(client.message(SOON).await.payload, "still");
    }
}
