//! Who is let in, and what comes first.

use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Received, SOON, publication};

use crate::broker::{Broker, Listener, STRICT, VERSIONS};
use crate::bytes::{Raw, connect, encoded, field, packet};

crate::cases![
    whatever_comes_before_a_connect_ends_the_connection,
    a_second_connect_ends_the_connection,
    another_protocol_name_is_not_served,
    a_protocol_level_that_is_not_served_is_told_so,
    a_connack_comes_once_and_before_anything_else,
    what_follows_a_refused_connect_is_not_processed,
    a_new_connection_of_a_client_ends_its_old_one,
];

/// [MQTT-3.1.0-1], [MQTT-3.1.0-1/3.1.1], [MQTT-3.14.0-1]
async fn whatever_comes_before_a_connect_ends_the_connection(broker: Broker) {
    let topic = field(broker.topic("early"));
    for bytes in [
        packet(0x20, &[&[0, 0]]),
        packet(0x30, &[&topic, b"x"]),
        packet(0x40, &[&[0, 1]]),
        packet(0x62, &[&[0, 1]]),
        packet(0x82, &[&[0, 1], &topic, &[0]]),
        packet(0xA2, &[&[0, 1], &topic]),
        vec![0xC0, 0],
        vec![0xE0, 0],
        vec![0xF0, 0],
        vec![0x00, 0],
    ] {
        let mut client = Raw::open(&broker).await;
        client.says(&bytes).await;
        client.ends().await;
    }
}

/// [MQTT-3.1.0-2], [MQTT-3.1.0-2/3.1.1], [MQTT-4.8.0-1/3.1.1]
async fn a_second_connect_ends_the_connection(broker: Broker) {
    for version in VERSIONS {
        let connect = broker.who(version, "twice");
        let mut client = broker.connect(connect.clone()).await;
        client.send(&Packet::Connect(Box::new(connect))).await.expect("CONNECT is sent again");
        let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
        assert_eq!(told, (version == Version::V5).then_some(ReasonCode::ProtocolError), "{version:?}");
    }
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-1/3.1.1]
async fn another_protocol_name_is_not_served(broker: Broker) {
    for (name, level) in [("", 4), ("MQTX", 5), ("mqtt", 5), ("MQTTT", 4), ("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3)] {
        let body = [&[level, 2, 0, 0][..], &field(broker.id("name"))].concat();
        let connect = packet(0x10, &[&field(name), &body]);
        let told = broker.refused(Version::V311, &connect).await.map(|connack| connack.reason);
        assert!(matches!(told, None | Some(ReasonCode::UnsupportedProtocolVersion)), "{name} {level}: {told:?}");
    }
}

/// [MQTT-3.1.2-2], [MQTT-3.1.2-2/3.1.1]
async fn a_protocol_level_that_is_not_served_is_told_so(broker: Broker) {
    for level in [0, 1, 2, 6, 7, 0x84, 0xFF] {
        let body = [&[level, 2, 0, 0][..], &field(broker.id("level"))].concat();
        let connect = packet(0x10, &[&field("MQTT"), &body]);
        let mut client = Raw::open(&broker).await;
        client.says(&connect).await;
        client.hears(&[0x20, 2, 0, 1]).await;
        client.ends().await;
    }
}

/// [MQTT-3.1.4-5], [MQTT-3.2.0-1], [MQTT-3.2.0-2], [MQTT-3.2.2-8], [MQTT-3.1.4-4/3.1.1], [MQTT-3.2.0-1/3.1.1]
async fn a_connack_comes_once_and_before_anything_else(broker: Broker) {
    for version in STRICT {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        let mut client = broker.connect(stays.clone()).await;
        client.subscribe(&topic, QoS::AtLeastOnce).await;
        client.disconnect().await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        publisher.publish(&topic, b"waits", QoS::AtLeastOnce).await;
        // Both at once: a message waits, and a request besides.
        let mut client = broker.tcp(version).await;
        let both = encoded(&[Packet::Connect(Box::new(stays)), Packet::PingReq], version);
        client.send_raw(&both).await.expect("both are sent");
        let mut heard = Vec::new();
        while !heard.contains(&Packet::PingResp) || !heard.iter().any(|packet| matches!(packet, Packet::Publish(_))) {
            match client.receive(SOON).await {
                Received::Packet(packet) => heard.push(packet),
                other => panic!("{other:?} behind {heard:?}"),
            }
        }
        assert!(matches!(&heard[0], Packet::ConnAck(connack) if connack.reason == ReasonCode::Success), "{heard:?}");
        assert_eq!(heard.iter().filter(|packet| matches!(packet, Packet::ConnAck(_))).count(), 1, "{heard:?}");
    }
}

/// [MQTT-3.1.4-6], [MQTT-3.1.4-5/3.1.1]
async fn what_follows_a_refused_connect_is_not_processed(broker: Broker) {
    let topic = broker.topic("refused");
    let mut subscriber = broker.connect(broker.v5("subscriber")).await;
    subscriber.subscribe(&topic, QoS::AtMostOnce).await;
    for (version, level) in [(Version::V311, 4), (Version::V5, 5)] {
        let publish = Packet::Publish(publication(topic.clone(), "from nobody", QoS::AtMostOnce));
        let refused = connect(level, 2, &[&field("not-only-letters")]);
        let both = [&refused[..], &encoded(&[publish], version)].concat();
        let told = broker.by(Listener::Small).refused(version, &both).await.expect("a CONNACK");
        assert_eq!(told.reason, ReasonCode::ClientIdentifierNotValid);
    }
    broker.connect(broker.v5("publisher")).await.publish(&topic, b"end", QoS::AtMostOnce).await;
    assert_eq!(subscriber.messages_before(b"end").await, []);
}

/// [MQTT-3.1.3-2], [MQTT-3.1.4-3], [MQTT-3.1.3-2/3.1.1], [MQTT-3.1.4-2/3.1.1]
async fn a_new_connection_of_a_client_ends_its_old_one(broker: Broker) {
    for old in VERSIONS {
        for new in VERSIONS {
            let mut first = broker.connect(broker.who(old, "same")).await;
            let mut bystander = broker.connect(broker.who(old, "other")).await;
            let mut second = broker.connect(broker.who(new, "same")).await;
            let told = first.closed(SOON).await.map(|disconnect| disconnect.reason);
            let expected = (old == Version::V5).then_some(ReasonCode::SessionTakenOver);
            assert_eq!(told, expected, "{old:?}, then {new:?}");
            second.ping().await;
            bystander.ping().await;
        }
    }
}
