//! mqttbytes 0.6, an independent decoder and encoder, with its packets made comparable to ours.

use std::panic::catch_unwind;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use mqttbytes::{v4, v5};
use rollcall_proto::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, RetainHandling, SubAck, Subscribe,
    SubscribeOptions, Unsubscribe, Version, Will,
};
use rollcall_proto::properties::{
    AckProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties, SubscribeProperties,
    UnsubscribeProperties, UserProperties, WillProperties,
};
use rollcall_proto::reason::ReasonCode;

pub enum Theirs {
    V4(v4::Packet),
    V5(Box<v5::Packet>),
}

/// What it makes of `bytes`: a packet and how many bytes it took, or `None` if it refuses them, waits or panics.
pub fn read(version: Version, bytes: &[u8]) -> Option<(Theirs, usize)> {
    let mut buf = BytesMut::from(bytes);
    let outcome = catch_unwind(move || {
        let packet = match version {
            Version::V31 => None,
            Version::V311 => v4::read(&mut buf, usize::MAX).ok().map(Theirs::V4),
            Version::V5 => v5::read(&mut buf, usize::MAX).ok().map(|packet| Theirs::V5(Box::new(packet))),
        };
        packet.map(|packet| (packet, buf.len()))
    });
    outcome.ok().flatten().map(|(packet, left)| (packet, bytes.len() - left))
}

pub fn write(packet: &Theirs) -> BytesMut {
    let mut out = BytesMut::new();
    match packet {
        Theirs::V4(packet) => write_v4(packet, &mut out),
        Theirs::V5(packet) => write_v5(packet, &mut out),
    }
    out
}

fn write_v4(packet: &v4::Packet, out: &mut BytesMut) {
    match packet {
        v4::Packet::Connect(p) => p.write(out),
        v4::Packet::ConnAck(p) => p.write(out),
        v4::Packet::Publish(p) => p.write(out),
        v4::Packet::PubAck(p) => p.write(out),
        v4::Packet::PubRec(p) => p.write(out),
        v4::Packet::PubRel(p) => p.write(out),
        v4::Packet::PubComp(p) => p.write(out),
        v4::Packet::Subscribe(p) => p.write(out),
        v4::Packet::SubAck(p) => p.write(out),
        v4::Packet::Unsubscribe(p) => p.write(out),
        v4::Packet::UnsubAck(p) => p.write(out),
        v4::Packet::PingReq => v4::PingReq.write(out),
        v4::Packet::PingResp => v4::PingResp.write(out),
        v4::Packet::Disconnect => v4::Disconnect.write(out),
    }
    .unwrap();
}

fn write_v5(packet: &v5::Packet, out: &mut BytesMut) {
    match packet {
        v5::Packet::Connect(p) => p.write(out),
        v5::Packet::ConnAck(p) => p.write(out),
        v5::Packet::Publish(p) => p.write(out),
        v5::Packet::PubAck(p) => p.write(out),
        v5::Packet::PubRec(p) => p.write(out),
        v5::Packet::PubRel(p) => p.write(out),
        v5::Packet::PubComp(p) => p.write(out),
        v5::Packet::Subscribe(p) => p.write(out),
        v5::Packet::SubAck(p) => p.write(out),
        v5::Packet::Unsubscribe(p) => p.write(out),
        v5::Packet::UnsubAck(p) => p.write(out),
        v5::Packet::PingReq => v5::PingReq.write(out),
        v5::Packet::PingResp => v5::PingResp.write(out),
        v5::Packet::Disconnect(p) => p.write(out),
    }
    .unwrap();
}

/// Their packet as ours; only for one that is also a packet to us.
pub fn translate(packet: Theirs) -> Packet {
    match packet {
        Theirs::V4(packet) => translate_v4(packet),
        Theirs::V5(packet) => translate_v5(*packet),
    }
}

/// Our packet with what theirs cannot tell apart made equal: an empty user name or password and none.
pub fn comparable(mut packet: Packet) -> Packet {
    if let Packet::Connect(connect) = &mut packet {
        connect.username = connect.username.take().filter(|name| !name.is_empty());
        connect.password = connect.password.take().filter(|password| !password.is_empty());
    }
    packet
}

fn id(pkid: u16) -> PacketId {
    PacketId::new(pkid).unwrap()
}

fn qos(qos: mqttbytes::QoS) -> QoS {
    QoS::from_bits(qos as u8).unwrap()
}

fn string(string: Option<String>) -> Option<ByteString> {
    string.map(ByteString::from)
}

fn flag(byte: Option<u8>) -> Option<bool> {
    byte.map(|byte| byte == 1)
}

fn user(user: Vec<(String, String)>) -> UserProperties {
    user.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn reason(byte: u8) -> ReasonCode {
    ReasonCode::from_byte(byte).unwrap()
}

fn credentials(login: Option<(String, String)>) -> (Option<ByteString>, Option<Bytes>) {
    let (username, password) = login.unwrap_or_default();
    (Some(username).filter(|s| !s.is_empty()).map(Into::into), Some(password).filter(|s| !s.is_empty()).map(Into::into))
}

fn plain_ack(pkid: u16) -> Ack {
    Ack { packet_id: id(pkid), reason: ReasonCode::Success, properties: None }
}

fn translate_v4(packet: v4::Packet) -> Packet {
    let no_properties = AckProperties::default();
    match packet {
        v4::Packet::Connect(p) => Packet::Connect(Box::new(connect_v4(p))),
        v4::Packet::ConnAck(p) => {
            let codes = [0x00, 0x84, 0x85, 0x88, 0x86, 0x87];
            let reason = reason(codes[p.code as usize]);
            let properties = ConnAckProperties::default();
            Packet::ConnAck(Box::new(ConnAck { session_present: p.session_present, reason, properties }))
        }
        v4::Packet::Publish(p) => Packet::Publish(Publish {
            dup: p.dup,
            qos: qos(p.qos),
            retain: p.retain,
            topic: p.topic.into(),
            packet_id: PacketId::new(p.pkid),
            properties: None,
            payload: p.payload,
        }),
        v4::Packet::PubAck(p) => Packet::PubAck(plain_ack(p.pkid)),
        v4::Packet::PubRec(p) => Packet::PubRec(plain_ack(p.pkid)),
        v4::Packet::PubRel(p) => Packet::PubRel(plain_ack(p.pkid)),
        v4::Packet::PubComp(p) => Packet::PubComp(plain_ack(p.pkid)),
        v4::Packet::Subscribe(p) => {
            let option = |requested| SubscribeOptions { qos: qos(requested), ..SubscribeOptions::default() };
            let filters = p.filters.into_iter().map(|f| (f.path.into(), option(f.qos))).collect();
            let properties = SubscribeProperties::default();
            Packet::Subscribe(Box::new(Subscribe { packet_id: id(p.pkid), filters, properties }))
        }
        v4::Packet::SubAck(p) => {
            let code = |code| match code {
                v4::SubscribeReasonCode::Success(granted) => reason(granted as u8),
                v4::SubscribeReasonCode::Failure => ReasonCode::UnspecifiedError,
            };
            let reasons = p.return_codes.into_iter().map(code).collect();
            Packet::SubAck(Box::new(SubAck { packet_id: id(p.pkid), reasons, properties: no_properties }))
        }
        v4::Packet::Unsubscribe(p) => {
            let filters = p.topics.into_iter().map(Into::into).collect();
            let properties = UnsubscribeProperties::default();
            Packet::Unsubscribe(Box::new(Unsubscribe { packet_id: id(p.pkid), filters, properties }))
        }
        v4::Packet::UnsubAck(p) => {
            Packet::UnsubAck(Box::new(SubAck { packet_id: id(p.pkid), reasons: Vec::new(), properties: no_properties }))
        }
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::PingResp => Packet::PingResp,
        v4::Packet::Disconnect => {
            let properties = DisconnectProperties::default();
            Packet::Disconnect(Box::new(Disconnect { reason: ReasonCode::Success, properties }))
        }
    }
}

fn connect_v4(p: v4::Connect) -> Connect {
    let (username, password) = credentials(p.login.map(|login| (login.username, login.password)));
    let will = p.last_will.map(|will| Will {
        topic: will.topic.into(),
        payload: will.message,
        qos: qos(will.qos),
        retain: will.retain,
        properties: WillProperties::default(),
    });
    Connect {
        version: Version::V311,
        clean_start: p.clean_session,
        keep_alive: p.keep_alive,
        client_id: p.client_id.into(),
        username,
        password,
        will,
        properties: ConnectProperties::default(),
    }
}

macro_rules! ack {
    ($p:ident) => {
        Ack {
            packet_id: id($p.pkid),
            reason: reason($p.reason as u8),
            properties: $p.properties.map(|p| Box::new(ack_properties(p.reason_string, p.user_properties))),
        }
    };
}

fn translate_v5(packet: v5::Packet) -> Packet {
    match packet {
        v5::Packet::Connect(p) => Packet::Connect(Box::new(connect_v5(p))),
        v5::Packet::ConnAck(p) => Packet::ConnAck(Box::new(ConnAck {
            session_present: p.session_present,
            reason: reason(p.code as u8),
            properties: p.properties.map(connack_properties).unwrap_or_default(),
        })),
        v5::Packet::Publish(p) => Packet::Publish(Publish {
            dup: p.dup,
            qos: qos(p.qos),
            retain: p.retain,
            topic: p.topic.into(),
            packet_id: PacketId::new(p.pkid),
            properties: p.properties.map(|p| Box::new(publish_properties(p))),
            payload: p.payload,
        }),
        v5::Packet::PubAck(p) => Packet::PubAck(ack!(p)),
        v5::Packet::PubRec(p) => Packet::PubRec(ack!(p)),
        v5::Packet::PubRel(p) => Packet::PubRel(ack!(p)),
        v5::Packet::PubComp(p) => Packet::PubComp(ack!(p)),
        v5::Packet::Subscribe(p) => Packet::Subscribe(Box::new(subscribe_v5(p))),
        v5::Packet::SubAck(p) => Packet::SubAck(Box::new(SubAck {
            packet_id: id(p.pkid),
            reasons: p.return_codes.into_iter().map(|code| reason(code as u8)).collect(),
            properties: p.properties.map(|p| ack_properties(p.reason_string, p.user_properties)).unwrap_or_default(),
        })),
        v5::Packet::Unsubscribe(p) => Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id: id(p.pkid),
            filters: p.filters.into_iter().map(Into::into).collect(),
            properties: UnsubscribeProperties {
                user: p.properties.map(|p| user(p.user_properties)).unwrap_or_default(),
            },
        })),
        v5::Packet::UnsubAck(p) => Packet::UnsubAck(Box::new(SubAck {
            packet_id: id(p.pkid),
            reasons: p.reasons.into_iter().map(|code| reason(code as u8)).collect(),
            properties: p.properties.map(|p| ack_properties(p.reason_string, p.user_properties)).unwrap_or_default(),
        })),
        v5::Packet::PingReq => Packet::PingReq,
        v5::Packet::PingResp => Packet::PingResp,
        v5::Packet::Disconnect(p) => Packet::Disconnect(Box::new(Disconnect {
            reason: reason(p.reason_code as u8),
            properties: p.properties.map(disconnect_properties).unwrap_or_default(),
        })),
    }
}

fn connect_v5(p: v5::Connect) -> Connect {
    let (username, password) = credentials(p.login.map(|login| (login.username, login.password)));
    let will = p.last_will.map(|will| Will {
        topic: will.topic.into(),
        payload: will.message,
        qos: qos(will.qos),
        retain: will.retain,
        properties: will.properties.map(will_properties).unwrap_or_default(),
    });
    Connect {
        version: Version::V5,
        clean_start: p.clean_session,
        keep_alive: p.keep_alive,
        client_id: p.client_id.into(),
        username,
        password,
        will,
        properties: p.properties.map(connect_properties).unwrap_or_default(),
    }
}

fn connect_properties(p: v5::ConnectProperties) -> ConnectProperties {
    ConnectProperties {
        session_expiry: p.session_expiry_interval,
        receive_maximum: p.receive_maximum,
        maximum_packet_size: p.max_packet_size,
        topic_alias_maximum: p.topic_alias_max,
        request_response_information: flag(p.request_response_info),
        request_problem_information: flag(p.request_problem_info),
        user: user(p.user_properties),
        authentication_method: string(p.authentication_method),
        authentication_data: p.authentication_data,
    }
}

fn will_properties(p: v5::WillProperties) -> WillProperties {
    WillProperties {
        delay_interval: p.delay_interval,
        payload_format: flag(p.payload_format_indicator),
        message_expiry: p.message_expiry_interval,
        content_type: string(p.content_type),
        response_topic: string(p.response_topic),
        correlation_data: p.correlation_data,
        user: user(p.user_properties),
    }
}

fn connack_properties(p: v5::ConnAckProperties) -> ConnAckProperties {
    ConnAckProperties {
        session_expiry: p.session_expiry_interval,
        receive_maximum: p.receive_max,
        maximum_qos: p.max_qos.and_then(QoS::from_bits),
        retain_available: flag(p.retain_available),
        maximum_packet_size: p.max_packet_size,
        assigned_client_id: string(p.assigned_client_identifier),
        topic_alias_maximum: p.topic_alias_max,
        reason_string: string(p.reason_string),
        user: user(p.user_properties),
        wildcard_subscription_available: flag(p.wildcard_subscription_available),
        subscription_ids_available: flag(p.subscription_identifiers_available),
        shared_subscription_available: flag(p.shared_subscription_available),
        server_keep_alive: p.server_keep_alive,
        response_information: string(p.response_information),
        server_reference: string(p.server_reference),
        authentication_method: string(p.authentication_method),
        authentication_data: p.authentication_data,
    }
}

fn publish_properties(p: v5::PublishProperties) -> PublishProperties {
    PublishProperties {
        payload_format: flag(p.payload_format_indicator),
        message_expiry: p.message_expiry_interval,
        topic_alias: p.topic_alias,
        response_topic: string(p.response_topic),
        correlation_data: p.correlation_data,
        user: user(p.user_properties),
        subscription_ids: p.subscription_identifiers.into_iter().map(|id| id.try_into().unwrap()).collect(),
        content_type: string(p.content_type),
    }
}

fn ack_properties(reason_string: Option<String>, user_properties: Vec<(String, String)>) -> AckProperties {
    AckProperties { reason_string: string(reason_string), user: user(user_properties) }
}

fn disconnect_properties(p: v5::DisconnectProperties) -> DisconnectProperties {
    DisconnectProperties {
        session_expiry: p.session_expiry_interval,
        reason_string: string(p.reason_string),
        user: user(p.user_properties),
        server_reference: string(p.server_reference),
    }
}

fn subscribe_v5(p: v5::Subscribe) -> Subscribe {
    let filter = |f: v5::SubscribeFilter| {
        let retain_handling = match f.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => RetainHandling::Send,
            v5::RetainForwardRule::OnNewSubscribe => RetainHandling::SendIfNew,
            v5::RetainForwardRule::Never => RetainHandling::DoNotSend,
        };
        let (no_local, retain_as_published) = (f.nolocal, f.preserve_retain);
        (f.path.into(), SubscribeOptions { qos: qos(f.qos), no_local, retain_as_published, retain_handling })
    };
    let (subscription_id, user_properties) = p.properties.map(|p| (p.id, p.user_properties)).unwrap_or_default();
    Subscribe {
        packet_id: id(p.pkid),
        filters: p.filters.into_iter().map(filter).collect(),
        properties: SubscribeProperties {
            subscription_id: subscription_id.map(|id| id.try_into().unwrap()),
            user: user(user_properties),
        },
    }
}
