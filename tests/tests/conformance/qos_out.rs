//! QoS 1 and 2 from broker to client, on one connection.

use rollcall_proto::packet::{Ack, Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, ack};

use crate::broker::{Broker, VERSIONS};

crate::cases![
    a_message_is_sent_with_its_qos_and_no_dup,
    an_incoming_dup_says_nothing_about_the_outgoing_one,
    a_pubrec_is_answered_by_its_pubrel,
    pubrels_come_in_the_order_of_the_pubrecs,
    a_pubrec_that_refuses_ends_the_delivery,
    nothing_is_sent_again_on_a_connection_that_stands,
];

/// A subscriber at QoS 2 of each kind of session, and a publisher.
async fn ends(broker: &Broker, version: Version) -> ([RawClient; 2], RawClient) {
    let connects = [broker.who(version, "clean"), broker.stays(version, &format!("stays{}", version.level()))];
    let mut subscribers = Vec::new();
    for connect in connects {
        let mut subscriber = broker.connect(connect).await;
        subscriber.subscribe(&broker.topic(version.name()), QoS::ExactlyOnce).await;
        subscribers.push(subscriber);
    }
    let publisher = broker.connect(broker.v5("publisher")).await;
    (subscribers.try_into().expect("two of them"), publisher)
}

/// [MQTT-3.3.1-2], [MQTT-4.3.1-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2], [MQTT-3.3.1-2/3.1.1], [MQTT-4.3.1-1/3.1.1],
/// [MQTT-4.3.2-1/3.1.1], [MQTT-4.3.3-1/3.1.1]
async fn a_message_is_sent_with_its_qos_and_no_dup(broker: Broker) {
    for version in VERSIONS {
        let (subscribers, mut publisher) = ends(&broker, version).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish(&broker.topic(version.name()), b"x", qos).await;
        }
        for mut subscriber in subscribers {
            for _ in 0..3 {
                let message = subscriber.unacknowledged().await;
                assert_eq!(message.packet_id.is_some(), message.qos != QoS::AtMostOnce);
                assert!(!message.dup, "{version:?} {:?}", message.qos);
            }
        }
    }
}

/// [MQTT-3.3.1-3], [MQTT-3.3.1-3/3.1.1]
async fn an_incoming_dup_says_nothing_about_the_outgoing_one(broker: Broker) {
    for version in VERSIONS {
        let (mut subscribers, _) = ends(&broker, version).await;
        let mut publisher = broker.connect(broker.who(version, "repeats")).await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut message = rollcall_tests::client::publication(broker.topic(version.name()), "x", qos);
            message.dup = true;
            publisher.publish_with(message).await;
            for subscriber in &mut subscribers {
                assert!(!subscriber.message(rollcall_tests::client::SOON).await.dup, "{version:?} {qos:?}");
            }
        }
    }
}

/// [MQTT-2.2.1-5], [MQTT-3.6.2-1], [MQTT-3.6.2-2], [MQTT-3.6.2-3], [MQTT-4.3.3-4], [MQTT-2.3.1-6/3.1.1], [MQTT-4.3.3-1/3.1.1]
async fn a_pubrec_is_answered_by_its_pubrel(broker: Broker) {
    for version in VERSIONS {
        let (subscribers, mut publisher) = ends(&broker, version).await;
        publisher.publish(&broker.topic(version.name()), b"x", QoS::ExactlyOnce).await;
        for mut subscriber in subscribers {
            let id = subscriber.unacknowledged().await.packet_id.expect("a packet identifier");
            for _ in 0..2 {
                // The same PUBREC again is answered again.
                subscriber.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
                assert_eq!(subscriber.pubrel(id).await, ack(id));
            }
            subscriber.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
            subscriber.ping().await;
        }
    }
}

/// [MQTT-4.6.0-4/3.1.1]
async fn pubrels_come_in_the_order_of_the_pubrecs(broker: Broker) {
    const MESSAGES: usize = 10;
    for version in VERSIONS {
        let (subscribers, mut publisher) = ends(&broker, version).await;
        for _ in 0..MESSAGES {
            publisher.publish(&broker.topic(version.name()), b"x", QoS::ExactlyOnce).await;
        }
        for mut subscriber in subscribers {
            let mut ids = Vec::new();
            for _ in 0..MESSAGES {
                ids.push(subscriber.unacknowledged().await.packet_id.expect("a packet identifier"));
            }
            // In an order of its own.
            ids.reverse();
            for id in &ids {
                subscriber.send(&Packet::PubRec(ack(*id))).await.expect("PUBREC is sent");
            }
            for id in ids {
                let pubrel =
                    |packet: &Packet| if let Packet::PubRel(rel) = packet { Some(rel.packet_id) } else { None };
                let came = subscriber.wait_for("PUBREL", rollcall_tests::client::SOON, pubrel).await;
                assert_eq!(came, id, "{version:?}");
            }
        }
    }
}

/// [MQTT-4.3.3-4], [MQTT-4.4.0-2]
async fn a_pubrec_that_refuses_ends_the_delivery(broker: Broker) {
    let (subscribers, mut publisher) = ends(&broker, Version::V5).await;
    let topic = broker.topic(Version::V5.name());
    publisher.publish(&topic, b"unwanted", QoS::ExactlyOnce).await;
    publisher.publish(&topic, b"unwanted", QoS::AtLeastOnce).await;
    for subscriber in subscribers {
        let mut subscriber = subscriber;
        for _ in 0..2 {
            let message = subscriber.unacknowledged().await;
            let packet_id = message.packet_id.expect("a packet identifier");
            let refusal = Ack { packet_id, reason: ReasonCode::QuotaExceeded, properties: None };
            let refusal =
                if message.qos == QoS::ExactlyOnce { Packet::PubRec(refusal) } else { Packet::PubAck(refusal) };
            subscriber.send(&refusal).await.expect("the refusal is sent");
        }
        subscriber.ping().await;
        match subscriber.receive(std::time::Duration::ZERO).await {
            rollcall_tests::client::Received::Silence => {}
            other => panic!("{other:?} behind a refusal"),
        }
    }
}

/// [MQTT-4.4.0-1]
async fn nothing_is_sent_again_on_a_connection_that_stands(broker: Broker) {
    for version in VERSIONS {
        let (subscribers, mut publisher) = ends(&broker, version).await;
        let topic = broker.topic(version.name());
        publisher.publish(&topic, b"1", QoS::AtLeastOnce).await;
        publisher.publish(&topic, b"2", QoS::ExactlyOnce).await;
        publisher.publish(&topic, b"3", QoS::AtLeastOnce).await;
        for mut subscriber in subscribers {
            for expected in ["1", "2", "3"] {
                assert_eq!(subscriber.unacknowledged().await.payload, expected, "{version:?}");
            }
            for _ in 0..3 {
                subscriber.ping().await;
            }
            assert_eq!(subscriber.messages_set_aside().count(), 0, "{version:?}");
        }
    }
}
