//! Packets that are none, and packets that break the rules: each ends its own connection.

use rollcall_proto::packet::Version;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::SOON;

use crate::broker::{Broker, STRICT, VERSIONS};
use crate::bytes::{field, packet};

crate::cases![
    reserved_header_flags_end_the_connection,
    qos_3_ends_the_connection,
    a_qos_0_publish_is_no_duplicate,
    a_packet_identifier_of_0_ends_the_connection,
    a_request_without_a_filter_ends_the_connection,
    reserved_subscription_options_end_the_connection,
    a_topic_to_publish_to_has_no_wildcards_and_is_not_empty,
    a_protocol_error_ends_the_connection_with_its_code,
    what_only_a_server_sends_ends_the_connection,
];

const MALFORMED: &[ReasonCode] = &[ReasonCode::MalformedPacket];
const EITHER: &[ReasonCode] = &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket];

/// What a connected client sends ends its connection: a 5.0 client is told one of these reasons by a DISCONNECT first, a
/// 3.x client nothing.
pub async fn ends_the_connection(broker: &Broker, version: Version, bytes: &[u8], reasons: &[ReasonCode]) {
    let mut client = broker.connect(broker.who(version, "clumsy")).await;
    client.send_raw(bytes).await.expect("bytes are sent");
    let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
    match version {
        Version::V5 => assert!(told.is_some_and(|told| reasons.contains(&told)), "{told:?} after {bytes:02X?}"),
        Version::V31 | Version::V311 => assert_eq!(told, None, "{bytes:02X?}"),
    }
}

/// The bytes of no properties.
fn none(version: Version) -> &'static [u8] {
    if version == Version::V5 { &[0] } else { &[] }
}

/// [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1],
/// [MQTT-2.2.2-1/3.1.1], [MQTT-2.2.2-2/3.1.1], [MQTT-3.6.1-1/3.1.1], [MQTT-3.8.1-1/3.1.1], [MQTT-3.10.1-1/3.1.1],
/// [MQTT-3.14.1-1/3.1.1]
async fn reserved_header_flags_end_the_connection(broker: Broker) {
    let topic = field(broker.topic("flags"));
    for version in STRICT {
        let subscribe = [&[0, 1], none(version), &topic, &[0]].concat();
        let unsubscribe = [&[0, 1], none(version), &topic].concat();
        let packets: [(u8, u8, &[u8]); 8] = [
            (0x40, 0, &[0, 1]),
            (0x50, 0, &[0, 1]),
            (0x60, 2, &[0, 1]),
            (0x70, 0, &[0, 1]),
            (0x80, 2, &subscribe),
            (0xA0, 2, &unsubscribe),
            (0xC0, 0, &[]),
            (0xE0, 0, &[]),
        ];
        for (kind, right, body) in packets {
            for wrong in [0b0001, 0b0010, 0b0100, 0b1000].map(|bit| right ^ bit) {
                ends_the_connection(&broker, version, &packet(kind | wrong, &[body]), MALFORMED).await;
            }
        }
    }
    ends_the_connection(&broker, Version::V5, &[0xF1, 0], MALFORMED).await;
}

/// [MQTT-3.3.1-4], [MQTT-3.3.1-4/3.1.1]
async fn qos_3_ends_the_connection(broker: Broker) {
    let topic = field(broker.topic("qos"));
    for version in VERSIONS {
        let bytes = packet(0x36, &[&topic, &[0, 1], none(version), b"x"]);
        ends_the_connection(&broker, version, &bytes, MALFORMED).await;
    }
}

/// [MQTT-3.3.1-2], [MQTT-3.3.1-2/3.1.1]
async fn a_qos_0_publish_is_no_duplicate(broker: Broker) {
    let topic = field(broker.topic("dup"));
    for version in STRICT {
        ends_the_connection(&broker, version, &packet(0x38, &[&topic, none(version), b"x"]), EITHER).await;
    }
}

/// [MQTT-2.2.1-3], [MQTT-2.3.1-1/3.1.1]
async fn a_packet_identifier_of_0_ends_the_connection(broker: Broker) {
    let topic = field(broker.topic("id"));
    for version in STRICT {
        for bytes in [
            packet(0x32, &[&topic, &[0, 0], none(version), b"x"]),
            packet(0x34, &[&topic, &[0, 0], none(version), b"x"]),
            packet(0x82, &[&[0, 0], none(version), &topic, &[0]]),
            packet(0xA2, &[&[0, 0], none(version), &topic]),
        ] {
            ends_the_connection(&broker, version, &bytes, EITHER).await;
        }
    }
}

/// [MQTT-3.8.3-2], [MQTT-3.10.3-2], [MQTT-3.8.3-3/3.1.1], [MQTT-3.10.3-2/3.1.1]
async fn a_request_without_a_filter_ends_the_connection(broker: Broker) {
    for version in VERSIONS {
        for first in [0x82, 0xA2] {
            ends_the_connection(&broker, version, &packet(first, &[&[0, 1], none(version)]), EITHER).await;
        }
    }
}

/// [MQTT-3.8.3-5], [MQTT-3.8.3-4/3.1.1]
async fn reserved_subscription_options_end_the_connection(broker: Broker) {
    let topic = field(broker.topic("options"));
    for (version, wrong) in [
        (Version::V311, &[0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80][..]),
        // QoS 3, retain handling 3, and the two bits that are reserved.
        (Version::V5, &[0x03, 0x30, 0x40, 0x80]),
    ] {
        for options in wrong {
            let bytes = packet(0x82, &[&[0, 1], none(version), &topic, &[*options]]);
            ends_the_connection(&broker, version, &bytes, EITHER).await;
        }
    }
}

/// [MQTT-3.3.2-2], [MQTT-3.3.2-14], [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-3.3.2-2/3.1.1], [MQTT-4.7.1-1/3.1.1],
/// [MQTT-4.7.3-1/3.1.1]
async fn a_topic_to_publish_to_has_no_wildcards_and_is_not_empty(broker: Broker) {
    for version in VERSIONS {
        for wrong in ["", "#", "+", "a/#", "a/+/b", "a+", "#a"] {
            let bytes = packet(0x30, &[&field(wrong), none(version), b"x"]);
            let reasons = [ReasonCode::TopicNameInvalid, ReasonCode::ProtocolError];
            ends_the_connection(&broker, version, &bytes, &reasons).await;
        }
    }
    let topic = field(broker.topic("request"));
    for wrong in ["reply/+", "#"] {
        let property = [&[0x08], &field(wrong)[..]].concat();
        let bytes = packet(0x30, &[&topic, &[property.len() as u8], &property, b"x"]);
        let reasons = [ReasonCode::TopicNameInvalid, ReasonCode::ProtocolError];
        ends_the_connection(&broker, Version::V5, &bytes, &reasons).await;
    }
}

/// [MQTT-4.13.1-1], [MQTT-4.13.2-1], [MQTT-4.8.0-1/3.1.1]
async fn a_protocol_error_ends_the_connection_with_its_code(broker: Broker) {
    let topic = field(broker.topic("wrong"));
    let publish = |properties: &[u8]| packet(0x30, &[&topic, &[properties.len() as u8], properties, b"x"]);
    let subscribe = |properties: &[u8]| packet(0x82, &[&[0, 1], &[properties.len() as u8], properties, &topic, &[0]]);
    for (what, bytes, reasons) in [
        ("packet type 0", vec![0, 0], MALFORMED),
        ("an unknown property", publish(&[0x7F, 0]), MALFORMED),
        ("a property of another packet", publish(&[0x11, 0, 0, 0, 1]), EITHER),
        ("a property twice", publish(&[0x01, 0, 0x01, 0]), EITHER),
        ("a flag that is neither 0 nor 1", publish(&[0x01, 2]), EITHER),
        ("a property that is cut off", publish(&[0x02, 0, 0]), MALFORMED),
        ("subscription identifier 0", subscribe(&[0x0B, 0]), EITHER),
        ("two subscription identifiers", subscribe(&[0x0B, 1, 0x0B, 2]), EITHER),
        ("an unknown reason", vec![0x40, 3, 0, 1, 0x55], EITHER),
        ("PINGREQ with a body", vec![0xC0, 1, 0], MALFORMED),
        ("a topic longer than its packet", vec![0x30, 4, 0, 9, b'a', 0], MALFORMED),
    ] {
        let mut client = broker.connect(broker.v5("wrong")).await;
        client.send_raw(&bytes).await.expect("bytes are sent");
        let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
        assert!(told.is_some_and(|told| reasons.contains(&told)), "{what}: {told:?}");
    }
    for bytes in [vec![0, 0], vec![0xC0, 1, 0], vec![0xF0, 0], vec![0x30, 4, 0, 9, b'a', 0]] {
        ends_the_connection(&broker, Version::V311, &bytes, MALFORMED).await;
    }
}

/// [MQTT-4.13.1-1], [MQTT-4.8.0-1/3.1.1]
async fn what_only_a_server_sends_ends_the_connection(broker: Broker) {
    for version in VERSIONS {
        let suback = packet(0x90, &[&[0, 1], none(version), &[0]]);
        let unsuback: &[u8] = if version == Version::V5 { &[0xB0, 4, 0, 1, 0, 0] } else { &[0xB0, 2, 0, 1] };
        let connack: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        for bytes in [connack, &suback, unsuback, &[0xD0, 0]] {
            ends_the_connection(&broker, version, bytes, EITHER).await;
        }
    }
}
