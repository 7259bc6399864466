use rollcall_proto::packet::{Packet, QoS, SubAck, Unsubscribe, Version};
use rollcall_proto::properties::{AckProperties, UnsubscribeProperties};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::session::{Action, SessionConfig};

use crate::rig::*;

fn suback(packet_id: u16, reasons: &[ReasonCode]) -> Box<SubAck> {
    Box::new(SubAck { packet_id: id(packet_id), reasons: reasons.to_vec(), properties: AckProperties::default() })
}

fn unsubscribe(packet_id: u16, filters: &[&str]) -> Packet {
    Packet::Unsubscribe(Box::new(Unsubscribe {
        packet_id: id(packet_id),
        filters: filters.iter().map(|f| (*f).into()).collect(),
        properties: UnsubscribeProperties::default(),
    }))
}

#[test]
fn a_suback_has_one_reason_per_filter_in_their_order() {
    // [MQTT-3.8.4-6]: an invalid filter is answered where it stands and never reaches the shell.
    let mut rig = Rig::online(Version::V5, config());
    let actions = rig.handle(subscribe(3, &["a/+", "b#", "c"]));
    let [Action::Subscribe(request)] = &actions[..] else { panic!("{actions:?}") };
    let filters: Vec<&str> = request.filters.iter().map(|(f, _)| f.as_ref()).collect();
    assert_eq!(filters, ["a/+", "c"]);
    rig.session.subscribed(id(3), &[ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized]);
    let reasons = [ReasonCode::GrantedQoS1, ReasonCode::TopicFilterInvalid, ReasonCode::NotAuthorized];
    assert_eq!(sent(&rig.actions()), [Packet::SubAck(suback(3, &reasons))]);
    rig.session.subscribed(id(3), &[ReasonCode::Success]);
    assert_eq!(rig.actions(), [], "answered once");
}

#[test]
fn no_more_is_asked_for_than_the_listeners_maximum_qos() {
    // [MQTT-3.2.2-10]
    for max_qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut rig = Rig::online(Version::V311, SessionConfig { max_qos, ..config() });
        let Packet::Subscribe(mut wish) = subscribe(3, &["a", "b", "c"]) else { panic!("it is a SUBSCRIBE") };
        for ((_, options), qos) in wish.filters.iter_mut().zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) {
            options.qos = qos;
        }
        let wished: Vec<QoS> = wish.filters.iter().map(|(_, options)| options.qos).collect();
        let actions = rig.handle(Packet::Subscribe(wish));
        let [Action::Subscribe(request)] = &actions[..] else { panic!("{actions:?}") };
        let asked: Vec<QoS> = request.filters.iter().map(|(_, options)| options.qos).collect();
        assert_eq!(asked, wished.into_iter().map(|qos| qos.min(max_qos)).collect::<Vec<_>>());
    }
}

#[test]
fn a_subscribe_without_a_valid_filter_is_answered_at_once() {
    let mut rig = Rig::online(Version::V311, config());
    let answer = Packet::SubAck(suback(3, &[ReasonCode::TopicFilterInvalid]));
    assert_eq!(rig.handle(subscribe(3, &["a#"])), [Action::Send(answer)]);
}

#[test]
fn shared_subscriptions_can_be_turned_off() {
    let mut rig = Rig::online(Version::V5, SessionConfig { shared_subscriptions: false, ..config() });
    let answer = Packet::SubAck(suback(1, &[ReasonCode::SharedSubscriptionsNotSupported]));
    assert_eq!(rig.handle(subscribe(1, &["$share/g/t"])), [Action::Send(answer)]);
}

#[test]
fn an_unsuback_answers_each_filter() {
    let mut rig = Rig::online(Version::V5, config());
    let actions = rig.handle(unsubscribe(4, &["a", "b"]));
    let [Action::Unsubscribe(request)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(request.filters, ["a", "b"]);
    rig.session.subscribed(id(4), &[ReasonCode::Success]);
    assert_eq!(rig.actions(), [], "that was no SUBSCRIBE");
    let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    rig.session.unsubscribed(id(4), &reasons);
    assert_eq!(sent(&rig.actions()), [Packet::UnsubAck(suback(4, &reasons))]);
}

#[test]
fn an_answer_that_is_too_short_is_filled_with_errors() {
    let mut rig = Rig::online(Version::V5, config());
    rig.handle(subscribe(1, &["a", "b"]));
    rig.session.subscribed(id(1), &[ReasonCode::Success]);
    let reasons = [ReasonCode::Success, ReasonCode::UnspecifiedError];
    assert_eq!(sent(&rig.actions()), [Packet::SubAck(suback(1, &reasons))]);
}

#[test]
fn a_packet_id_serves_one_request_at_a_time() {
    // [MQTT-2.2.1-3]
    let mut rig = Rig::online(Version::V5, config());
    rig.handle(subscribe(1, &["a"]));
    assert_eq!(told(&rig.handle(unsubscribe(1, &["a"]))), Some(ReasonCode::ProtocolError));

    let mut rig = Rig::online(Version::V5, config());
    rig.publish(QoS::AtLeastOnce, 1);
    assert_eq!(told(&rig.handle(subscribe(1, &["a"]))), Some(ReasonCode::ProtocolError));

    let mut rig = Rig::online(Version::V5, config());
    rig.handle(subscribe(1, &["a"]));
    assert_eq!(told(&rig.handle(publish("t", QoS::AtLeastOnce, 1))), Some(ReasonCode::ProtocolError));
}

#[test]
fn a_client_with_many_requests_open_is_not_read_further() {
    let mut rig = Rig::online(Version::V5, SessionConfig { max_requests: 2, ..config() });
    rig.handle(subscribe(1, &["a"]));
    assert!(rig.session.accepts_packets());
    rig.handle(subscribe(2, &["b"]));
    assert!(!rig.session.accepts_packets());
    rig.session.subscribed(id(1), &[ReasonCode::Success]);
    assert!(rig.session.accepts_packets());
}

#[test]
fn a_filter_may_have_so_many_levels_and_no_more() {
    let mut rig = Rig::online(Version::V5, SessionConfig { max_topic_levels: 3, ..config() });
    let actions = rig.handle(subscribe(1, &["a/b/c", "$share/g/a/b/c"]));
    assert!(matches!(&actions[..], [Action::Subscribe(request)] if request.filters.len() == 2), "{actions:?}");
    let actions = rig.handle(subscribe(2, &["a/b/c/#", "$share/g/a/b/c/d"]));
    let [Action::Send(Packet::SubAck(suback))] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(suback.reasons, [ReasonCode::TopicFilterInvalid; 2]);
}
