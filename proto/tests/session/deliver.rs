use std::sync::Arc;

use bytes::Bytes;
use rollcall_proto::codec::Decoder;
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, Delivered, DropReason, Overflow, SessionConfig};

use crate::rig::*;

const NAMES: [&str; 6] = ["0", "1", "2", "3", "4", "5"];

fn window(of: u16) -> SessionConfig {
    SessionConfig { outbound_window: of.try_into().unwrap(), ..config() }
}

/// Delivers `NAMES` at QoS 1 and says what became of each.
fn deliver_all(rig: &mut Rig) -> Vec<Delivered> {
    NAMES.iter().map(|name| rig.session.deliver(delivery(name, QoS::AtLeastOnce), rig.now)).collect()
}

fn payloads(actions: &[Action]) -> Vec<Bytes> {
    outgoing(actions).iter().map(|out| out.delivery.message.payload.clone()).collect()
}

fn limited(bytes: u32) -> Rig {
    let mut small = connect(Version::V5, "c");
    small.properties.maximum_packet_size = Some(bytes);
    Rig::online_as(small, config())
}

fn expiring(at: u64, qos: QoS) -> Delivery {
    Delivery { message: Arc::new(Message { expires_at: Some(at), ..message("late") }), ..delivery("late", qos) }
}

#[test]
fn a_delivery_is_encoded_straight_from_the_message() {
    let mut rig = Rig::online(Version::V5, config());
    let properties = PublishProperties { content_type: Some("x".into()), ..PublishProperties::default() };
    let message = Message { properties: Some(Box::new(properties)), ..message("hello") };
    let given = Delivery {
        message: Arc::new(message),
        retain: true,
        subscription_ids: SubscriptionIds::from(&[3, 500][..]),
        ..delivery("", QoS::AtLeastOnce)
    };
    assert_eq!(rig.session.deliver(given, 0), Delivered::Sent);
    let mut bytes = wire(&outgoing(&rig.actions())[0], Version::V5);
    let packet = Decoder::with_version(Version::V5, 1000).decode(&mut bytes);
    let Ok(Some(Packet::Publish(publish))) = packet else { panic!("{packet:?}") };
    assert_eq!((publish.topic.as_ref() as &str, &publish.payload[..]), ("t", &b"hello"[..]));
    assert_eq!((publish.qos, publish.retain, publish.packet_id), (QoS::AtLeastOnce, true, Some(id(1))));
    let properties = publish.properties.unwrap();
    assert_eq!((properties.subscription_ids, properties.content_type), (vec![3, 500], Some("x".into())));
}

#[test]
fn the_clients_receive_maximum_bounds_what_is_in_flight() {
    // [MQTT-3.3.4-9]
    let mut asked = connect(Version::V5, "c");
    asked.properties.receive_maximum = Some(2);
    let mut rig = Rig::online_as(asked, config());
    let outcomes = deliver_all(&mut rig);
    assert_eq!(outcomes[..3], [Delivered::Sent, Delivered::Sent, Delivered::Queued]);
    assert_eq!(rig.session.deliver(delivery("now", QoS::AtMostOnce), 0), Delivered::Sent, "QoS 0 does not count");
    assert_eq!(payloads(&rig.actions()), ["0", "1", "now"]);
    let actions = rig.handle(Packet::PubAck(ok(2)));
    assert_eq!(payloads(&actions), ["2"]);
    assert_eq!(outgoing(&actions)[0].packet_id, Some(id(3)));
    assert_eq!((rig.session.in_flight(), rig.session.queued()), (2, 3));
}

#[test]
fn a_qos_2_delivery_holds_its_place_until_pubcomp() {
    // [MQTT-4.3.3-1], [MQTT-4.3.3-2], [MQTT-4.3.3-4]
    let mut rig = Rig::online(Version::V5, window(1));
    rig.session.deliver(delivery("two", QoS::ExactlyOnce), 0);
    rig.session.deliver(delivery("next", QoS::AtLeastOnce), 0);
    rig.actions();
    assert_eq!(rig.handle(Packet::PubRec(ok(1))), [Action::Send(Packet::PubRel(ok(1)))]);
    assert_eq!(rig.handle(Packet::PubRec(ok(1))), [Action::Send(Packet::PubRel(ok(1)))], "PUBREL got lost");
    assert_eq!(payloads(&rig.handle(Packet::PubComp(ok(1)))), ["next"]);
}

#[test]
fn a_pubrec_with_an_error_ends_the_delivery() {
    // [MQTT-4.3.3-4]: no PUBREL after it, and its place is free [MQTT 5.0 §4.9].
    let mut rig = Rig::online(Version::V5, window(1));
    rig.session.deliver(delivery("two", QoS::ExactlyOnce), 0);
    rig.session.deliver(delivery("next", QoS::AtLeastOnce), 0);
    rig.actions();
    let actions = rig.handle(Packet::PubRec(ack(1, ReasonCode::QuotaExceeded)));
    assert_eq!((sent(&actions), payloads(&actions)), (vec![], vec![Bytes::from_static(b"next")]));
}

#[test]
fn acknowledgements_of_nothing_do_no_harm() {
    let mut rig = Rig::online(Version::V5, config());
    assert_eq!(rig.handle(Packet::PubAck(ok(5))), []);
    assert_eq!(rig.handle(Packet::PubComp(ok(5))), []);
    let unknown = Packet::PubRel(ack(5, ReasonCode::PacketIdentifierNotFound));
    assert_eq!(rig.handle(Packet::PubRec(ok(5))), [Action::Send(unknown)]);
    assert_eq!(rig.handle(Packet::PubRec(ack(5, ReasonCode::UnspecifiedError))), []);
}

#[test]
fn acknowledgements_of_the_wrong_kind_are_protocol_errors() {
    for (qos, wrong) in [
        (QoS::AtLeastOnce, Packet::PubRec(ok(1))),
        (QoS::AtLeastOnce, Packet::PubComp(ok(1))),
        (QoS::ExactlyOnce, Packet::PubAck(ok(1))),
        (QoS::ExactlyOnce, Packet::PubComp(ok(1))),
    ] {
        let mut rig = Rig::online(Version::V5, config());
        rig.session.deliver(delivery("x", qos), 0);
        rig.actions();
        assert_eq!(told(&rig.handle(wrong)), Some(ReasonCode::ProtocolError));
    }
}

#[test]
fn packet_ids_go_round_and_skip_none_in_use() {
    let mut rig = Rig::online(Version::V311, window(3));
    rig.session.deliver(delivery("slow", QoS::AtLeastOnce), 0);
    rig.actions();
    let mut last = 1;
    for round in 2..140_000_u32 {
        let outcome = rig.session.deliver(delivery("x", QoS::AtLeastOnce), 0);
        let [Action::Deliver(out)] = &rig.actions()[..] else {
            // All ids behind the one that never comes back are used up: it waits.
            assert_eq!((outcome, round), (Delivered::Queued, 65_536));
            break;
        };
        last = out.packet_id.unwrap().get();
        assert_ne!(last, 1);
        rig.session.handle_packet(Packet::PubAck(ok(last)), 0);
    }
    assert_eq!(last, u16::MAX);
    let actions = rig.handle(Packet::PubAck(ok(1)));
    assert_eq!(outgoing(&actions)[0].packet_id, Some(id(1)), "the oldest is free again");
}

#[test]
fn a_full_queue_follows_its_policy() {
    let full = |overflow| SessionConfig { outbound_queue: 2, overflow, ..window(1) };
    let dropped = Delivered::Dropped(DropReason::QueueFull);

    let mut rig = Rig::online(Version::V5, full(Overflow::DropNewest));
    assert_eq!(deliver_all(&mut rig)[2..], [Delivered::Queued, dropped, dropped, dropped]);

    let mut rig = Rig::online(Version::V5, full(Overflow::DropOldest));
    assert_eq!(deliver_all(&mut rig)[2..], [Delivered::Queued; 4]);
    let gone = rig.actions().iter().filter(|a| matches!(a, Action::Dropped { .. })).count();
    assert_eq!(gone, 3);
    assert_eq!(payloads(&rig.handle(Packet::PubAck(ok(1)))), ["4"]);

    let mut rig = Rig::online(Version::V5, full(Overflow::EndSession));
    assert_eq!(deliver_all(&mut rig)[3], dropped);
    let actions = rig.actions();
    assert_eq!(told(&actions), Some(ReasonCode::QuotaExceeded));
    assert_eq!(close(&actions).reason, DisconnectReason::TooManyConnections);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let heavy = message(NAMES[0]).weight();
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let mut rig =
            Rig::online(Version::V5, SessionConfig { outbound_queue_bytes: heavy * 2, overflow, ..window(1) });
        deliver_all(&mut rig);
        assert_eq!(rig.session.queued(), 2);
        let mut rig =
            Rig::online(Version::V5, SessionConfig { outbound_queue_bytes: heavy - 1, overflow, ..window(1) });
        assert_eq!(deliver_all(&mut rig)[1], Delivered::Dropped(DropReason::QueueFull));
        assert_eq!(rig.session.queued(), 0);
    }
}

#[test]
fn a_client_that_reads_too_slowly_loses_qos_0_and_waits_for_the_rest() {
    let mut rig = Rig::online(Version::V311, config());
    rig.session.set_congested(true, 0);
    let zero = rig.session.deliver(delivery("zero", QoS::AtMostOnce), 0);
    assert_eq!(zero, Delivered::Dropped(DropReason::Congested));
    assert_eq!(rig.session.deliver(delivery("one", QoS::AtLeastOnce), 0), Delivered::Queued);
    assert_eq!(rig.actions(), []);
    rig.session.set_congested(false, 0);
    assert_eq!(payloads(&rig.actions()), ["one"]);
}

#[test]
fn a_message_larger_than_the_client_takes_is_dropped() {
    // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
    const LARGE: &str = "larger than any other packet of such a client's connection";
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut rig = Rig::online(Version::V5, config());
        rig.session.deliver(delivery(LARGE, qos), 0);
        let size = wire(&outgoing(&rig.actions())[0], Version::V5).len() as u32;
        assert_eq!(limited(size).session.deliver(delivery(LARGE, qos), 0), Delivered::Sent);
        let outcome = limited(size - 1).session.deliver(delivery(LARGE, qos), 0);
        assert_eq!(outcome, Delivered::Dropped(DropReason::TooLarge));
    }
}

#[test]
fn an_expired_message_is_not_sent_and_the_rest_say_what_remains() {
    // [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut rig = Rig::online(Version::V5, window(1));
    rig.now = 1_000;
    let outcome = rig.session.deliver(expiring(1_000, QoS::AtMostOnce), 1_000);
    assert_eq!(outcome, Delivered::Dropped(DropReason::Expired));
    rig.session.deliver(delivery("first", QoS::AtLeastOnce), 1_000);
    rig.session.deliver(expiring(2_000, QoS::AtLeastOnce), 1_000);
    rig.session.deliver(expiring(9_500, QoS::AtLeastOnce), 1_000);
    rig.actions();
    rig.now = 3_000;
    let actions = rig.handle(Packet::PubAck(ok(1)));
    assert!(matches!(actions[0], Action::Dropped { why: DropReason::Expired, .. }));
    let out = &outgoing(&actions)[0];
    assert_eq!(out.parts().properties.and_then(|p| p.message_expiry), Some(7), "6.5 s, begun ones counted");
    assert_eq!(out.packet_id, Some(id(2)), "an expired message uses no packet id");
}

#[test]
fn memory_of_empty_queues_is_given_back_and_nothing_is_lost() {
    let mut rig = Rig::online(Version::V311, window(1));
    deliver_all(&mut rig);
    rig.actions();
    rig.session.trim();
    assert_eq!(rig.session.queued(), NAMES.len() - 1);
    let mut got = Vec::new();
    for next in 1.. {
        rig.session.trim();
        let actions = rig.handle(Packet::PubAck(ok(next)));
        let Some(payload) = payloads(&actions).pop() else { break };
        got.push(payload);
    }
    assert_eq!(got, NAMES[1..]);
}

#[test]
fn who_leaves_shared_subscriptions_gives_back_what_is_not_acknowledged_at_qos_1_and_not_sent_at_qos_2() {
    // [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    let mut rig = Rig::online(Version::V311, window(4));
    let shared = |name, qos| Delivery { share: Some("$share/g/t".into()), ..delivery(name, qos) };
    rig.session.deliver(shared("0", QoS::AtLeastOnce), 0);
    rig.session.deliver(shared("1", QoS::AtLeastOnce), 0);
    rig.session.deliver(shared("2", QoS::ExactlyOnce), 0);
    rig.session.deliver(delivery("own", QoS::AtLeastOnce), 0);
    rig.handle(Packet::PubAck(ok(1)));
    for name in ["3", "4"] {
        rig.session.deliver(shared(name, QoS::ExactlyOnce), 0);
    }
    rig.session.handle_closed();
    let left = rig.session.take_shared();
    let names: Vec<&[u8]> = left.iter().map(|delivery| &delivery.message.payload[..]).collect();
    assert_eq!(names, [b"1", b"4"], "the first was acknowledged, 2 and 3 are in flight at QoS 2");
    assert!(rig.session.take_shared().is_empty());
}
