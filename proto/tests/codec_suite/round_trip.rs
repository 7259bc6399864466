//! What is encoded is decoded as it was.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use proptest::prelude::*;
use rollcall_proto::codec::{
    DEFAULT_MAX_PACKET, Decoder, EncodeError, PublishParts, encode, encode_publish, encoded_len, publish_len,
};
use rollcall_proto::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, PacketType, Publish, QoS, SubAck, Version,
};
use rollcall_proto::properties::{
    AckProperties, AuthProperties, ConnAckProperties, ConnectProperties, DisconnectProperties, PublishProperties,
};
use rollcall_proto::reason::ReasonCode;

use super::generators;

pub fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    encode(packet, version, &mut out).unwrap();
    out
}

pub fn decoder_for(packet: &Packet, version: Version) -> Decoder {
    match packet.packet_type() {
        PacketType::Connect => Decoder::new(DEFAULT_MAX_PACKET),
        _ => Decoder::with_version(version, DEFAULT_MAX_PACKET),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_packet_of_every_version_survives_the_wire((version, packet) in generators::packet()) {
        let mut bytes = encoded(&packet, version);
        prop_assert_eq!(bytes.len(), encoded_len(&packet, version).unwrap());
        let mut decoder = decoder_for(&packet, version);
        prop_assert_eq!(decoder.decode(&mut bytes), Ok(Some(packet)));
        prop_assert!(bytes.is_empty());
        prop_assert_eq!(decoder.version(), Some(version));
    }

    #[test]
    fn encoding_appends_and_leaves_what_is_there((version, packet) in generators::packet()) {
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&packet, version, &mut out).unwrap();
        prop_assert_eq!(&out[..6], b"before");
        prop_assert_eq!(&out[6..], &encoded(&packet, version)[..]);
    }

    #[test]
    fn a_publish_from_parts_is_the_publish_packet(
        (version, publish) in generators::version().prop_flat_map(|v| (Just(v), generators::publish(v))),
        ids in proptest::collection::vec(1u32..=268_435_455, 0..4),
    ) {
        let mut from_parts = BytesMut::new();
        let parts = PublishParts { subscription_ids: &ids, ..PublishParts::from(&publish) };
        encode_publish(&parts, version, &mut from_parts).unwrap();
        prop_assert_eq!(publish_len(&parts, version), Ok(from_parts.len()));
        let mut expected = publish;
        if version == Version::V5 && !ids.is_empty() {
            expected.properties.get_or_insert_default().subscription_ids.extend(&ids);
        }
        let mut decoder = Decoder::with_version(version, DEFAULT_MAX_PACKET);
        prop_assert_eq!(decoder.decode(&mut from_parts), Ok(Some(Packet::Publish(expected))));
    }
}

fn publish(qos: QoS, packet_id: Option<u16>) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a".into(),
        packet_id: packet_id.and_then(PacketId::new),
        properties: None,
        payload: Bytes::from_static(b"x"),
    }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: "c".into(),
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

fn refused(packet: Packet, version: Version) -> EncodeError {
    let mut out = BytesMut::from(&b"before"[..]);
    let error = encode(&packet, version, &mut out).unwrap_err();
    assert_eq!(&out[..], b"before", "an error writes nothing");
    assert_eq!(encoded_len(&packet, version), Err(error.clone()));
    error
}

#[test]
fn a_packet_that_v3_does_not_know_is_refused() {
    let auth = Auth { reason: ReasonCode::Success, properties: AuthProperties::default() };
    let bye = Disconnect { reason: ReasonCode::SessionTakenOver, properties: DisconnectProperties::default() };
    for version in [Version::V31, Version::V311] {
        assert_eq!(
            refused(Packet::Auth(Box::new(auth.clone())), version),
            EncodeError::NotInVersion { packet_type: PacketType::Auth, version }
        );
        assert_eq!(
            refused(Packet::Disconnect(Box::new(bye.clone())), version),
            EncodeError::NotInVersion { packet_type: PacketType::Disconnect, version }
        );
    }
}

#[test]
fn v3_gets_a_return_code_0x80_and_no_properties() {
    let properties = AckProperties { reason_string: Some("because".into()), user: Vec::new() };
    let id = PacketId::new(7).unwrap();
    let reasons = vec![ReasonCode::Success, ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized];
    let suback = Packet::SubAck(Box::new(SubAck { packet_id: id, reasons, properties: properties.clone() }));
    assert_eq!(&encoded(&suback, Version::V311)[..], [0x90, 5, 0, 7, 0, 2, 0x80]);
    let puback = Packet::PubAck(Ack {
        packet_id: id,
        reason: ReasonCode::QuotaExceeded,
        properties: Some(Box::new(properties)),
    });
    assert_eq!(&encoded(&puback, Version::V31)[..], [0x40, 2, 0, 7]);
    let connack = ConnAck {
        session_present: false,
        reason: ReasonCode::QuotaExceeded,
        properties: ConnAckProperties { server_keep_alive: Some(60), ..ConnAckProperties::default() },
    };
    assert_eq!(&encoded(&Packet::ConnAck(Box::new(connack)), Version::V311)[..], [0x20, 2, 0, 3]);
}

#[test]
fn what_the_decoder_would_refuse_is_not_encoded() {
    let v5 = Version::V5;
    assert_eq!(refused(Packet::Publish(publish(QoS::AtLeastOnce, None)), v5), EncodeError::PacketIdAndQoS);
    assert_eq!(refused(Packet::Publish(publish(QoS::AtMostOnce, Some(1))), v5), EncodeError::PacketIdAndQoS);
    let dup = Publish { dup: true, ..publish(QoS::AtMostOnce, None) };
    assert_eq!(refused(Packet::Publish(dup), v5), EncodeError::DupOnQoS0);
    let wildcard = Publish { topic: "a/#".into(), ..publish(QoS::AtMostOnce, None) };
    assert_eq!(refused(Packet::Publish(wildcard), v5), EncodeError::TopicNameInvalid);
    let empty = Publish { topic: ByteString::new(), ..publish(QoS::AtMostOnce, None) };
    assert_eq!(refused(Packet::Publish(empty), v5), EncodeError::EmptyTopicWithoutAlias);
    let alias = PublishProperties { topic_alias: Some(0), ..PublishProperties::default() };
    let alias = Publish { properties: Some(Box::new(alias)), ..publish(QoS::AtMostOnce, None) };
    assert_eq!(refused(Packet::Publish(alias), v5), EncodeError::PropertyValue(0x23));
    let id = PublishProperties { subscription_ids: vec![268_435_456], ..PublishProperties::default() };
    let id = Publish { properties: Some(Box::new(id)), ..publish(QoS::AtMostOnce, None) };
    assert_eq!(refused(Packet::Publish(id), v5), EncodeError::PropertyValue(0x0B));
    let nul = Connect { client_id: "a\0".into(), ..connect(v5) };
    assert_eq!(refused(Packet::Connect(Box::new(nul)), v5), EncodeError::NulInString);
    let long = Connect { client_id: "a".repeat(65_536).into(), ..connect(v5) };
    assert_eq!(refused(Packet::Connect(Box::new(long)), v5), EncodeError::FieldTooLong(65_536));
    let password = Connect { password: Some(Bytes::new()), ..connect(Version::V311) };
    assert_eq!(refused(Packet::Connect(Box::new(password)), v5), EncodeError::PasswordWithoutUsername);
    let packet_id = PacketId::MIN;
    let ack = Ack { packet_id, reason: ReasonCode::KeepAliveTimeout, properties: None };
    let error = EncodeError::ReasonNotAllowed { packet_type: PacketType::PubAck, reason: ack.reason };
    assert_eq!(refused(Packet::PubAck(ack), v5), error);
    let suback = SubAck { packet_id, reasons: Vec::new(), properties: AckProperties::default() };
    assert_eq!(refused(Packet::SubAck(Box::new(suback)), v5), EncodeError::EmptyList(PacketType::SubAck));
}

#[test]
fn a_payload_over_the_protocols_limit_is_refused() {
    let payload = vec![0; 268_435_455 - 3];
    let small = publish(QoS::AtMostOnce, None);
    let parts = PublishParts { payload: &payload, ..PublishParts::from(&small) };
    let mut out = BytesMut::new();
    assert_eq!(encode_publish(&parts, Version::V311, &mut out), Ok(()));
    assert_eq!(&out[..5], [0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    let mut out = BytesMut::new();
    let error = encode_publish(&parts, Version::V5, &mut out);
    assert_eq!(error, Err(EncodeError::PacketTooLarge(268_435_456)), "5.0 has a property length more");
    assert!(out.is_empty());
}

#[test]
fn topic_and_payload_are_views_of_the_bytes_received() {
    let mut bytes = encoded(&Packet::Publish(publish(QoS::AtMostOnce, None)), Version::V311);
    let received = bytes.as_ptr_range();
    let Ok(Some(Packet::Publish(p))) = Decoder::with_version(Version::V311, 100).decode(&mut bytes) else {
        panic!("a PUBLISH was expected");
    };
    assert!(received.contains(&p.topic.as_bytes().as_ptr()));
    assert!(received.contains(&p.payload.as_ptr()));
}
