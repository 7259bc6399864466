//! Strategies for every packet a version can carry, in the one form that decoding gives it.

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use rollcall_proto::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling, SubAck, Subscribe,
    SubscribeOptions, Unsubscribe, Version, Will,
};
use rollcall_proto::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
    SubscribeProperties, UnsubscribeProperties, UserProperties, WillProperties,
};
use rollcall_proto::reason::ReasonCode;

pub fn version() -> impl Strategy<Value = Version> {
    select(vec![Version::V31, Version::V311, Version::V5])
}

/// A packet and the version of its connection.
pub fn packet() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet_of(version)))
}

pub fn packet_of(version: Version) -> BoxedStrategy<Packet> {
    let v5 = version == Version::V5;
    let mut choices = vec![
        connect(version).prop_map(|p| Packet::Connect(Box::new(p))).boxed(),
        connack(version).prop_map(|p| Packet::ConnAck(Box::new(p))).boxed(),
        publish(version).prop_map(Packet::Publish).boxed(),
        ack(v5, PUBACK).prop_map(Packet::PubAck).boxed(),
        ack(v5, PUBACK).prop_map(Packet::PubRec).boxed(),
        ack(v5, &[0x00, 0x92]).prop_map(Packet::PubRel).boxed(),
        ack(v5, &[0x00, 0x92]).prop_map(Packet::PubComp).boxed(),
        subscribe(v5).prop_map(|p| Packet::Subscribe(Box::new(p))).boxed(),
        suback(v5).prop_map(|p| Packet::SubAck(Box::new(p))).boxed(),
        unsubscribe(v5).prop_map(|p| Packet::Unsubscribe(Box::new(p))).boxed(),
        unsuback(v5).prop_map(|p| Packet::UnsubAck(Box::new(p))).boxed(),
        Just(Packet::PingReq).boxed(),
        Just(Packet::PingResp).boxed(),
        disconnect(v5).prop_map(|p| Packet::Disconnect(Box::new(p))).boxed(),
    ];
    if v5 {
        choices.push(auth().prop_map(|p| Packet::Auth(Box::new(p))).boxed());
    }
    proptest::strategy::Union::new(choices).boxed()
}

const PUBACK: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

fn reason(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    select(codes).prop_map(|code| ReasonCode::from_byte(code).unwrap())
}

fn string() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[ -~]{0,12}", "\\PC{0,6}", Just("x".repeat(200)), Just("é".repeat(100))].prop_map(ByteString::from)
}

pub fn topic_name() -> impl Strategy<Value = ByteString> {
    prop_oneof!["[a-z/$]{1,10}", "[^+#\\x00]{1,6}", Just("t".repeat(130))].prop_map(ByteString::from)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 200..300)].prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn user() -> impl Strategy<Value = UserProperties> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec((string(), string()), 1..4)]
}

fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..300, Just(16_384), Just(268_435_455)]
}

/// `strategy`'s values in 5.0, the default before.
fn in_v5<T: Default + Clone + std::fmt::Debug + 'static>(
    v5: bool,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if v5 { strategy.boxed() } else { Just(T::default()).boxed() }
}

pub fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let v5 = version == Version::V5;
    let head = (any::<bool>(), any::<u16>(), string(), of(string()), of(bytes()));
    (head, of(will(v5)), in_v5(v5, connect_properties())).prop_map(
        move |((clean_start, keep_alive, client_id, username, password), will, properties)| Connect {
            version,
            clean_start,
            keep_alive,
            client_id,
            password: password.filter(|_| v5 || username.is_some()),
            username,
            will,
            properties,
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let numbers = (of(any::<u32>()), of(1..=u16::MAX), of(1..=u32::MAX), of(any::<u16>()));
    let auth = of((string(), of(bytes())));
    (numbers, of(any::<bool>()), of(any::<bool>()), user(), auth).prop_map(
        |(numbers, request_response_information, request_problem_information, user, auth)| ConnectProperties {
            session_expiry: numbers.0,
            receive_maximum: numbers.1,
            maximum_packet_size: numbers.2,
            topic_alias_maximum: numbers.3,
            request_response_information,
            request_problem_information,
            user,
            authentication_method: auth.as_ref().map(|auth| auth.0.clone()),
            authentication_data: auth.and_then(|auth| auth.1),
        },
    )
}

fn will(v5: bool) -> impl Strategy<Value = Will> {
    (topic_name(), bytes(), qos(), any::<bool>(), in_v5(v5, will_properties()))
        .prop_map(|(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties })
}

fn will_properties() -> impl Strategy<Value = WillProperties> {
    (of(any::<u32>()), of(any::<bool>()), of(any::<u32>()), of(string()), of(topic_name()), of(bytes()), user())
        .prop_map(|p| WillProperties {
            delay_interval: p.0,
            payload_format: p.1,
            message_expiry: p.2,
            content_type: p.3,
            response_topic: p.4,
            correlation_data: p.5,
            user: p.6,
        })
}

fn connack(version: Version) -> BoxedStrategy<ConnAck> {
    const REFUSALS: &[u8] = &[
        0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
        0x9C, 0x9D, 0x9F,
    ];
    const RETURN_CODES: &[u8] = &[0x84, 0x85, 0x88, 0x86, 0x87];
    let v5 = version == Version::V5;
    let session_present = if version == Version::V31 { Just(false).boxed() } else { any::<bool>().boxed() };
    let outcome = prop_oneof![
        session_present.prop_map(|present| (present, ReasonCode::Success)),
        reason(if v5 { REFUSALS } else { RETURN_CODES }).prop_map(|reason| (false, reason)),
    ];
    (outcome, in_v5(v5, connack_properties()))
        .prop_map(|((session_present, reason), properties)| ConnAck { session_present, reason, properties })
        .boxed()
}

fn connack_properties() -> impl Strategy<Value = ConnAckProperties> {
    let numbers = (of(any::<u32>()), of(1..=u16::MAX), of(1..=u32::MAX), of(any::<u16>()), of(any::<u16>()));
    let flags = (of(any::<bool>()), of(any::<bool>()), of(any::<bool>()), of(any::<bool>()));
    let strings = (of(string()), of(string()), of(string()), of(string()));
    let maximum_qos = of(select(vec![QoS::AtMostOnce, QoS::AtLeastOnce]));
    (numbers, flags, strings, maximum_qos, user(), of((string(), of(bytes())))).prop_map(
        |(numbers, flags, strings, maximum_qos, user, auth)| ConnAckProperties {
            session_expiry: numbers.0,
            receive_maximum: numbers.1,
            maximum_qos,
            retain_available: flags.0,
            maximum_packet_size: numbers.2,
            assigned_client_id: strings.0,
            topic_alias_maximum: numbers.3,
            reason_string: strings.1,
            user,
            wildcard_subscription_available: flags.1,
            subscription_ids_available: flags.2,
            shared_subscription_available: flags.3,
            server_keep_alive: numbers.4,
            response_information: strings.2,
            server_reference: strings.3,
            authentication_method: auth.as_ref().map(|auth| auth.0.clone()),
            authentication_data: auth.and_then(|auth| auth.1),
        },
    )
}

pub fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let v5 = version == Version::V5;
    let head = (any::<bool>(), qos(), any::<bool>(), packet_id(), any::<bool>());
    (head, topic_name(), bytes(), in_v5(v5, of(publish_properties()))).prop_map(
        |((dup, qos, retain, id, by_alias), topic, payload, properties)| {
            let properties = properties.filter(|p| *p != PublishProperties::default());
            let has_alias = properties.as_ref().is_some_and(|p| p.topic_alias.is_some());
            Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: if by_alias && has_alias { ByteString::new() } else { topic },
                packet_id: (qos != QoS::AtMostOnce).then_some(id),
                properties: properties.map(Box::new),
                payload,
            }
        },
    )
}

fn publish_properties() -> impl Strategy<Value = PublishProperties> {
    (
        of(any::<bool>()),
        of(any::<u32>()),
        of(1..=u16::MAX),
        of(topic_name()),
        of(bytes()),
        user(),
        vec(subscription_id(), 0..4),
        of(string()),
    )
        .prop_map(|p| PublishProperties {
            payload_format: p.0,
            message_expiry: p.1,
            topic_alias: p.2,
            response_topic: p.3,
            correlation_data: p.4,
            user: p.5,
            subscription_ids: p.6,
            content_type: p.7,
        })
}

fn ack_properties() -> impl Strategy<Value = AckProperties> {
    (of(string()), user()).prop_map(|(reason_string, user)| AckProperties { reason_string, user })
}

fn ack(v5: bool, codes: &'static [u8]) -> impl Strategy<Value = Ack> {
    let reason = if v5 { reason(codes).boxed() } else { Just(ReasonCode::Success).boxed() };
    (packet_id(), reason, in_v5(v5, of(ack_properties()))).prop_map(|(packet_id, reason, properties)| Ack {
        packet_id,
        reason,
        properties: properties.filter(|p| !p.is_empty()).map(Box::new),
    })
}

fn subscribe(v5: bool) -> impl Strategy<Value = Subscribe> {
    let retain_handling =
        select(vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]).boxed();
    let flags = (any::<bool>(), any::<bool>(), retain_handling);
    let filter = (string(), qos(), flags).prop_map(move |(filter, qos, (no_local, retain_as_published, handling))| {
        let before = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let no_local = no_local && !filter.starts_with("$share/");
        let options = SubscribeOptions { qos, no_local, retain_as_published, retain_handling: handling };
        (filter, if v5 { options } else { before })
    });
    let properties = (of(subscription_id()), user())
        .prop_map(|(subscription_id, user)| SubscribeProperties { subscription_id, user });
    (packet_id(), vec(filter, 1..5), in_v5(v5, properties)).prop_map(|(packet_id, filters, properties)| Subscribe {
        packet_id,
        filters,
        properties,
    })
}

fn suback(v5: bool) -> impl Strategy<Value = SubAck> {
    const V5: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    let codes = if v5 { V5 } else { &V5[..4] };
    (packet_id(), vec(reason(codes), 1..5), in_v5(v5, ack_properties()))
        .prop_map(|(packet_id, reasons, properties)| SubAck { packet_id, reasons, properties })
}

fn unsubscribe(v5: bool) -> impl Strategy<Value = Unsubscribe> {
    (packet_id(), vec(string(), 1..5), in_v5(v5, user())).prop_map(|(packet_id, filters, user)| Unsubscribe {
        packet_id,
        filters,
        properties: UnsubscribeProperties { user },
    })
}

fn unsuback(v5: bool) -> impl Strategy<Value = SubAck> {
    let reasons = vec(reason(&[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]), 1..5);
    (packet_id(), in_v5(v5, reasons), in_v5(v5, ack_properties())).prop_map(|(packet_id, reasons, properties)| SubAck {
        packet_id,
        reasons,
        properties,
    })
}

fn disconnect(v5: bool) -> impl Strategy<Value = Disconnect> {
    const V5: &[u8] = &[
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
        0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    let codes = if v5 { V5 } else { &V5[..1] };
    let properties = (of(any::<u32>()), of(string()), user(), of(string()));
    let properties = prop_oneof![
        Just(DisconnectProperties::default()),
        properties.prop_map(|(session_expiry, reason_string, user, server_reference)| DisconnectProperties {
            session_expiry,
            reason_string,
            user,
            server_reference,
        }),
    ];
    (reason(codes), in_v5(v5, properties)).prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth> {
    let properties = (string(), of(bytes()), of(string()), user()).prop_map(|p| AuthProperties {
        authentication_method: Some(p.0),
        authentication_data: p.1,
        reason_string: p.2,
        user: p.3,
    });
    prop_oneof![
        1 => Just(Auth { reason: ReasonCode::Success, properties: AuthProperties::default() }),
        4 => (reason(&[0x00, 0x18, 0x19]), properties).prop_map(|(reason, properties)| Auth { reason, properties }),
    ]
}
