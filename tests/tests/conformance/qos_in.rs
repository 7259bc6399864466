//! QoS 1 and 2 from client to broker.

use rollcall_proto::packet::{Packet, PacketId, Publish, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, ack, publication};

use crate::broker::{Broker, VERSIONS};

crate::cases![
    a_publish_is_answered_as_its_qos_asks,
    behind_its_puback_an_identifier_is_a_new_messages_whatever_dup_says,
    a_qos_2_message_is_delivered_once_however_often_it_comes_before_its_pubrel,
    behind_its_pubcomp_an_identifier_is_a_new_messages,
    behind_a_pubrec_that_refuses_an_identifier_is_a_new_messages,
    acknowledgements_come_in_the_order_of_the_publishes,
    a_pubrel_of_nothing_is_answered,
    a_publish_that_is_not_allowed_is_refused_or_ends_the_connection,
];

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not zero")
}

/// Sends a PUBLISH with that packet id, and waits for nothing.
async fn send(client: &mut RawClient, message: Publish, number: u16, dup: bool) {
    let publish = Publish { packet_id: Some(id(number)), dup, ..message };
    client.send(&Packet::Publish(publish)).await.expect("PUBLISH is sent");
}

async fn release(client: &mut RawClient, number: u16) {
    client.send(&Packet::PubRel(ack(id(number)))).await.expect("PUBREL is sent");
    client.pubcomp(id(number)).await;
}

/// A subscriber at QoS 2, and a publisher for each kind of session.
async fn ends(broker: &Broker, version: Version) -> (RawClient, [RawClient; 2]) {
    let mut subscriber = broker.connect(broker.v5("subscriber")).await;
    subscriber.subscribe(&broker.topic("#"), QoS::ExactlyOnce).await;
    let clean = broker.connect(broker.who(version, "clean")).await;
    let stays = broker.connect(broker.stays(version, &format!("stays{}", version.level()))).await;
    (subscriber, [clean, stays])
}

async fn payloads(subscriber: &mut RawClient, publisher: &mut RawClient, topic: &str) -> Vec<String> {
    publisher.publish(topic, b"end", QoS::ExactlyOnce).await;
    let came = subscriber.messages_before(b"end").await;
    came.into_iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

/// [MQTT-2.2.1-5], [MQTT-3.3.4-1], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.7.2-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8],
/// [MQTT-4.3.3-11], [MQTT-2.3.1-6/3.1.1], [MQTT-3.3.4-1/3.1.1], [MQTT-4.3.2-2/3.1.1], [MQTT-4.3.3-2/3.1.1]
async fn a_publish_is_answered_as_its_qos_asks(broker: Broker) {
    for version in VERSIONS {
        let (mut subscriber, publishers) = ends(&broker, version).await;
        let topic = broker.topic("answered");
        for mut publisher in publishers {
            send(&mut publisher, publication(topic.clone(), "1", QoS::AtLeastOnce), 11, false).await;
            assert_eq!(publisher.puback(id(11)).await, ack(id(11)));
            send(&mut publisher, publication(topic.clone(), "2", QoS::ExactlyOnce), 12, false).await;
            assert_eq!(publisher.pubrec(id(12)).await, ack(id(12)));
            publisher.send(&Packet::PubRel(ack(id(12)))).await.expect("PUBREL is sent");
            assert_eq!(publisher.pubcomp(id(12)).await, ack(id(12)));
            assert_eq!(payloads(&mut subscriber, &mut publisher, &topic).await, ["1", "2"], "{version:?}");
        }
    }
}

/// [MQTT-4.3.2-5], [MQTT-4.3.2-2/3.1.1]
async fn behind_its_puback_an_identifier_is_a_new_messages_whatever_dup_says(broker: Broker) {
    for version in VERSIONS {
        let (mut subscriber, publishers) = ends(&broker, version).await;
        let topic = broker.topic("again");
        for mut publisher in publishers {
            for (payload, dup) in [("1", false), ("2", true), ("3", false)] {
                send(&mut publisher, publication(topic.clone(), payload, QoS::AtLeastOnce), 7, dup).await;
                publisher.puback(id(7)).await;
            }
            assert_eq!(payloads(&mut subscriber, &mut publisher, &topic).await, ["1", "2", "3"], "{version:?}");
        }
    }
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-2/3.1.1]
async fn a_qos_2_message_is_delivered_once_however_often_it_comes_before_its_pubrel(broker: Broker) {
    for version in VERSIONS {
        let (mut subscriber, publishers) = ends(&broker, version).await;
        let topic = broker.topic("once");
        for mut publisher in publishers {
            for dup in [false, true, true] {
                send(&mut publisher, publication(topic.clone(), "once", QoS::ExactlyOnce), 7, dup).await;
                publisher.pubrec(id(7)).await;
            }
            release(&mut publisher, 7).await;
            assert_eq!(payloads(&mut subscriber, &mut publisher, &topic).await, ["once"], "{version:?}");
        }
    }
}

/// [MQTT-4.3.3-12], [MQTT-4.3.3-2/3.1.1]
async fn behind_its_pubcomp_an_identifier_is_a_new_messages(broker: Broker) {
    for version in VERSIONS {
        let (mut subscriber, publishers) = ends(&broker, version).await;
        let topic = broker.topic("new");
        for mut publisher in publishers {
            for (payload, dup) in [("1", false), ("2", true)] {
                send(&mut publisher, publication(topic.clone(), payload, QoS::ExactlyOnce), 7, dup).await;
                publisher.pubrec(id(7)).await;
                release(&mut publisher, 7).await;
            }
            assert_eq!(payloads(&mut subscriber, &mut publisher, &topic).await, ["1", "2"], "{version:?}");
        }
    }
}

/// [MQTT-4.3.3-9]
async fn behind_a_pubrec_that_refuses_an_identifier_is_a_new_messages(broker: Broker) {
    let (mut subscriber, publishers) = ends(&broker, Version::V5).await;
    let topic = broker.topic("refused");
    for mut publisher in publishers {
        send(&mut publisher, publication("$events/forged", "x", QoS::ExactlyOnce), 7, false).await;
        assert_eq!(publisher.pubrec(id(7)).await.reason, ReasonCode::NotAuthorized);
        send(&mut publisher, publication(topic.clone(), "new", QoS::ExactlyOnce), 7, true).await;
        assert_eq!(publisher.pubrec(id(7)).await.reason, ReasonCode::Success);
        release(&mut publisher, 7).await;
        assert_eq!(payloads(&mut subscriber, &mut publisher, &topic).await, ["new"]);
    }
}

/// [MQTT-4.6.0-2/3.1.1], [MQTT-4.6.0-3/3.1.1]
async fn acknowledgements_come_in_the_order_of_the_publishes(broker: Broker) {
    const MESSAGES: u16 = 50;
    for version in VERSIONS {
        let (mut subscriber, publishers) = ends(&broker, version).await;
        for mut publisher in publishers {
            for number in 1..=MESSAGES {
                let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                // Some go to nobody, and are answered sooner than others if the order does not matter.
                let topic = if number % 3 == 0 { "$nobody".into() } else { broker.topic("order") };
                send(&mut publisher, publication(topic, number.to_string(), qos), number, false).await;
            }
            let mut answers = Vec::new();
            while answers.len() < usize::from(MESSAGES) {
                let answer = |packet: &Packet| match packet {
                    Packet::PubAck(ack) | Packet::PubRec(ack) => Some(ack.packet_id.get()),
                    _ => None,
                };
                answers.push(publisher.wait_for("an acknowledgement", rollcall_tests::client::SOON, answer).await);
            }
            assert_eq!(answers, (1..=MESSAGES).collect::<Vec<_>>(), "{version:?}");
            for number in (1..=MESSAGES).step_by(2) {
                release(&mut publisher, number).await;
            }
            payloads(&mut subscriber, &mut publisher, &broker.topic("end")).await;
        }
    }
}

/// [MQTT-3.7.2-1], [MQTT-4.3.3-11]
async fn a_pubrel_of_nothing_is_answered(broker: Broker) {
    for version in VERSIONS {
        let (_, publishers) = ends(&broker, version).await;
        for mut publisher in publishers {
            publisher.send(&Packet::PubRel(ack(id(99)))).await.expect("PUBREL is sent");
            let expected =
                if version == Version::V5 { ReasonCode::PacketIdentifierNotFound } else { ReasonCode::Success };
            assert_eq!(publisher.pubcomp(id(99)).await.reason, expected);
        }
    }
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.3.5-2/3.1.1]
async fn a_publish_that_is_not_allowed_is_refused_or_ends_the_connection(broker: Broker) {
    for version in VERSIONS {
        for (number, exactly_once) in [(41, false), (42, true)] {
            let qos = if exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            let (mut subscriber, publishers) = ends(&broker, version).await;
            subscriber.subscribe("$events/forged", QoS::ExactlyOnce).await;
            for mut publisher in publishers {
                send(&mut publisher, publication("$events/forged", "x", qos), number, false).await;
                if version != Version::V5 {
                    // No acknowledgement could say so.
                    assert_eq!(publisher.closed(rollcall_tests::client::SOON).await, None);
                    continue;
                }
                let id = id(number);
                let told = if exactly_once { publisher.pubrec(id).await } else { publisher.puback(id).await };
                assert_eq!(told.reason, ReasonCode::NotAuthorized);
                publisher.ping().await;
            }
            let mut publisher = broker.connect(broker.v5("allowed")).await;
            assert_eq!(payloads(&mut subscriber, &mut publisher, &broker.topic("allowed")).await, [""; 0]);
        }
    }
}
