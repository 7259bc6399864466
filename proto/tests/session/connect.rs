use bytes::Bytes;
use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{Action, ClientIdPolicy, CloseStage, KeepAliveOutside, SessionConfig};

use crate::rig::*;

/// The return of a refused CONNECT: the code of its CONNACK, if it got one, and why it was closed.
fn refusal(connect: rollcall_proto::packet::Connect, config: SessionConfig) -> (Option<ReasonCode>, DisconnectReason) {
    let mut rig = Rig::new(config);
    let actions = rig.handle(Packet::Connect(Box::new(connect)));
    let close = close(&actions);
    assert_eq!(close.stage, CloseStage::BeforeClaim);
    assert_eq!(close.will, None);
    ((actions.len() == 2).then(|| connack(&actions).reason), close.reason)
}

#[test]
fn a_granted_claim_is_answered_by_a_connack() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut rig = Rig::new(config());
        let request = rig.claim(connect(version, "c"));
        assert_eq!((request.client_id.as_ref() as &str, request.version, request.keep_alive), ("c", version, 10));
        assert!(!rig.session.accepts_packets());
        let connack = rig.grant(true);
        assert_eq!(connack.reason, ReasonCode::Success);
        assert_eq!(connack.session_present, version != Version::V31);
        assert!(rig.session.accepts_packets());
    }
}

#[test]
fn a_v5_connack_names_what_differs_from_the_defaults() {
    let config = SessionConfig {
        max_qos: QoS::AtLeastOnce,
        retain_available: false,
        shared_subscriptions: false,
        session_expiry_max: 60,
        ..config()
    };
    let mut rig = Rig::new(config);
    let mut asked = connect(Version::V5, "c");
    asked.properties.session_expiry = Some(100);
    assert_eq!(rig.claim(asked).session_expiry, 60);
    let p = rig.grant(false).properties;
    assert_eq!(p.maximum_qos, Some(QoS::AtLeastOnce));
    assert_eq!(p.retain_available, Some(false));
    assert_eq!(p.shared_subscription_available, Some(false));
    assert_eq!(p.session_expiry, Some(60));
    assert_eq!(p.receive_maximum, Some(100));
    assert_eq!(p.maximum_packet_size, Some(256 * 1024));
    assert_eq!(p.server_keep_alive, None);
    assert_eq!(p.assigned_client_id, None);
}

#[test]
fn session_expiry_of_3_x_follows_clean_session() {
    for (clean, expiry) in [(true, 0), (false, u32::MAX)] {
        let mut asked = connect(Version::V311, "c");
        asked.clean_start = clean;
        assert_eq!(Rig::new(config()).claim(asked).session_expiry, expiry);
    }
}

#[test]
fn an_empty_client_id_is_assigned_where_the_version_allows() {
    let mut rig = Rig::new(config());
    let request = rig.claim(connect(Version::V5, ""));
    assert_eq!((request.client_id.as_ref() as &str, request.client_id_assigned), (ASSIGNED, true));
    let assigned = rig.grant(false).properties.assigned_client_id;
    assert_eq!(assigned.as_deref(), Some(ASSIGNED), "[MQTT-3.1.3-7]");

    assert_eq!(Rig::new(config()).claim(connect(Version::V311, "")).client_id, ASSIGNED);
}

#[test]
fn an_empty_client_id_is_refused_where_it_is_required() {
    let refused = (Some(ReasonCode::ClientIdentifierNotValid), DisconnectReason::ClientIdRequired);
    let mut lasting = connect(Version::V311, "");
    lasting.clean_start = false;
    assert_eq!(refusal(lasting, config()), refused, "[MQTT-3.1.3-8/3.1.1]");
    assert_eq!(refusal(connect(Version::V31, ""), config()), refused);
    let strict = SessionConfig { client_id_required: true, ..config() };
    assert_eq!(refusal(connect(Version::V5, ""), strict), refused);
}

#[test]
fn a_client_id_against_the_listeners_rules_is_refused_and_remembered() {
    let strict = SessionConfig { client_id_max_length: 4, client_id_policy: ClientIdPolicy::Alphanumeric, ..config() };
    let code = Some(ReasonCode::ClientIdentifierNotValid);
    assert_eq!(refusal(connect(Version::V5, "abcde"), strict.clone()), (code, DisconnectReason::ClientIdTooLong));
    assert_eq!(refusal(connect(Version::V311, "a-b"), strict.clone()), (code, DisconnectReason::ClientIdInvalid));
    Rig::new(strict.clone()).claim(connect(Version::V311, "aB3"));

    let mut rig = Rig::new(strict);
    let mut named = connect(Version::V311, "abcde");
    named.username = Some("ann".into());
    rig.handle(Packet::Connect(Box::new(named)));
    assert_eq!(rig.session.client_id(), "abcde");
    assert_eq!(rig.session.username().map(|u| u.as_ref() as &str), Some("ann"));
}

#[test]
fn a_bad_will_is_refused_with_its_code_and_3_x_is_mostly_just_closed() {
    let config = SessionConfig { max_qos: QoS::AtLeastOnce, retain_available: false, ..config() };
    let mut not_text = will("w");
    not_text.properties.payload_format = Some(true);
    not_text.payload = Bytes::from_static(&[0xFF]);
    let mut high = will("w");
    high.qos = QoS::ExactlyOnce;
    let mut retained = will("w");
    retained.retain = true;
    let cases = [
        (will("a/#"), ReasonCode::TopicNameInvalid, false),
        (will(""), ReasonCode::TopicNameInvalid, false),
        (not_text, ReasonCode::PayloadFormatInvalid, false),
        (high, ReasonCode::QoSNotSupported, false),
        (retained, ReasonCode::RetainNotSupported, false),
        (will("$events/client_connected"), ReasonCode::NotAuthorized, true),
    ];
    for (will, code, v3_is_told) in cases {
        let mut v5 = connect(Version::V5, "c");
        v5.will = Some(will);
        let mut v3 = v5.clone();
        v3.version = Version::V311;
        assert_eq!(refusal(v5, config.clone()), (Some(code), DisconnectReason::BadWillMessage));
        assert_eq!(refusal(v3, config.clone()), (v3_is_told.then_some(code), DisconnectReason::BadWillMessage));
    }
}

#[test]
fn an_authentication_method_is_refused() {
    let mut asked = connect(Version::V5, "c");
    asked.properties.authentication_method = Some("SCRAM".into());
    let refused = (Some(ReasonCode::BadAuthenticationMethod), DisconnectReason::NotAuthenticated);
    assert_eq!(refusal(asked, config()), refused);
}

#[test]
fn a_keep_alive_outside_the_range_is_adjusted_or_refused() {
    let adjust = SessionConfig { keep_alive_min: 60, keep_alive_max: 300, ..config() };
    let refuse = SessionConfig { keep_alive_outside: KeepAliveOutside::Refuse, ..adjust.clone() };
    for (asked, told, v3) in [(10, Some(60), 60), (100, None, 100), (400, Some(300), 400), (0, Some(300), 0)] {
        let mut v5 = connect(Version::V5, "c");
        v5.keep_alive = asked;
        let mut rig = Rig::new(adjust.clone());
        assert_eq!(rig.claim(v5.clone()).keep_alive, told.unwrap_or(asked));
        assert_eq!(rig.grant(false).properties.server_keep_alive, told, "[MQTT 5.0 §3.2.2.3.14]");

        let mut old = v5.clone();
        old.version = Version::V311;
        assert_eq!(Rig::new(adjust.clone()).claim(old).keep_alive, v3);
        if told.is_some() {
            assert_eq!(refusal(v5, refuse.clone()).1, DisconnectReason::TcpClosed);
        } else {
            Rig::new(refuse.clone()).claim(v5);
        }
    }
}

#[test]
fn a_ping_before_connect_closes_without_a_packet() {
    let actions = Rig::new(config()).handle(Packet::PingReq);
    assert_eq!(actions.len(), 1);
    assert_eq!(close(&actions).reason, DisconnectReason::PingWithoutConnect);
}

#[test]
fn a_first_packet_other_than_connect_closes_without_a_packet() {
    // [MQTT-3.1.0-1]
    let actions = Rig::new(config()).handle(publish("t", QoS::AtMostOnce, 0));
    assert_eq!(actions.len(), 1);
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);
}

#[test]
fn a_refused_claim_tells_the_code_and_the_reason() {
    let mut rig = Rig::new(config());
    let mut asked = connect(Version::V5, "c");
    asked.will = Some(will("w"));
    rig.claim(asked);
    let elsewhere = Some("other:1883".into());
    rig.session.refused(DisconnectReason::TooManyConnections, ReasonCode::QuotaExceeded, elsewhere.clone());
    let actions = rig.actions();
    assert_eq!(connack(&actions).reason, ReasonCode::QuotaExceeded);
    assert_eq!(connack(&actions).properties.server_reference, elsewhere);
    let close = close(&actions);
    assert_eq!((close.reason, close.stage), (DisconnectReason::TooManyConnections, CloseStage::Refused));
    assert_eq!(close.will, None, "a will exists from the CONNACK on");
}

#[test]
fn a_refusal_never_says_success() {
    let mut rig = Rig::new(config());
    rig.claim(connect(Version::V5, "c"));
    rig.session.refused(DisconnectReason::ServerInternalError, ReasonCode::Success, None);
    assert!(connack(&rig.actions()).reason.is_error());
}

#[test]
fn a_stream_that_ends_while_the_claim_is_open_says_so() {
    let mut rig = Rig::new(config());
    rig.claim(connect(Version::V5, "c"));
    rig.session.handle_closed();
    assert_eq!(close(&rig.actions()).stage, CloseStage::Claiming);
    rig.session.claimed(false, 5);
    assert_eq!(rig.actions(), []);
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // [MQTT-3.1.0-2]
    let mut rig = Rig::online(Version::V5, config());
    let actions = rig.handle(Packet::Connect(Box::new(connect(Version::V5, "c"))));
    assert_eq!(told(&actions), Some(ReasonCode::ProtocolError));
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);
}

#[test]
fn a_packet_fed_in_while_the_claim_is_open_is_not_lost_silently() {
    let mut rig = Rig::new(config());
    rig.claim(connect(Version::V5, "c"));
    let actions = rig.handle(Packet::PingReq);
    assert!(matches!(actions[..], [Action::Close(_)]));
}
