use rollcall_proto::packet::{Packet, PacketId, Publish, QoS, Version};
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, SessionConfig};

use crate::rig::*;

fn small() -> SessionConfig {
    SessionConfig { receive_maximum: 2.try_into().unwrap(), ..config() }
}

fn with_properties(topic: &str, properties: PublishProperties) -> Packet {
    let Packet::Publish(publish) = publish(topic, QoS::AtMostOnce, 0) else { panic!() };
    Packet::Publish(Publish { properties: Some(Box::new(properties)), ..publish })
}

fn aliased(topic: &str, alias: u16) -> Packet {
    with_properties(topic, PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() })
}

fn dup(packet: Packet) -> Packet {
    let Packet::Publish(publish) = packet else { panic!() };
    Packet::Publish(Publish { dup: true, ..publish })
}

#[test]
fn a_qos_0_publish_waits_for_no_answer() {
    let mut rig = Rig::online(Version::V311, config());
    let actions = rig.handle(publish("a/b", QoS::AtMostOnce, 0));
    let [Action::Publish { token: None, message, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((message.topic.as_ref() as &str, message.publisher.as_ref() as &str), ("a/b", "c"));
}

#[test]
fn a_qos_1_publish_is_acknowledged_when_the_shell_says_so() {
    // [MQTT-4.3.2-4]
    let mut rig = Rig::online(Version::V5, config());
    let token = rig.publish(QoS::AtLeastOnce, 7);
    assert_eq!(rig.actions(), []);
    let actions = rig.answer(token, ReasonCode::NoMatchingSubscribers);
    assert_eq!(sent(&actions), [Packet::PubAck(ack(7, ReasonCode::NoMatchingSubscribers))]);
    assert_eq!(rig.answer(token, ReasonCode::Success), [], "only once");
}

#[test]
fn a_3_x_acknowledgement_carries_no_code() {
    let mut rig = Rig::online(Version::V311, config());
    for (id, code) in [(1, ReasonCode::NoMatchingSubscribers), (2, ReasonCode::NotAuthorized)] {
        let token = rig.publish(QoS::AtLeastOnce, id);
        assert_eq!(sent(&rig.answer(token, code)), [Packet::PubAck(ok(id))], "[MQTT-3.3.5-2/3.1.1]");
    }
}

#[test]
fn a_publish_that_failed_is_never_acknowledged_to_a_3_x_client() {
    // [MQTT-4.8.0-2/3.1.1]
    let mut rig = Rig::online(Version::V311, config());
    let token = rig.publish(QoS::AtLeastOnce, 1);
    let actions = rig.answer(token, ReasonCode::QuotaExceeded);
    assert_eq!(sent(&actions), []);
    assert_eq!(close(&actions).reason, DisconnectReason::ServerInternalError);
}

#[test]
fn acknowledgements_keep_the_order_of_the_publishes() {
    // [MQTT-4.6.0-2/3.1.1], [MQTT-4.6.0-3/3.1.1]
    let mut rig = Rig::online(Version::V311, config());
    let first = rig.publish(QoS::AtLeastOnce, 9);
    let second = rig.publish(QoS::ExactlyOnce, 3);
    let third = rig.publish(QoS::AtLeastOnce, 5);
    assert_eq!(rig.answer(third, ReasonCode::Success), []);
    assert_eq!(rig.answer(second, ReasonCode::Success), []);
    let packets = sent(&rig.answer(first, ReasonCode::Success));
    assert_eq!(packets, [Packet::PubAck(ok(9)), Packet::PubRec(ok(3)), Packet::PubAck(ok(5))]);
}

#[test]
fn a_qos_2_publish_runs_through_its_four_packets_and_is_published_once() {
    // [MQTT-4.3.3-8], [MQTT-4.3.3-10], [MQTT-4.3.3-11]
    let mut rig = Rig::online(Version::V5, config());
    let token = rig.publish(QoS::ExactlyOnce, 4);
    assert_eq!(rig.handle(dup(publish("t", QoS::ExactlyOnce, 4))), [], "its PUBREC comes with the answer");
    assert_eq!(sent(&rig.answer(token, ReasonCode::Success)), [Packet::PubRec(ok(4))]);
    let again = rig.handle(publish("t", QoS::ExactlyOnce, 4));
    assert_eq!(again, [Action::Send(Packet::PubRec(ok(4)))]);
    assert_eq!(rig.handle(Packet::PubRel(ok(4))), [Action::Send(Packet::PubComp(ok(4)))]);
    // The id is free again: this is a new message.
    rig.publish(QoS::ExactlyOnce, 4);
}

#[test]
fn a_qos_2_publish_that_is_refused_frees_its_id() {
    // [MQTT-4.3.3-9]
    let mut rig = Rig::online(Version::V5, config());
    let token = rig.publish(QoS::ExactlyOnce, 4);
    let actions = rig.answer(token, ReasonCode::NotAuthorized);
    assert_eq!(sent(&actions), [Packet::PubRec(ack(4, ReasonCode::NotAuthorized))]);
    rig.publish(QoS::ExactlyOnce, 4);
}

#[test]
fn a_pubrel_of_an_unknown_id_is_answered_not_found() {
    let mut rig = Rig::online(Version::V5, config());
    let missing = Packet::PubComp(ack(8, ReasonCode::PacketIdentifierNotFound));
    assert_eq!(rig.handle(Packet::PubRel(ok(8))), [Action::Send(missing)]);
}

#[test]
fn a_pubrel_before_its_pubrec_is_a_protocol_error() {
    let mut rig = Rig::online(Version::V5, config());
    rig.publish(QoS::ExactlyOnce, 4);
    assert_eq!(told(&rig.handle(Packet::PubRel(ok(4)))), Some(ReasonCode::ProtocolError));
}

#[test]
fn a_packet_id_in_use_is_a_protocol_error_unless_it_is_the_same_again() {
    let mut rig = Rig::online(Version::V311, config());
    rig.publish(QoS::AtLeastOnce, 1);
    assert_eq!(rig.handle(dup(publish("t", QoS::AtLeastOnce, 1))), []);
    let actions = rig.handle(publish("t", QoS::AtLeastOnce, 1));
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);

    let mut rig = Rig::online(Version::V5, config());
    rig.publish(QoS::AtLeastOnce, 1);
    let actions = rig.handle(dup(publish("t", QoS::ExactlyOnce, 1)));
    assert_eq!(told(&actions), Some(ReasonCode::ProtocolError));
}

#[test]
fn more_than_the_receive_maximum_ends_a_v5_connection() {
    // [MQTT-3.3.4-7]
    let mut rig = Rig::online(Version::V5, small());
    let first = rig.publish(QoS::ExactlyOnce, 1);
    rig.publish(QoS::AtLeastOnce, 2);
    rig.answer(first, ReasonCode::Success);
    assert_eq!(sent(&rig.handle(publish("t", QoS::AtMostOnce, 0))), [], "QoS 0 does not count");
    let actions = rig.handle(publish("t", QoS::AtLeastOnce, 3));
    assert_eq!(told(&actions), Some(ReasonCode::ReceiveMaximumExceeded), "a PUBREC frees nothing");
}

#[test]
fn pubcomp_and_puback_free_a_place_in_the_receive_maximum() {
    let mut rig = Rig::online(Version::V5, small());
    for round in 0..5 {
        let two = rig.publish(QoS::ExactlyOnce, 10 + round);
        let one = rig.publish(QoS::AtLeastOnce, 20 + round);
        rig.answer(two, ReasonCode::Success);
        rig.answer(one, ReasonCode::Success);
        rig.handle(Packet::PubRel(ok(10 + round)));
    }
    assert!(!rig.session.is_closed());
}

#[test]
fn a_3_x_client_is_slowed_down_instead() {
    let mut rig = Rig::online(Version::V311, small());
    let first = rig.publish(QoS::AtLeastOnce, 1);
    assert!(rig.session.accepts_packets());
    rig.publish(QoS::AtLeastOnce, 2);
    assert!(!rig.session.accepts_packets());
    rig.answer(first, ReasonCode::Success);
    assert!(rig.session.accepts_packets());
}

#[test]
fn a_topic_alias_stands_for_the_topic_it_was_set_with() {
    let mut rig = Rig::online(Version::V5, config());
    let mut topics = Vec::new();
    for packet in [aliased("one", 1), aliased("", 1), aliased("two", 1), aliased("", 1)] {
        let actions = rig.handle(packet);
        let [Action::Publish { message, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(message.properties, None, "an alias belongs to one connection");
        topics.push(message.topic.to_string());
    }
    assert_eq!(topics, ["one", "one", "two", "two"]);
}

#[test]
fn a_topic_alias_out_of_range_or_unknown_ends_the_connection() {
    let config = SessionConfig { topic_alias_maximum: 5, ..config() };
    let cases = [
        (aliased("t", 6), ReasonCode::TopicAliasInvalid), // [MQTT-3.3.2-9]
        (aliased("t", 0), ReasonCode::TopicAliasInvalid), // [MQTT-3.3.2-8]
        (aliased("", 5), ReasonCode::ProtocolError),
        (publish("", QoS::AtMostOnce, 0), ReasonCode::ProtocolError),
    ];
    for (packet, code) in cases {
        let mut rig = Rig::online(Version::V5, config.clone());
        assert_eq!(told(&rig.handle(packet)), Some(code));
    }
}

#[test]
fn what_the_listener_does_not_offer_ends_the_connection() {
    let config = SessionConfig { max_qos: QoS::AtLeastOnce, retain_available: false, ..config() };
    let mut rig = Rig::online(Version::V5, config.clone());
    let actions = rig.handle(publish("t", QoS::ExactlyOnce, 1));
    assert_eq!(told(&actions), Some(ReasonCode::QoSNotSupported), "[MQTT-3.2.2-11]");

    let mut rig = Rig::online(Version::V5, config);
    let Packet::Publish(plain) = publish("t", QoS::AtMostOnce, 0) else { panic!() };
    let actions = rig.handle(Packet::Publish(Publish { retain: true, ..plain }));
    assert_eq!(told(&actions), Some(ReasonCode::RetainNotSupported), "[MQTT-3.2.2-14]");
}

#[test]
fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    // [MQTT-3.3.4-6]
    let mut rig = Rig::online(Version::V5, config());
    let properties = PublishProperties { subscription_ids: vec![1], ..PublishProperties::default() };
    assert_eq!(told(&rig.handle(with_properties("t", properties))), Some(ReasonCode::ProtocolError));
}

#[test]
fn events_cannot_be_published_to() {
    let topic = "$events/client_connected";
    let mut rig = Rig::online(Version::V5, config());
    let refused = ReasonCode::NotAuthorized;
    assert_eq!(rig.handle(publish(topic, QoS::AtLeastOnce, 1)), [Action::Send(Packet::PubAck(ack(1, refused)))]);
    assert_eq!(rig.handle(publish(topic, QoS::ExactlyOnce, 1)), [Action::Send(Packet::PubRec(ack(1, refused)))]);
    let actions = rig.handle(aliased(topic, 1));
    assert_eq!((told(&actions), close(&actions).reason), (Some(refused), DisconnectReason::NotAuthorized));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut rig = Rig::online(Version::V311, config());
        assert_eq!(close(&rig.handle(publish(topic, qos, 1))).reason, DisconnectReason::NotAuthorized);
    }
}

#[test]
fn a_publish_that_is_too_large_is_answered_in_its_turn_and_goes_nowhere() {
    let mut rig = Rig::online(Version::V5, config());
    let token = rig.publish(QoS::AtLeastOnce, 1);
    rig.session.handle_oversized(QoS::AtLeastOnce, false, PacketId::new(2), 0);
    rig.session.handle_oversized(QoS::AtMostOnce, false, None, 0);
    assert_eq!(rig.actions(), []);
    let [first, second] = [ok(1), ack(2, ReasonCode::QuotaExceeded)].map(|ack| Action::Send(Packet::PubAck(ack)));
    assert_eq!(rig.answer(token, ReasonCode::Success), [first, second]);

    let mut rig = Rig::online(Version::V311, config());
    rig.session.handle_oversized(QoS::ExactlyOnce, false, PacketId::new(7), 0);
    assert_eq!(rig.actions(), [Action::Send(Packet::PubRec(ok(7)))]);
    assert_eq!(rig.handle(Packet::PubRel(ok(7))), [Action::Send(Packet::PubComp(ok(7)))]);
}

#[test]
fn an_expiry_becomes_a_point_in_time() {
    let mut rig = Rig::online(Version::V5, config());
    rig.now = 5_000;
    let properties = PublishProperties { message_expiry: Some(3), ..PublishProperties::default() };
    let actions = rig.handle(with_properties("t", properties));
    let [Action::Publish { message, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(message.expires_at, Some(8_000));
    assert_eq!(message.properties, None);
    assert!(!message.is_expired(7_999));
    assert!(message.is_expired(8_000));
}
