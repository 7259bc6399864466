//! What a CONNECT says, and what it must not.

use rollcall_proto::packet::{ConnAck, Connect, Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::SOON;

use crate::broker::{Broker, STRICT};
use crate::bytes::{connect, field, packet};

crate::cases![
    the_reserved_flag_of_a_connect_is_not_set,
    will_flags_that_contradict_each_other_are_refused,
    fields_are_there_exactly_where_the_flags_say_so,
    before_5_0_a_password_needs_a_user_name,
    the_fields_of_a_connect_are_read_in_their_order,
    a_connect_with_a_string_that_is_none_is_refused,
    what_a_connect_lacks_or_has_too_much_of_ends_the_connection,
];

/// The two versions that are strict, as numbers.
const LEVELS: [u8; 2] = [4, 5];

/// Each version's refusal of a CONNECT that is malformed: 5.0 says so, 3.1.1 has no word for it.
async fn is_malformed(broker: &Broker, level: u8, bytes: &[u8]) {
    let version = Version::from_level(level).expect("a version");
    let told = broker.refused(version, bytes).await.map(|ConnAck { reason, .. }| reason);
    let expected = (level == 5).then_some(ReasonCode::MalformedPacket);
    assert_eq!(told, expected, "{bytes:02X?}");
}

/// The fields of a will.
fn will(level: u8, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    [properties, &field(topic), &field(payload)].concat()
}

/// [MQTT-3.1.2-3], [MQTT-3.1.2-3/3.1.1]
async fn the_reserved_flag_of_a_connect_is_not_set(broker: Broker) {
    for level in LEVELS {
        is_malformed(&broker, level, &connect(level, 0x03, &[&field(broker.id("flag"))])).await;
    }
}

/// [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13], [MQTT-3.1.2-11/3.1.1], [MQTT-3.1.2-13/3.1.1],
/// [MQTT-3.1.2-14/3.1.1], [MQTT-3.1.2-15/3.1.1]
async fn will_flags_that_contradict_each_other_are_refused(broker: Broker) {
    let id = field(broker.id("flags"));
    for level in LEVELS {
        // A QoS, or RETAIN, without a will.
        for flags in [0x08, 0x10, 0x18, 0x20] {
            is_malformed(&broker, level, &connect(level, 0x02 | flags, &[&id])).await;
        }
        let will = will(level, broker.topic("will").as_bytes(), b"x");
        is_malformed(&broker, level, &connect(level, 0x02 | 0x04 | 0x18, &[&id, &will])).await;
        for flags in [0x00, 0x08, 0x10] {
            accepts(&broker, level, &connect(level, 0x02 | 0x04 | flags, &[&id, &will])).await;
        }
    }
}

/// [MQTT-3.1.2-9], [MQTT-3.1.2-16], [MQTT-3.1.2-17], [MQTT-3.1.2-18], [MQTT-3.1.2-19], [MQTT-3.1.2-9/3.1.1],
/// [MQTT-3.1.2-11/3.1.1], [MQTT-3.1.2-18/3.1.1], [MQTT-3.1.2-19/3.1.1], [MQTT-3.1.2-20/3.1.1], [MQTT-3.1.2-21/3.1.1]
async fn fields_are_there_exactly_where_the_flags_say_so(broker: Broker) {
    let (id, user, password) = (field(broker.id("fields")), field("user"), field("password"));
    for level in LEVELS {
        let will = will(level, broker.topic("will").as_bytes(), b"x");
        let topic_only = &will[..will.len() - 3];
        let wrong: [(u8, &[&[u8]]); 8] = [
            (0x02, &[&id, &will]),
            (0x02, &[&id, &user]),
            (0x06, &[&id]),
            (0x06, &[&id, topic_only]),
            (0x82, &[&id]),
            (0x82, &[&id, &user, &password]),
            (0xC2, &[&id, &user]),
            (0xC6, &[&id, &user, &password]),
        ];
        for (flags, fields) in wrong {
            is_malformed(&broker, level, &connect(level, flags, fields)).await;
        }
        let right: [(u8, &[&[u8]]); 4] =
            [(0x02, &[&id]), (0x06, &[&id, &will]), (0x82, &[&id, &user]), (0xC6, &[&id, &will, &user, &password])];
        for (flags, fields) in right {
            accepts(&broker, level, &connect(level, flags, fields)).await;
        }
    }
}

async fn accepts(broker: &Broker, level: u8, bytes: &[u8]) {
    let mut client = broker.tcp(Version::from_level(level).expect("a version")).await;
    client.send_raw(bytes).await.expect("CONNECT is sent");
    let connack = |packet: &Packet| if let Packet::ConnAck(connack) = packet { Some(connack.reason) } else { None };
    let reason = client.wait_for("CONNACK", SOON, connack).await;
    assert_eq!(reason, ReasonCode::Success, "{bytes:02X?}");
    client.disconnect().await;
}

/// [MQTT-3.1.2-22/3.1.1]
async fn before_5_0_a_password_needs_a_user_name(broker: Broker) {
    let fields = [&field(broker.id("password"))[..], &field("password")];
    is_malformed(&broker, 4, &connect(4, 0x42, &fields)).await;
    accepts(&broker, 5, &connect(5, 0x42, &fields)).await;
}

/// [MQTT-3.1.3-1], [MQTT-3.1.3-3], [MQTT-3.1.2-9], [MQTT-3.1.3-1/3.1.1], [MQTT-3.1.3-3/3.1.1], [MQTT-3.1.2-9/3.1.1]
async fn the_fields_of_a_connect_are_read_in_their_order(broker: Broker) {
    for level in LEVELS {
        let topic = broker.topic(&format!("will/{level}"));
        let mut heir = broker.connect(broker.v5("heir")).await;
        heir.subscribe(&topic, QoS::AtMostOnce).await;
        let id = broker.id("order");
        let fields =
            [&field(&id)[..], &will(level, topic.as_bytes(), b"the payload"), &field("user"), &field("password")];
        let mut client = broker.tcp(Version::from_level(level).expect("a version")).await;
        client.send_raw(&connect(level, 0xC6, &fields)).await.expect("CONNECT is sent");
        client.ping().await;
        // Whoever comes with the same id takes over, so the first field is the id.
        let same = Connect { client_id: id.into(), ..broker.v5("") };
        let second = broker.connect(same).await;
        client.is_closed_within(SOON).await;
        assert_eq!(heir.message(SOON).await.payload, "the payload");
        second.disconnect().await;
    }
}

/// [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12], [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-3.1.3-4/3.1.1],
/// [MQTT-3.1.3-10/3.1.1], [MQTT-3.1.3-11/3.1.1], [MQTT-1.5.3-1/3.1.1], [MQTT-1.5.3-2/3.1.1]
async fn a_connect_with_a_string_that_is_none_is_refused(broker: Broker) {
    let id = field(broker.id("strings"));
    for level in LEVELS {
        for wrong in crate::strings::NOT_STRINGS {
            is_malformed(&broker, level, &connect(level, 0x02, &[&field(wrong)])).await;
            is_malformed(&broker, level, &connect(level, 0x06, &[&id, &will(level, wrong, b"x")])).await;
            is_malformed(&broker, level, &connect(level, 0x82, &[&id, &field(wrong)])).await;
        }
    }
}

/// [MQTT-3.1.4-1], [MQTT-3.1.4-1/3.1.1], [MQTT-3.2.2-6/3.1.1]
async fn what_a_connect_lacks_or_has_too_much_of_ends_the_connection(broker: Broker) {
    for version in STRICT {
        let whole = connect(version.level(), 0x02, &[&field(broker.id("whole"))]);
        let body = &whole[2..];
        for shorter in 7..body.len() {
            is_malformed(&broker, version.level(), &packet(0x10, &[&body[..shorter]])).await;
        }
        is_malformed(&broker, version.level(), &packet(0x10, &[body, &[0]])).await;
        is_malformed(&broker, version.level(), &packet(0x11, &[body])).await;
    }
}
