//! What a session that is resumed is sent again, and what not.

use rollcall_proto::packet::{Ack, Packet, QoS};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{SOON, ack};

use crate::broker::{Broker, STRICT, VERSIONS};
use crate::sessions::{leave_a_session, resume};

crate::cases![
    what_was_not_acknowledged_comes_again_with_dup_in_order_under_its_identifier,
    what_was_acknowledged_does_not_come_again,
    behind_its_pubrel_a_publish_is_not_sent_again,
    what_was_refused_does_not_come_again,
    a_publisher_goes_on_where_its_connection_broke,
];

/// [MQTT-3.3.1-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.4.0-1], [MQTT-3.3.1-1/3.1.1], [MQTT-4.3.2-1/3.1.1],
/// [MQTT-4.3.3-1/3.1.1], [MQTT-4.4.0-1/3.1.1], [MQTT-4.6.0-1/3.1.1]
async fn what_was_not_acknowledged_comes_again_with_dup_in_order_under_its_identifier(broker: Broker) {
    const MESSAGES: usize = 6;
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for number in 0..MESSAGES {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publisher.publish(&topic, number.to_string().as_bytes(), qos).await;
        }
        let mut sent = Vec::new();
        for dup in [false, true, true] {
            let mut client = resume(&broker, &stays).await;
            let mut came = Vec::new();
            for _ in 0..MESSAGES {
                let message = client.unacknowledged().await;
                assert_eq!(message.dup, dup, "{version:?}");
                came.push((message.packet_id, message.qos, message.payload));
            }
            if sent.is_empty() {
                sent = came;
            } else {
                assert_eq!(came, sent, "{version:?}");
            }
        }
    }
}

/// [MQTT-4.4.0-1], [MQTT-4.4.0-1/3.1.1]
async fn what_was_acknowledged_does_not_come_again(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish(&topic, b"done", qos).await;
        }
        let mut client = resume(&broker, &stays).await;
        for _ in 0..2 {
            assert_eq!(client.message(SOON).await.payload, "done");
        }
        client.disconnect().await;
        publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
        assert_eq!(resume(&broker, &stays).await.messages_before(b"end").await, [], "{version:?}");
    }
}

/// [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.4.0-1], [MQTT-4.3.3-1/3.1.1], [MQTT-4.4.0-1/3.1.1]
async fn behind_its_pubrel_a_publish_is_not_sent_again(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        publisher.publish(&topic, b"halfway", QoS::ExactlyOnce).await;
        let mut client = resume(&broker, &stays).await;
        let id = client.unacknowledged().await.packet_id.expect("a packet identifier");
        client.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
        client.pubrel(id).await;
        drop(client);
        publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
        for _ in 0..2 {
            let mut client = resume(&broker, &stays).await;
            client.pubrel(id).await;
            let next = client.unacknowledged().await;
            assert_eq!(next.payload, "end", "{version:?}");
        }
        let mut client = resume(&broker, &stays).await;
        client.pubrel(id).await;
        client.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
        assert_eq!(client.messages_before(b"end").await, []);
        client.disconnect().await;
        publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
        let mut client = resume(&broker, &stays).await;
        assert_eq!(client.messages_before(b"end").await, [], "{version:?}");
        client.ping().await;
    }
}

/// [MQTT-4.4.0-2]
async fn what_was_refused_does_not_come_again(broker: Broker) {
    let topic = broker.topic("refused");
    let stays = broker.stays(rollcall_proto::packet::Version::V5, "stays");
    leave_a_session(&broker, &stays, &topic).await;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish(&topic, b"unwanted", qos).await;
    }
    let mut client = resume(&broker, &stays).await;
    for _ in 0..2 {
        let message = client.unacknowledged().await;
        let packet_id = message.packet_id.expect("a packet identifier");
        let refusal = Ack { packet_id, reason: ReasonCode::ImplementationSpecificError, properties: None };
        let refusal = if message.qos == QoS::ExactlyOnce { Packet::PubRec(refusal) } else { Packet::PubAck(refusal) };
        client.send(&refusal).await.expect("the refusal is sent");
    }
    client.disconnect().await;
    publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
    assert_eq!(resume(&broker, &stays).await.messages_before(b"end").await, []);
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-11], [MQTT-4.4.0-1], [MQTT-4.1.0-1/3.1.1], [MQTT-4.3.3-2/3.1.1]
async fn a_publisher_goes_on_where_its_connection_broke(broker: Broker) {
    for version in STRICT {
        let topic = broker.topic(version.name());
        let mut subscriber = broker.connect(broker.v5("subscriber")).await;
        subscriber.subscribe(&topic, QoS::ExactlyOnce).await;
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        let mut publisher = broker.connect(stays.clone()).await;
        let id = rollcall_proto::packet::PacketId::new(7).expect("not zero");
        let mut message = rollcall_tests::client::publication(topic.clone(), "once", QoS::ExactlyOnce);
        message.packet_id = Some(id);
        publisher.send(&Packet::Publish(message.clone())).await.expect("PUBLISH is sent");
        publisher.pubrec(id).await;
        drop(publisher);
        let mut publisher = resume(&broker, &stays).await;
        message.dup = true;
        publisher.send(&Packet::Publish(message)).await.expect("PUBLISH is sent again");
        publisher.pubrec(id).await;
        drop(publisher);
        let mut publisher = resume(&broker, &stays).await;
        publisher.send(&Packet::PubRel(ack(id))).await.expect("PUBREL is sent");
        publisher.pubcomp(id).await;
        publisher.publish(&topic, b"end", QoS::ExactlyOnce).await;
        assert_eq!(subscriber.messages_before(b"end").await.len(), 1, "{version:?}");
    }
}
