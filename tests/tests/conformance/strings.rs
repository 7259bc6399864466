//! Strings in packets of a connected client.

use rollcall_proto::packet::{QoS, Version};
use rollcall_proto::reason::ReasonCode;

use crate::broker::{Broker, STRICT};
use crate::bytes::{field, packet};
use crate::malformed::ends_the_connection;

crate::cases![
    a_string_that_is_not_utf_8_ends_the_connection,
    the_strings_of_5_0_properties_are_strings,
    a_byte_order_mark_is_a_character_like_others,
    a_number_takes_as_few_bytes_as_it_can,
];

/// A surrogate, a code point in more bytes than it needs, one that is cut off, one beyond the last, and U+0000.
pub const NOT_STRINGS: [&[u8]; 5] = [b"a\xED\xA0\x80b", b"a\xC0\xAFb", b"ab\xE2\x82", b"\xF4\x90\x80\x80", b"a\0b"];

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-3.3.2-1], [MQTT-3.8.3-1], [MQTT-3.10.3-1], [MQTT-4.7.3-2],
/// [MQTT-1.5.3-1/3.1.1], [MQTT-1.5.3-2/3.1.1], [MQTT-3.3.2-1/3.1.1], [MQTT-3.8.3-1/3.1.1], [MQTT-3.10.3-1/3.1.1],
/// [MQTT-4.7.3-2/3.1.1]
async fn a_string_that_is_not_utf_8_ends_the_connection(broker: Broker) {
    for version in STRICT {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        for wrong in NOT_STRINGS.map(field) {
            for bytes in [
                packet(0x30, &[&wrong, none, b"x"]),
                packet(0x82, &[&[0, 1], none, &wrong, &[0]]),
                packet(0xA2, &[&[0, 1], none, &wrong]),
            ] {
                ends_the_connection(&broker, version, &bytes, &[ReasonCode::MalformedPacket]).await;
            }
        }
    }
}

/// [MQTT-1.5.7-1], [MQTT-3.3.2-13], [MQTT-3.3.2-19]
async fn the_strings_of_5_0_properties_are_strings(broker: Broker) {
    let topic = field(broker.topic("properties"));
    for wrong in NOT_STRINGS.map(field) {
        for property in [
            [&[0x03], &wrong[..]].concat(),
            [&[0x08], &wrong[..]].concat(),
            [&[0x26], &wrong[..], &field("value")].concat(),
            [&[0x26], &field("name")[..], &wrong].concat(),
        ] {
            let bytes = packet(0x30, &[&topic, &[property.len() as u8], &property, b"x"]);
            ends_the_connection(&broker, Version::V5, &bytes, &[ReasonCode::MalformedPacket]).await;
        }
    }
}

/// [MQTT-1.5.4-3], [MQTT-1.5.3-3/3.1.1]
async fn a_byte_order_mark_is_a_character_like_others(broker: Broker) {
    for version in STRICT {
        let plain = broker.topic(&format!("{}/mark", version.name()));
        let marked = format!("\u{FEFF}{plain}\u{FEFF}");
        let mut subscriber = broker.connect(broker.who(version, "subscriber")).await;
        subscriber.subscribe(&marked, QoS::AtMostOnce).await;
        let mut publisher = broker.connect(broker.who(version, "publisher")).await;
        publisher.publish(&plain, b"plain", QoS::AtMostOnce).await;
        publisher.publish(&marked, b"marked", QoS::AtMostOnce).await;
        let message = subscriber.message(rollcall_tests::client::SOON).await;
        assert_eq!((&*message.topic, &message.payload[..]), (&*marked, &b"marked"[..]));
    }
}

/// [MQTT-1.5.5-1]
async fn a_number_takes_as_few_bytes_as_it_can(broker: Broker) {
    let topic = field(broker.topic("number"));
    let rest = [&topic[..], &[0], b"x"].concat();
    let long_length = [&[0x30, rest.len() as u8 | 0x80, 0], &rest[..]].concat();
    let long_properties = packet(0x30, &[&topic, &[0x80, 0], b"x"]);
    let too_long = [&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01][..], &rest].concat();
    let long_id = packet(0x82, &[&[0, 1], &[3, 0x0B, 0x81, 0], &topic, &[0]]);
    for bytes in [long_length, long_properties, too_long, long_id] {
        ends_the_connection(&broker, Version::V5, &bytes, &[ReasonCode::MalformedPacket]).await;
    }
}
