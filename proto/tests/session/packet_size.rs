//! What a client with a maximum packet size is sent instead of what does not fit.

use rollcall_proto::message::{Delivery, Message};
use rollcall_proto::packet::{Connect, Packet, QoS, Version};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, CloseStage, Delivered};

use crate::rig::*;

fn allowing(bytes: u32) -> Connect {
    let mut small = connect(Version::V5, "c");
    small.properties.maximum_packet_size = Some(bytes);
    small
}

#[test]
fn a_client_that_allows_no_connack_is_refused_before_its_claim() {
    // [MQTT-3.1.2-24]
    for (bytes, told) in [(15, Some(ReasonCode::PacketTooLarge)), (5, Some(ReasonCode::PacketTooLarge)), (4, None)] {
        let mut rig = Rig::new(config());
        let actions = rig.handle(Packet::Connect(Box::new(allowing(bytes))));
        let connacks = sent(&actions).into_iter().map(|packet| match packet {
            Packet::ConnAck(connack) => connack.reason,
            other => panic!("{other:?} before a CONNACK"),
        });
        assert_eq!(connacks.collect::<Vec<_>>(), Vec::from_iter(told), "{bytes}");
        assert_eq!(close(&actions).stage, CloseStage::BeforeClaim);
    }
    Rig::online_as(allowing(16), config());
}

#[test]
fn an_answer_larger_than_the_client_allows_ends_the_connection() {
    // [MQTT-3.1.2-24]: a SUBACK of 20 reasons and five bytes.
    let subscribe = subscribe(3, &["a#"; 20]);
    let mut rig = Rig::online_as(allowing(25), config());
    assert_eq!(sent(&rig.handle(subscribe.clone())).len(), 1);
    let mut rig = Rig::online_as(allowing(24), config());
    let actions = rig.handle(subscribe);
    assert_eq!((sent(&actions).len(), told(&actions)), (1, Some(ReasonCode::PacketTooLarge)));
    close(&actions);
}

#[test]
fn a_disconnect_leaves_out_what_makes_it_too_large() {
    // [MQTT-3.1.2-24]
    let mut rig = Rig::online_as(allowing(16), config());
    rig.session.disconnect(DisconnectReason::GoAway, Some("a.long.name.of.another.server:1883".into()));
    let actions = rig.actions();
    assert_eq!(told(&actions), Some(ReasonCode::UseAnotherServer));
    assert!(matches!(&sent(&actions)[..], [Packet::Disconnect(told)] if told.properties.server_reference.is_none()));
}

#[test]
fn an_alias_is_not_told_where_it_makes_a_message_too_large() {
    // [MQTT-3.1.2-24]: 2 bytes of fixed header, 2 + 9 of topic, 1 of property length, the payload; 3 more with an alias.
    let mut some = allowing(2 + 2 + 9 + 1 + 5);
    some.properties.topic_alias_maximum = Some(1);
    let mut rig = Rig::online_as(some, config());
    let mut shown = |payload: &'static str| {
        let message = Message { topic: "some/long".into(), ..message(payload) };
        let live = Delivery { message: message.into(), ..delivery("", QoS::AtMostOnce) };
        assert_eq!(rig.session.deliver(live, 0), Delivered::Sent);
        let actions = rig.actions();
        let [Action::Deliver(outgoing)] = &actions[..] else { panic!("{actions:?}") };
        let parts = outgoing.parts();
        (parts.topic.to_owned(), parts.topic_alias)
    };
    let whole = "some/long".to_owned();
    assert_eq!(shown("12345"), (whole.clone(), None));
    assert_eq!(shown("12"), (whole, Some(1)));
    assert_eq!(shown("12345"), (String::new(), Some(1)));
}
