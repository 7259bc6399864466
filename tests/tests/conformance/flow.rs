//! What a client allows to be sent to it.

use bytes::Bytes;
use rollcall_proto::packet::{Connect, Packet, Publish, QoS, Version};
use rollcall_tests::client::{RawClient, ack, publication};

use crate::broker::Broker;
use crate::bytes::{Raw, encoded, field, packet};
use crate::sessions::resume;

crate::cases![
    no_more_than_the_receive_maximum_is_in_flight,
    a_full_receive_maximum_holds_nothing_else_back,
    a_qos_2_delivery_counts_until_its_pubcomp,
    a_message_too_large_for_its_subscriber_counts_as_delivered,
    no_packet_is_larger_than_its_client_allows,
];

fn receiving(connect: Connect, receive_maximum: u16) -> Connect {
    let mut connect = connect;
    connect.properties.receive_maximum = Some(receive_maximum);
    connect
}

/// The next messages, unacknowledged, up to what the client allows; then nothing that takes a place comes any more.
async fn fill(client: &mut RawClient, most: u16) -> Vec<Publish> {
    let mut came = Vec::new();
    for _ in 0..most {
        came.push(client.unacknowledged().await);
    }
    client.ping().await;
    assert_eq!(client.messages_set_aside().count(), 0, "more than {most} in flight");
    came
}

async fn acknowledge(client: &mut RawClient, message: &Publish) {
    let id = message.packet_id.expect("a packet identifier");
    if message.qos == QoS::AtLeastOnce {
        return client.send(&Packet::PubAck(ack(id))).await.expect("PUBACK is sent");
    }
    client.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
    client.pubrel(id).await;
    client.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2]
async fn no_more_than_the_receive_maximum_is_in_flight(broker: Broker) {
    const MESSAGES: usize = 6;
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        for most in [1, 2, 5] {
            let topic = broker.topic("flow");
            let mut client = broker.connect(receiving(who.clone(), most)).await;
            client.subscribe(&topic, QoS::ExactlyOnce).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            for number in 0..MESSAGES {
                let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                publisher.publish(&topic, number.to_string().as_bytes(), qos).await;
            }
            let mut open = fill(&mut client, most).await;
            let mut came = open.len();
            while came < MESSAGES {
                acknowledge(&mut client, &open.remove(0)).await;
                open.extend(fill(&mut client, 1).await);
                came += 1;
            }
            for message in open {
                acknowledge(&mut client, &message).await;
            }
            client.disconnect().await;
        }
    }
}

/// [MQTT-3.3.4-10], [MQTT-4.9.0-3]
async fn a_full_receive_maximum_holds_nothing_else_back(broker: Broker) {
    let (flow, free) = (broker.topic("flow"), broker.topic("free"));
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(receiving(who, 1)).await;
        client.subscribe(&flow, QoS::AtLeastOnce).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for _ in 0..3 {
            publisher.publish(&flow, b"waits", QoS::AtLeastOnce).await;
        }
        fill(&mut client, 1).await;
        // All of these are asked for, and answered, with no place left.
        client.ping().await;
        client.subscribe(&free, QoS::AtMostOnce).await;
        publisher.publish(&free, b"free", QoS::AtMostOnce).await;
        assert_eq!(client.unacknowledged().await.payload, "free", "QoS 0 takes no place");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            client.publish_with(publication(broker.topic("elsewhere"), "x", qos)).await;
        }
        client.unsubscribe(&free).await;
        assert_eq!(client.messages_set_aside().count(), 0, "none of the others came meanwhile");
    }
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-2]
async fn a_qos_2_delivery_counts_until_its_pubcomp(broker: Broker) {
    let topic = broker.topic("flow");
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(receiving(who, 1)).await;
        client.subscribe(&topic, QoS::ExactlyOnce).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for payload in ["1", "2"] {
            publisher.publish(&topic, payload.as_bytes(), QoS::ExactlyOnce).await;
        }
        let first = fill(&mut client, 1).await.remove(0);
        let id = first.packet_id.expect("a packet identifier");
        client.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
        client.pubrel(id).await;
        client.ping().await;
        assert_eq!(client.messages_set_aside().count(), 0, "its place is not free");
        client.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
        assert_eq!(client.unacknowledged().await.payload, "2");
    }
}

fn allowing(connect: Connect, maximum_packet_size: u32) -> Connect {
    let mut connect = connect;
    connect.properties.maximum_packet_size = Some(maximum_packet_size);
    connect
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
async fn a_message_too_large_for_its_subscriber_counts_as_delivered(broker: Broker) {
    let topic = broker.topic("large");
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            // A place that the large message kept would be the only one.
            let mut client = broker.connect(receiving(allowing(who.clone(), 100), 1)).await;
            client.subscribe(&topic, QoS::ExactlyOnce).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            // Header and length, topic with its length, packet identifier, and no properties.
            let fits = 100 - 2 - 2 - topic.len() - if qos == QoS::AtMostOnce { 0 } else { 2 } - 1;
            for len in [200, fits, fits + 1] {
                let payload = Bytes::from(vec![b'x'; len]);
                publisher.publish_with(Publish { payload, ..publication(topic.clone(), "", qos) }).await;
            }
            publisher.publish(&topic, b"end", qos).await;
            let came: Vec<usize> = client.messages_before(b"end").await.iter().map(|m| m.payload.len()).collect();
            assert_eq!(came, [fits], "{qos:?}");
            client.disconnect().await;
            if who.clean_start {
                continue;
            }
            // Nor does it come when the client allows more.
            publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
            let mut client = resume(&broker, &who).await;
            assert_eq!(client.messages_before(b"end").await, [], "{qos:?}");
            client.disconnect().await;
        }
    }
}

/// [MQTT-3.1.2-24], [MQTT-3.2.2-19], [MQTT-3.2.2-20], [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3],
/// [MQTT-3.7.2-2], [MQTT-3.7.2-3], [MQTT-3.9.2-1], [MQTT-3.9.2-2], [MQTT-3.11.2-1],
/// [MQTT-3.11.2-2], [MQTT-3.14.2-3], [MQTT-3.14.2-4]
async fn no_packet_is_larger_than_its_client_allows(broker: Broker) {
    let good = field(broker.topic("good"));
    let filters: Vec<u8> = (0..30).flat_map(|_| [&good[..], &[0]].concat()).collect();
    let connect = |most| encoded(&[Packet::Connect(Box::new(allowing(broker.v5("small"), most)))], Version::V5);
    let said = [
        packet(0x82, &[&[0, 1, 0], &filters]),
        packet(0xA2, &[&[0, 2, 0], &good, &good, &good, &field("wrong#")]),
        packet(0x32, &[&field("$events/forged"), &[0, 3, 0], b"x"]),
        packet(0x34, &[&field("$events/forged"), &[0, 4, 0], b"x"]),
        packet(0x62, &[&[0, 99]]),
        vec![0xC0, 0],
    ]
    .concat();
    // As many as the requests, and the CONNACK.
    const ANSWERS: usize = 7;
    for most in 1..=60 {
        let mut client = Raw::open(&broker).await;
        client.says(&[&connect(most)[..], &said].concat()).await;
        let mut heard = client.hears_up_to(ANSWERS).await;
        if heard.len() == ANSWERS {
            client.says(&[0xC1, 0]).await;
            heard.extend(client.hears_all().await);
        }
        let largest = heard.iter().map(Vec::len).max().unwrap_or(0);
        assert!(largest <= most as usize, "{largest} bytes for a client that takes {most}: {heard:02X?}");
        // From where everything fits, everything comes.
        assert!(most < 40 || heard.len() == ANSWERS + 1, "{most}: {heard:02X?}");
    }
}
