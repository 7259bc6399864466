use std::num::NonZeroU16;
use std::sync::Arc;

use rollcall_proto::message::{Delivery, Message};
use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::session::{Action, Delivered, DropReason, SessionConfig};

use crate::rig::*;

/// Connected, with an inbox that still awaits the PUBREL of these packet ids.
fn resumed(config: SessionConfig, held: &[u16]) -> Rig {
    let mut rig = Rig::new(config);
    rig.claim(connect(Version::V5, "c"));
    rig.session.claimed_with_inbox(true, held.iter().map(|held| id(*held)), rig.now);
    assert!(connack(&rig.actions()).session_present);
    rig
}

fn deliver(rig: &mut Rig, qos: QoS, packet_id: u16) -> Vec<Action> {
    assert_eq!(rig.session.deliver_numbered(delivery("m", qos), id(packet_id), rig.now), Delivered::Sent);
    let actions = rig.actions();
    assert_eq!(outgoing(&actions)[0].packet_id, Some(id(packet_id)));
    actions
}

#[test]
fn a_message_from_the_inbox_keeps_its_packet_id_and_its_puback_settles_it() {
    let mut rig = resumed(config(), &[]);
    deliver(&mut rig, QoS::AtLeastOnce, 77);
    assert_eq!(rig.session.in_flight(), 1);
    assert_eq!(rig.handle(Packet::PubAck(ok(77))), [Action::Settled(id(77))]);
    assert_eq!(rig.session.in_flight(), 0);
    assert_eq!(rig.handle(Packet::PubAck(ok(77))), [], "a second one is nobody's");
}

#[test]
fn pubrel_leaves_only_when_the_pubrec_is_recorded() {
    let mut rig = resumed(config(), &[]);
    deliver(&mut rig, QoS::ExactlyOnce, 5);
    assert_eq!(rig.handle(Packet::PubRec(ok(5))), [Action::Received(id(5))]);
    assert_eq!(rig.handle(Packet::PubRec(ok(5))), [], "recorded once");
    rig.session.recorded(id(5));
    assert_eq!(rig.actions(), [Action::Send(Packet::PubRel(ok(5)))]);
    rig.session.recorded(id(5));
    assert_eq!(rig.actions(), []);
    assert_eq!(rig.handle(Packet::PubRec(ok(5))), [Action::Send(Packet::PubRel(ok(5)))], "it got lost");
    assert_eq!(rig.handle(Packet::PubComp(ok(5))), [Action::Settled(id(5))]);
}

#[test]
fn a_refused_message_is_settled_at_its_pubrec() {
    let mut rig = resumed(config(), &[]);
    deliver(&mut rig, QoS::ExactlyOnce, 5);
    assert_eq!(rig.handle(Packet::PubRec(ack(5, ReasonCode::QuotaExceeded))), [Action::Settled(id(5))]);
}

#[test]
fn what_was_received_on_an_earlier_connection_is_only_released() {
    let mut rig = resumed(config(), &[]);
    rig.session.release_numbered(id(9));
    assert_eq!(rig.actions(), [Action::Send(Packet::PubRel(ok(9)))]);
    assert_eq!(rig.handle(Packet::PubComp(ok(9))), [Action::Settled(id(9))]);
}

#[test]
fn pubcomp_before_the_record_breaks_the_protocol() {
    let mut rig = resumed(config(), &[]);
    deliver(&mut rig, QoS::ExactlyOnce, 5);
    rig.handle(Packet::PubRec(ok(5)));
    let actions = rig.handle(Packet::PubComp(ok(5)));
    assert_eq!(told(&actions), Some(ReasonCode::ProtocolError));
}

#[test]
fn the_window_bounds_what_the_shell_may_send() {
    let mut rig = resumed(SessionConfig { outbound_window: NonZeroU16::new(2).unwrap(), ..config() }, &[]);
    assert_eq!(rig.session.room(), 2);
    deliver(&mut rig, QoS::AtLeastOnce, 1);
    assert_eq!(rig.session.deliver(delivery("live", QoS::AtMostOnce), 0), Delivered::Sent);
    rig.actions();
    assert_eq!(rig.session.room(), 1, "QoS 0 takes no place");
    deliver(&mut rig, QoS::ExactlyOnce, 65_535);
    assert_eq!(rig.session.room(), 0);
    rig.handle(Packet::PubAck(ok(1)));
    assert_eq!(rig.session.room(), 1);
    rig.session.set_congested(true, 0);
    assert_eq!(rig.session.room(), 0);
}

#[test]
fn a_message_that_the_client_cannot_take_is_dropped_for_the_caller_to_settle() {
    let mut small = connect(Version::V5, "c");
    small.properties.maximum_packet_size = Some(16);
    let mut rig = Rig::new(config());
    rig.claim(small);
    rig.session.claimed_with_inbox(false, [], 0);
    rig.actions();
    let large = delivery("much too large for it", QoS::AtLeastOnce);
    assert_eq!(rig.session.deliver_numbered(large, id(1), 0), Delivered::Dropped(DropReason::TooLarge));
    assert_eq!((rig.session.in_flight(), rig.actions()), (0, vec![]));
}

#[test]
fn a_message_that_was_sent_before_does_not_expire() {
    // [MQTT-4.3.3-7]
    for (dup, outcome) in [(false, Delivered::Dropped(DropReason::Expired)), (true, Delivered::Sent)] {
        let mut rig = resumed(config(), &[]);
        let message = Arc::new(Message { expires_at: Some(10), ..message("m") });
        let again = Delivery { message, dup, ..delivery("m", QoS::ExactlyOnce) };
        assert_eq!(rig.session.deliver_numbered(again, id(1), 10), outcome);
    }
}

#[test]
fn a_packet_id_held_from_an_earlier_connection_is_acknowledged_and_not_published_again() {
    let mut rig = resumed(config(), &[4, 8]);
    assert_eq!(rig.handle(publish("t", QoS::ExactlyOnce, 8)), [Action::Send(Packet::PubRec(ok(8)))]);
    assert!(matches!(rig.handle(publish("t", QoS::ExactlyOnce, 6))[..], [Action::Publish { .. }]));
}

#[test]
fn pubcomp_leaves_only_when_it_is_recorded_that_the_packet_id_is_free() {
    let mut rig = resumed(config(), &[4]);
    assert_eq!(rig.handle(Packet::PubRel(ok(4))), [Action::Complete(id(4))]);
    assert_eq!(rig.handle(Packet::PubRel(ok(4))), [], "asked once");
    assert_eq!(told(&rig.handle(publish("t", QoS::ExactlyOnce, 4))), Some(ReasonCode::ProtocolError));

    let mut rig = resumed(config(), &[4]);
    rig.handle(Packet::PubRel(ok(4)));
    rig.session.completed(id(4));
    assert_eq!(rig.actions(), [Action::Send(Packet::PubComp(ok(4)))]);
    assert!(matches!(rig.handle(publish("t", QoS::ExactlyOnce, 4))[..], [Action::Publish { .. }]));
    rig.session.completed(id(4));
    assert_eq!(rig.actions(), [], "nothing was asked");
}
