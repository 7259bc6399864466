use bytes::BytesMut;
use rollcall_proto::codec::{DecodeError, encode};
use rollcall_proto::packet::{Auth, Connect, Disconnect, Packet, QoS, Version};
use rollcall_proto::properties::{AuthProperties, DisconnectProperties};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, CloseStage, Delivered, DropReason, SessionConfig};

use crate::rig::*;

fn with_will(version: Version) -> Connect {
    Connect { will: Some(will("w")), ..connect(version, "c") }
}

#[test]
fn a_normal_disconnect_discards_the_will() {
    // [MQTT-3.14.4-3]
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut rig = Rig::online_as(with_will(version), config());
        let actions = rig.handle(disconnect(ReasonCode::Success));
        assert_eq!(actions.len(), 1);
        let close = close(&actions);
        assert_eq!((close.reason, close.stage, close.will), (DisconnectReason::Normal, CloseStage::Online, None));
    }
}

#[test]
fn a_disconnect_with_will_is_normal_and_publishes_it() {
    let mut rig = Rig::online_as(with_will(Version::V5), config());
    let close = close(&rig.handle(disconnect(ReasonCode::DisconnectWithWill)));
    assert_eq!(close.reason, DisconnectReason::Normal);
    assert!(close.will.is_some());
}

#[test]
fn a_disconnect_with_an_error_is_not_normal() {
    let mut rig = Rig::online_as(with_will(Version::V5), config());
    let actions = rig.handle(disconnect(ReasonCode::UnspecifiedError));
    assert_eq!(told(&actions), None, "the client has gone");
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);
    assert!(close(&actions).will.is_some());
}

#[test]
fn a_stream_that_ends_publishes_the_will() {
    let mut rig = Rig::online_as(with_will(Version::V311), config());
    rig.session.handle_closed();
    let actions = rig.actions();
    let end = close(&actions);
    assert_eq!((actions.len(), end.reason), (1, DisconnectReason::TcpClosed));
    assert!(end.will.is_some());
    rig.session.handle_closed();
    assert_eq!(rig.actions(), [], "a connection ends once");
}

#[test]
fn a_disconnect_may_change_the_session_expiry_but_not_from_zero() {
    let leave = |expiry, asked: Option<u32>| {
        let mut online = connect(Version::V5, "c");
        online.properties.session_expiry = asked;
        let mut rig = Rig::online_as(online, SessionConfig { session_expiry_max: 1000, ..config() });
        let properties = DisconnectProperties { session_expiry: Some(expiry), ..DisconnectProperties::default() };
        rig.handle(Packet::Disconnect(Box::new(Disconnect { reason: ReasonCode::Success, properties })))
    };
    assert_eq!(close(&leave(0, Some(60))).session_expiry, Some(0));
    assert_eq!(close(&leave(5000, Some(60))).session_expiry, Some(1000), "the limit holds here too");
    assert_eq!(close(&leave(0, None)).reason, DisconnectReason::Normal);
    // [MQTT 5.0 §3.14.2.2.2]
    assert_eq!(told(&leave(60, None)), Some(ReasonCode::ProtocolError));
}

#[test]
fn a_v5_client_is_told_why_the_server_ends_and_3_x_is_closed() {
    let cases = [
        (DisconnectReason::TakenOver, ReasonCode::SessionTakenOver),
        (DisconnectReason::Kicked, ReasonCode::AdministrativeAction),
        (DisconnectReason::GoAway, ReasonCode::ServerShuttingDown),
        (DisconnectReason::NotAuthorized, ReasonCode::NotAuthorized),
    ];
    for (reason, code) in cases {
        let mut rig = Rig::online_as(with_will(Version::V5), config());
        rig.session.disconnect(reason, None);
        let actions = rig.actions();
        assert_eq!(told(&actions), Some(code));
        assert_eq!(close(&actions).reason, reason);
        assert!(close(&actions).will.is_some(), "[MQTT-3.1.2-8]");

        let mut rig = Rig::online(Version::V311, config());
        rig.session.disconnect(reason, None);
        let actions = rig.actions();
        assert_eq!((actions.len(), close(&actions).reason), (1, reason));
    }
}

#[test]
fn a_server_reference_sends_the_client_elsewhere() {
    let mut rig = Rig::online(Version::V5, config());
    rig.session.disconnect(DisconnectReason::GoAway, Some("other:1883".into()));
    let packets = sent(&rig.actions());
    let [Packet::Disconnect(disconnect)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(disconnect.reason, ReasonCode::UseAnotherServer);
    assert_eq!(disconnect.properties.server_reference, Some("other:1883".into()));
}

#[test]
fn a_client_whose_claim_is_open_is_refused_instead_of_disconnected() {
    for (reason, code) in [
        (DisconnectReason::GoAway, ReasonCode::ServerUnavailable),
        (DisconnectReason::TakenOver, ReasonCode::ServerUnavailable),
        (DisconnectReason::Normal, ReasonCode::ServerUnavailable),
        (DisconnectReason::TooManyConnections, ReasonCode::QuotaExceeded),
    ] {
        let mut rig = Rig::new(config());
        rig.claim(with_will(Version::V5));
        rig.session.disconnect(reason, None);
        let actions = rig.actions();
        assert_eq!(connack(&actions).reason, code);
        let mut wire = BytesMut::new();
        assert_eq!(encode(&Packet::ConnAck(Box::new(connack(&actions))), Version::V5, &mut wire), Ok(()));
        assert_eq!((close(&actions).stage, close(&actions).will), (CloseStage::Claiming, None));
    }
}

#[test]
fn after_the_end_nothing_has_an_effect() {
    let mut rig = Rig::online(Version::V5, config());
    let token = rig.publish(QoS::AtLeastOnce, 1);
    rig.handle(subscribe(2, &["a"]));
    rig.session.disconnect(DisconnectReason::TakenOver, None);
    rig.actions();
    assert_eq!(rig.answer(token, ReasonCode::Success), []);
    rig.session.subscribed(id(2), &[ReasonCode::Success]);
    assert_eq!(rig.handle(publish("t", QoS::AtMostOnce, 0)), []);
    let outcome = rig.session.deliver(delivery("x", QoS::AtMostOnce), 0);
    assert_eq!(outcome, Delivered::Dropped(DropReason::Offline));
    assert_eq!(rig.advance(1_000_000), []);
    rig.session.disconnect(DisconnectReason::Kicked, None);
    assert_eq!(rig.actions(), []);
    assert!(rig.session.is_closed());
    assert!(!rig.session.accepts_packets());
}

#[test]
fn packets_that_only_a_server_sends_and_auth_are_protocol_errors() {
    let auth = Auth { reason: ReasonCode::ReAuthenticate, properties: AuthProperties::default() };
    for packet in [Packet::PingResp, Packet::Auth(Box::new(auth))] {
        let mut rig = Rig::online(Version::V5, config());
        let actions = rig.handle(packet);
        assert_eq!(told(&actions), Some(ReasonCode::ProtocolError));
        assert!(close(&actions).detail.is_some());
    }
}

#[test]
fn a_malformed_packet_ends_with_its_code_and_publishes_the_will() {
    let mut rig = Rig::online_as(with_will(Version::V5), config());
    rig.session.handle_decode_error(&DecodeError::InvalidQoS, Some(Version::V5));
    let actions = rig.actions();
    assert_eq!(told(&actions), Some(ReasonCode::MalformedPacket), "[MQTT-4.13.1-1]");
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);
    assert!(close(&actions).will.is_some());
}

#[test]
fn a_malformed_connect_is_refused_as_its_version_can_say_it() {
    let refuse = |error: DecodeError, version| {
        let mut rig = Rig::new(config());
        rig.session.handle_decode_error(&error, version);
        let version = rig.session.version();
        (rig.actions(), version)
    };
    // [MQTT-3.1.2-2/3.1.1]: a client of an unknown level is told in the form of 3.1.1.
    let (actions, version) = refuse(DecodeError::UnsupportedProtocolLevel(9), None);
    assert_eq!((connack(&actions).reason.v3_return_code(), version), (1, Version::V311));

    let (actions, _) = refuse(DecodeError::ReservedConnectFlag, Some(Version::V5));
    assert_eq!(connack(&actions).reason, ReasonCode::MalformedPacket);

    let (actions, _) = refuse(DecodeError::ReservedConnectFlag, Some(Version::V311));
    assert!(matches!(actions[..], [Action::Close(_)]), "3.x has no return code for it");
}

#[test]
fn a_will_topic_with_a_wildcard_names_the_client_it_refuses() {
    let mut rig = Rig::new(config());
    let error = DecodeError::BadWillTopic(Box::new(connect(Version::V5, "bad")));
    rig.session.handle_decode_error(&error, Some(Version::V5));
    let actions = rig.actions();
    assert_eq!(connack(&actions).reason, ReasonCode::TopicNameInvalid);
    assert_eq!(close(&actions).reason, DisconnectReason::BadWillMessage);
    assert_eq!(rig.session.client_id(), "bad");
}

#[test]
fn every_reason_has_one_name_and_is_found_by_it() {
    for &reason in DisconnectReason::ALL {
        assert_eq!(DisconnectReason::from_name(reason.as_str()), Some(reason));
    }
    assert_eq!(DisconnectReason::ALL.len(), 16);
    assert_eq!(DisconnectReason::from_name("takeover"), None);
}

#[test]
fn a_second_connect_of_another_version_is_told_by_a_code_that_a_disconnect_has() {
    let mut rig = Rig::online(Version::V5, config());
    rig.session.handle_decode_error(&DecodeError::UnsupportedProtocolLevel(9), Some(Version::V5));
    assert_eq!(told(&rig.actions()), Some(ReasonCode::ProtocolError));
}
