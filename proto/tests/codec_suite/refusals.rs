//! What must not be decoded, why, and what a 5.0 peer is told.

use bytes::BytesMut;
use rollcall_proto::codec::{DEFAULT_MAX_PACKET, DecodeError, Decoder};
use rollcall_proto::packet::{Packet, PacketType, Version};
use rollcall_proto::reason::ReasonCode;

const V31: Version = Version::V31;
const V311: Version = Version::V311;
const V5: Version = Version::V5;

/// `body` behind a first byte and its right length.
fn framed(first: u8, body: &[u8]) -> BytesMut {
    let len = u8::try_from(body.len()).unwrap();
    assert!(len < 0x80);
    let mut bytes = BytesMut::from(&[first, len][..]);
    bytes.extend_from_slice(body);
    bytes
}

fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet, DecodeError> {
    let mut decoder = match first >> 4 {
        1 => Decoder::new(DEFAULT_MAX_PACKET),
        _ => Decoder::with_version(version, DEFAULT_MAX_PACKET),
    };
    decoder.decode(&mut framed(first, body)).map(|packet| packet.expect("the packet is whole"))
}

#[track_caller]
fn refused(version: Version, first: u8, body: &[u8], error: DecodeError) {
    assert_eq!(decode(version, first, body), Err(error));
}

#[track_caller]
fn accepted(version: Version, first: u8, body: &[u8]) -> Packet {
    decode(version, first, body).unwrap()
}

/// A CONNECT from its protocol, flags and what follows the keep alive.
fn connect(protocol: &[u8], flags: u8, rest: &[u8]) -> Vec<u8> {
    let name = &protocol[..protocol.len() - 1];
    let mut body = vec![0, u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(protocol);
    body.extend_from_slice(&[flags, 0, 60]);
    body.extend_from_slice(rest);
    body
}

const MQTT_31: &[u8] = b"MQIsdp\x03";
const MQTT_311: &[u8] = b"MQTT\x04";
const MQTT_5: &[u8] = b"MQTT\x05";

#[test]
fn a_protocol_that_is_not_spoken_has_its_own_error() {
    for (protocol, error) in [
        (&b"MQTT\x06"[..], DecodeError::UnsupportedProtocolLevel(6)),
        (b"MQTT\x03", DecodeError::UnsupportedProtocolLevel(3)),
        (b"MQTT\x84", DecodeError::UnsupportedProtocolLevel(0x84)),
        (b"MQIsdp\x04", DecodeError::UnsupportedProtocolLevel(4)),
        (b"mqtt\x04", DecodeError::UnsupportedProtocolName),
        (b"\x04", DecodeError::UnsupportedProtocolName),
    ] {
        assert_eq!(error.reason_code(), ReasonCode::UnsupportedProtocolVersion);
        assert_eq!(error.reason_code().v3_return_code(), 1);
        refused(V5, 0x10, &connect(protocol, 2, b"\x00\x01c"), error);
    }
}

#[test]
fn the_version_is_known_even_if_the_rest_of_its_connect_is_not() {
    let mut decoder = Decoder::new(DEFAULT_MAX_PACKET);
    let outcome = decoder.decode(&mut framed(0x10, &connect(MQTT_5, 1, b"\x00\x00\x01c")));
    assert_eq!(outcome, Err(DecodeError::ReservedConnectFlag));
    assert_eq!(decoder.version(), Some(V5));
}

/// [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13], [MQTT-3.1.2-3/3.1.1], [MQTT-3.1.2-11/3.1.1],
/// [MQTT-3.1.2-13/3.1.1], [MQTT-3.1.2-14/3.1.1], [MQTT-3.1.2-15/3.1.1], [MQTT-3.1.2-22/3.1.1]
#[test]
fn connect_flags_must_agree() {
    let id = b"\x00\x01c";
    let id_5 = b"\x00\x00\x01c";
    for (protocol, rest) in [(MQTT_311, &id[..]), (MQTT_5, id_5)] {
        refused(V5, 0x10, &connect(protocol, 0x03, rest), DecodeError::ReservedConnectFlag);
        refused(V5, 0x10, &connect(protocol, 0x0A, rest), DecodeError::InvalidWillFlags);
        refused(V5, 0x10, &connect(protocol, 0x22, rest), DecodeError::InvalidWillFlags);
        refused(V5, 0x10, &connect(protocol, 0x1E, rest), DecodeError::InvalidQoS);
    }
    refused(V5, 0x10, &connect(MQTT_311, 0x42, b"\x00\x01c\x00\x01p"), DecodeError::PasswordWithoutUsername);
    accepted(V5, 0x10, &connect(MQTT_5, 0x42, b"\x00\x00\x01c\x00\x01p"));
    refused(V5, 0x12, &connect(MQTT_311, 2, id), reserved_flags(PacketType::Connect, 2));
}

#[test]
fn mqtt_31_may_leave_unused_bits_and_announced_credentials() {
    let Packet::Connect(connect) = accepted(V31, 0x1F, &connect(MQTT_31, 0xFB, b"\x00\x01c\x00\x01u")) else {
        panic!("a CONNECT was expected");
    };
    assert_eq!(connect.version, V31);
    assert_eq!(connect.username.as_deref(), Some("u"));
    assert_eq!((connect.password, connect.will), (None, None));
    accepted(V31, 0x8A, b"\x00\x01\x00\x01a\x01");
    accepted(V31, 0x6A, b"\x00\x01");
    let Packet::Publish(publish) = accepted(V31, 0x38, b"\x00\x01a") else { panic!("a PUBLISH was expected") };
    assert!(!publish.dup);
}

#[test]
fn an_empty_client_id_is_for_the_session_to_judge() {
    accepted(V311, 0x10, &connect(MQTT_311, 0, b"\x00\x00"));
    accepted(V31, 0x10, &connect(MQTT_31, 0, b"\x00\x00"));
}

/// [MQTT-3.3.2-2], [MQTT-4.7.3-1]
#[test]
fn a_bad_will_topic_names_its_client() {
    for (protocol, client_id, will) in [
        (MQTT_311, &b"\x00\x02me"[..], &b"\x00\x01#\x00\x00"[..]),
        (MQTT_311, b"\x00\x02me", b"\x00\x00\x00\x00"),
        (MQTT_31, b"\x00\x02me", b"\x00\x01+\x00\x00"),
        (MQTT_5, b"\x00\x00\x02me", b"\x00\x00\x03a/+\x00\x00"),
    ] {
        let rest = [client_id, will, b"\x00\x03you"].concat();
        let Err(error) = decode(V5, 0x10, &connect(protocol, 0x86, &rest)) else { panic!("the will topic is bad") };
        assert_eq!(error.reason_code(), ReasonCode::TopicNameInvalid);
        let DecodeError::BadWillTopic(connect) = error else { panic!("{error}") };
        assert_eq!(&connect.client_id[..], "me");
        assert_eq!(connect.username.as_deref(), Some("you"));
    }
    let worse = connect(MQTT_311, 0x86, b"\x00\x02me\x00\x01#\x00\x00\x00\x03yo");
    refused(V5, 0x10, &worse, DecodeError::UnexpectedEnd);
}

fn reserved_flags(packet_type: PacketType, flags: u8) -> DecodeError {
    DecodeError::ReservedHeaderFlags { packet_type, flags }
}

/// [MQTT-2.1.3-1]
#[test]
fn reserved_header_flags_are_refused() {
    for first in 0x20..=0xFF_u8 {
        let packet_type = PacketType::from_bits(first >> 4).unwrap();
        let flags = first & 0x0F;
        let fixed = match packet_type {
            PacketType::Publish => continue,
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
            _ => 0,
        };
        let mut decoder = Decoder::with_version(V5, DEFAULT_MAX_PACKET);
        let outcome = decoder.decode(&mut BytesMut::from(&[first][..]));
        if flags == fixed {
            assert_eq!(outcome, Ok(None));
        } else {
            assert_eq!(outcome, Err(reserved_flags(packet_type, flags)));
        }
    }
    refused(V311, 0xF0, b"", DecodeError::AuthBeforeV5);
    refused(V5, 0x00, b"", DecodeError::ReservedPacketType);
}

#[test]
fn a_length_has_at_most_four_bytes_and_in_5_0_no_more_than_it_needs() {
    let long = |version| {
        Decoder::with_version(version, DEFAULT_MAX_PACKET).decode(&mut BytesMut::from(&b"\xC0\x80\x80\x80\x80"[..]))
    };
    assert_eq!(long(V311), Err(DecodeError::VarintTooLong));
    assert_eq!(long(V5), Err(DecodeError::VarintTooLong));
    let padded =
        |version| Decoder::with_version(version, DEFAULT_MAX_PACKET).decode(&mut BytesMut::from(&b"\xC0\x80\x00"[..]));
    assert_eq!(padded(V311), Ok(Some(Packet::PingReq)));
    assert_eq!(padded(V5), Err(DecodeError::VarintNotMinimal));
    let mut connect_5 = framed(0x10, &connect(MQTT_5, 2, b"\x00\x00\x01c"));
    connect_5[1] |= 0x80;
    let padded = BytesMut::from(&[&connect_5[..2], &[0], &connect_5[2..]].concat()[..]);
    let outcome = Decoder::new(DEFAULT_MAX_PACKET).decode(&mut padded.clone());
    assert_eq!(outcome, Err(DecodeError::VarintNotMinimal));
    refused(V5, 0x30, b"\x00\x01a\x80\x00", DecodeError::VarintNotMinimal);
    refused(V5, 0x30, b"\x00\x01a\x03\x0B\x81\x00", DecodeError::VarintNotMinimal);
    refused(V5, 0x30, b"\x00\x01a\x80\x80\x80\x80\x00", DecodeError::VarintTooLong);
}

#[test]
fn lengths_that_disagree_are_refused() {
    refused(V311, 0x30, b"", DecodeError::UnexpectedEnd);
    refused(V311, 0x30, b"\x00\x02a", DecodeError::UnexpectedEnd);
    refused(V311, 0x32, b"\x00\x01a\x00", DecodeError::UnexpectedEnd);
    refused(V5, 0x30, b"\x00\x01a", DecodeError::UnexpectedEnd);
    refused(V5, 0x30, b"\x00\x01a\x01", DecodeError::UnexpectedEnd);
    refused(V5, 0x30, b"\x00\x01a\x01\x01", DecodeError::UnexpectedEnd);
    refused(V5, 0x30, b"\x00\x01a\x04\x03\x00\x09text", DecodeError::UnexpectedEnd);
    refused(V311, 0x40, b"\x00\x01\x00", DecodeError::TrailingBytes);
    refused(V5, 0x40, b"\x00\x01\x00\x00\x00", DecodeError::TrailingBytes);
    refused(V311, 0xC0, b"\x00", DecodeError::TrailingBytes);
    refused(V311, 0xE0, b"\x00", DecodeError::TrailingBytes);
    refused(V311, 0xB0, b"\x00\x01\x00", DecodeError::TrailingBytes);
    refused(V311, 0x10, &connect(MQTT_311, 2, b"\x00\x01c\x00"), DecodeError::TrailingBytes);
    refused(V5, 0x10, &connect(MQTT_5, 2, b"\x00\x00\x01c\x00"), DecodeError::TrailingBytes);
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2]
#[test]
fn strings_are_utf8_without_nul() {
    for (bad, error) in [
        (&b"\xC0\x80"[..], DecodeError::InvalidUtf8),
        (b"\xED\xA0\x80", DecodeError::InvalidUtf8),
        (b"\xF5\x80\x80\x80", DecodeError::InvalidUtf8),
        (b"a\xC3", DecodeError::InvalidUtf8),
        (b"a\x00b", DecodeError::NulInString),
    ] {
        let string = [&[0, u8::try_from(bad.len()).unwrap()], bad].concat();
        refused(V311, 0x30, &string, error.clone());
        refused(V311, 0x10, &connect(MQTT_311, 2, &string), error.clone());
        refused(V311, 0x82, &[b"\x00\x01", &string[..], b"\x00"].concat(), error.clone());
        refused(V311, 0xA2, &[b"\x00\x01", &string[..]].concat(), error.clone());
        let user = [&[0x26][..], &string, b"\x00\x00"].concat();
        let length = [u8::try_from(user.len()).unwrap()];
        refused(V5, 0x30, &[b"\x00\x01a", &length[..], &user].concat(), error);
    }
    accepted(V311, 0x30, "\0\u{3}\u{FEFF}".as_bytes());
}

#[test]
fn a_publish_has_a_plain_topic_and_flags_that_agree() {
    refused(V311, 0x36, b"\x00\x01a\x00\x01", DecodeError::InvalidQoS);
    refused(V311, 0x38, b"\x00\x01a", DecodeError::DupOnQoS0);
    refused(V311, 0x32, b"\x00\x01a\x00\x00", DecodeError::PacketIdZero);
    for topic in [&b"\x00\x01#"[..], b"\x00\x01+", b"\x00\x03a/+"] {
        refused(V311, 0x30, topic, DecodeError::TopicNameInvalid);
        refused(V5, 0x30, &[topic, b"\x00"].concat(), DecodeError::TopicNameInvalid);
    }
    refused(V31, 0x30, b"\x00\x00", DecodeError::TopicNameInvalid);
    refused(V5, 0x30, b"\x00\x00\x00", DecodeError::EmptyTopicWithoutAlias);
    refused(V5, 0x30, b"\x00\x00\x02\x01\x00", DecodeError::EmptyTopicWithoutAlias);
    refused(V5, 0x30, b"\x00\x00\x03\x23\x00\x00", DecodeError::TopicAliasZero);
    accepted(V5, 0x30, b"\x00\x00\x03\x23\x00\x01");
}

/// [MQTT-2.2.1-3]
#[test]
fn packet_id_0_is_refused_everywhere() {
    for first in [0x40, 0x50, 0x62, 0x70, 0x90, 0xB0] {
        refused(V311, first, b"\x00\x00", DecodeError::PacketIdZero);
    }
    refused(V311, 0x82, b"\x00\x00\x00\x01a\x00", DecodeError::PacketIdZero);
    refused(V311, 0xA2, b"\x00\x00\x00\x01a", DecodeError::PacketIdZero);
}

#[test]
fn a_subscription_has_a_filter_and_clean_options() {
    let one = |options: u8| [&b"\x00\x01\x00\x01a"[..], &[options]].concat();
    let one_5 = |options: u8| [&b"\x00\x01\x00\x00\x01a"[..], &[options]].concat();
    refused(V311, 0x82, b"\x00\x01", DecodeError::EmptyList(PacketType::Subscribe));
    refused(V5, 0x82, b"\x00\x01\x00", DecodeError::EmptyList(PacketType::Subscribe));
    refused(V311, 0xA2, b"\x00\x01", DecodeError::EmptyList(PacketType::Unsubscribe));
    refused(V311, 0x90, b"\x00\x01", DecodeError::EmptyList(PacketType::SubAck));
    refused(V5, 0xB0, b"\x00\x01\x00", DecodeError::EmptyList(PacketType::UnsubAck));
    refused(V311, 0x82, &one(3), DecodeError::InvalidQoS);
    refused(V311, 0x82, &one(4), DecodeError::ReservedSubscribeOptions);
    refused(V5, 0x82, &one_5(0x40), DecodeError::ReservedSubscribeOptions);
    refused(V5, 0x82, &one_5(0x30), DecodeError::InvalidRetainHandling);
    refused(V5, 0x82, b"\x00\x01\x00\x00\x0A$share/g/a\x04", DecodeError::NoLocalOnShared);
    accepted(V5, 0x82, b"\x00\x01\x00\x00\x0A$share/g/a\x01");
    accepted(V311, 0x82, b"\x00\x01\x00\x02#a\x00");
    accepted(V311, 0x82, b"\x00\x01\x00\x00\x00");
}

#[test]
fn a_reason_code_belongs_to_its_packet() {
    let not_allowed = |packet_type, code| DecodeError::ReasonNotAllowed { packet_type, code };
    refused(V5, 0x40, b"\x00\x01\x01", not_allowed(PacketType::PubAck, 0x01));
    refused(V5, 0x62, b"\x00\x01\x80", not_allowed(PacketType::PubRel, 0x80));
    refused(V5, 0x90, b"\x00\x01\x00\x03", not_allowed(PacketType::SubAck, 0x03));
    refused(V311, 0x90, b"\x00\x01\x87", not_allowed(PacketType::SubAck, 0x87));
    refused(V5, 0xB0, b"\x00\x01\x00\x01", not_allowed(PacketType::UnsubAck, 0x01));
    refused(V5, 0xE0, b"\x01", not_allowed(PacketType::Disconnect, 0x01));
    refused(V5, 0xF0, b"\x04\x00", not_allowed(PacketType::Auth, 0x04));
    refused(V5, 0x20, b"\x00\x01\x00", not_allowed(PacketType::ConnAck, 0x01));
    refused(V311, 0x20, b"\x00\x06", not_allowed(PacketType::ConnAck, 0x06));
    refused(V311, 0x20, b"\x02\x00", DecodeError::InvalidConnAckFlags);
    refused(V311, 0x20, b"\x01\x05", DecodeError::InvalidConnAckFlags);
}

#[test]
fn authentication_needs_its_method() {
    let data = b"\x04\x16\x00\x01d";
    refused(V5, 0xF0, &[&[0x18], &data[..]].concat(), DecodeError::AuthenticationMethodMissing);
    refused(V5, 0xF0, b"\x18\x00", DecodeError::AuthenticationMethodMissing);
    refused(V5, 0x20, &[&[0, 0], &data[..]].concat(), DecodeError::AuthenticationMethodMissing);
    let body = connect(MQTT_5, 2, &[&data[..], b"\x00\x01c"].concat());
    refused(V5, 0x10, &body, DecodeError::AuthenticationMethodMissing);
    accepted(V5, 0xF0, b"");
}

/// One well-formed value of each property [MQTT 5.0 §2.2.2.2], and which packets may carry it.
const PROPERTIES: &[(&[u8], &[Place])] = {
    use Place::*;
    &[
        (b"\x01\x01", &[Publish, Will]),
        (b"\x02\x00\x00\x00\x01", &[Publish, Will]),
        (b"\x03\x00\x01x", &[Publish, Will]),
        (b"\x08\x00\x01x", &[Publish, Will]),
        (b"\x09\x00\x01x", &[Publish, Will]),
        (b"\x0B\x01", &[Publish, Subscribe]),
        (b"\x11\x00\x00\x00\x01", &[Connect, ConnAck, Disconnect]),
        (b"\x12\x00\x01x", &[ConnAck]),
        (b"\x13\x00\x01", &[ConnAck]),
        (b"\x15\x00\x01x", &[Connect, ConnAck, Auth]),
        (b"\x16\x00\x01x", &[Connect, ConnAck, Auth]),
        (b"\x17\x01", &[Connect]),
        (b"\x18\x00\x00\x00\x01", &[Will]),
        (b"\x19\x01", &[Connect]),
        (b"\x1A\x00\x01x", &[ConnAck]),
        (b"\x1C\x00\x01x", &[ConnAck, Disconnect]),
        (b"\x1F\x00\x01x", &[ConnAck, PubAck, PubRec, PubRel, PubComp, SubAck, UnsubAck, Disconnect, Auth]),
        (b"\x21\x00\x01", &[Connect, ConnAck]),
        (b"\x22\x00\x01", &[Connect, ConnAck]),
        (b"\x23\x00\x01", &[Publish]),
        (b"\x24\x01", &[ConnAck]),
        (b"\x25\x01", &[ConnAck]),
        (b"\x26\x00\x01x\x00\x01y", ALL_PLACES),
        (b"\x27\x00\x00\x00\x01", &[Connect, ConnAck]),
        (b"\x28\x01", &[ConnAck]),
        (b"\x29\x01", &[ConnAck]),
        (b"\x2A\x01", &[ConnAck]),
    ]
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Connect,
    Will,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    Disconnect,
    Auth,
}

const ALL_PLACES: &[Place] = {
    use Place::*;
    &[
        Connect,
        Will,
        ConnAck,
        Publish,
        PubAck,
        PubRec,
        PubRel,
        PubComp,
        Subscribe,
        SubAck,
        Unsubscribe,
        UnsubAck,
        Disconnect,
        Auth,
    ]
};

/// The packet of `place` with these properties.
fn with_properties(place: Place, properties: &[u8]) -> Result<Packet, DecodeError> {
    let mut block = vec![u8::try_from(properties.len()).unwrap()];
    block.extend_from_slice(properties);
    let around = |before: &[u8], after: &[u8]| [before, &block, after].concat();
    match place {
        Place::Connect => decode(V5, 0x10, &connect(MQTT_5, 2, &around(b"", b"\x00\x01c"))),
        Place::Will => decode(V5, 0x10, &connect(MQTT_5, 6, &around(b"\x00\x00\x01c", b"\x00\x01t\x00\x00"))),
        Place::ConnAck => decode(V5, 0x20, &around(b"\x00\x00", b"")),
        Place::Publish => decode(V5, 0x30, &around(b"\x00\x01t", b"payload")),
        Place::PubAck => decode(V5, 0x40, &around(b"\x00\x01\x00", b"")),
        Place::PubRec => decode(V5, 0x50, &around(b"\x00\x01\x00", b"")),
        Place::PubRel => decode(V5, 0x62, &around(b"\x00\x01\x00", b"")),
        Place::PubComp => decode(V5, 0x70, &around(b"\x00\x01\x00", b"")),
        Place::Subscribe => decode(V5, 0x82, &around(b"\x00\x01", b"\x00\x01a\x00")),
        Place::SubAck => decode(V5, 0x90, &around(b"\x00\x01", b"\x00")),
        Place::Unsubscribe => decode(V5, 0xA2, &around(b"\x00\x01", b"\x00\x01a")),
        Place::UnsubAck => decode(V5, 0xB0, &around(b"\x00\x01", b"\x00")),
        Place::Disconnect => decode(V5, 0xE0, &around(b"\x00", b"")),
        Place::Auth => decode(V5, 0xF0, &around(b"\x18", b"")),
    }
}

/// The authentication method where `property` cannot be without one.
fn method_beside(place: Place, property: &[u8]) -> &'static [u8] {
    match property[0] {
        0x15 => b"",
        0x16 if matches!(place, Place::Connect | Place::ConnAck) => b"\x15\x00\x01x",
        _ if place == Place::Auth => b"\x15\x00\x01x",
        _ => b"",
    }
}

#[test]
fn a_property_has_its_places_and_no_others() {
    for &place in ALL_PLACES {
        for &(property, places) in PROPERTIES {
            let method = method_beside(place, property);
            let outcome = with_properties(place, &[property, method].concat());
            if places.contains(&place) {
                assert!(outcome.is_ok(), "{place:?} {property:?} {outcome:?}");
            } else {
                let Err(error @ DecodeError::PropertyNotAllowed { .. }) = outcome else { panic!("{outcome:?}") };
                assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
            }
        }
        for id in 0..=u8::MAX {
            if PROPERTIES.iter().all(|(property, _)| property[0] != id) {
                let encoded = if id < 0x80 { vec![id, 0] } else { vec![id, 1, 0] };
                let outcome = with_properties(place, &encoded);
                assert!(matches!(outcome, Err(DecodeError::PropertyNotAllowed { .. })), "{id:#x} {outcome:?}");
            }
        }
    }
}

#[test]
fn only_user_properties_and_a_publishs_subscription_ids_come_twice() {
    for &(property, places) in PROPERTIES {
        for &place in places {
            let method = method_beside(place, property);
            let outcome = with_properties(place, &[property, property, method].concat());
            if property[0] == 0x26 || property[0] == 0x0B && place == Place::Publish {
                assert!(outcome.is_ok(), "{place:?} {property:?}");
            } else {
                let error = DecodeError::DuplicateProperty(property[0]);
                assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
                assert_eq!(outcome, Err(error), "{place:?}");
            }
        }
    }
}

#[test]
fn a_property_value_has_its_range() {
    for (property, places) in [
        (&b"\x01\x02"[..], &[Place::Publish, Place::Will][..]),
        (b"\x08\x00\x01+", &[Place::Publish, Place::Will]),
        (b"\x08\x00\x00", &[Place::Publish, Place::Will]),
        (b"\x0B\x00", &[Place::Publish, Place::Subscribe]),
        (b"\x17\x02", &[Place::Connect]),
        (b"\x19\x02", &[Place::Connect]),
        (b"\x21\x00\x00", &[Place::Connect, Place::ConnAck]),
        (b"\x24\x02", &[Place::ConnAck]),
        (b"\x25\x02", &[Place::ConnAck]),
        (b"\x27\x00\x00\x00\x00", &[Place::Connect, Place::ConnAck]),
        (b"\x28\x02", &[Place::ConnAck]),
        (b"\x29\x02", &[Place::ConnAck]),
        (b"\x2A\x02", &[Place::ConnAck]),
    ] {
        for &place in places {
            let error = DecodeError::PropertyValue(property[0]);
            assert_eq!(error.reason_code(), ReasonCode::ProtocolError);
            assert_eq!(with_properties(place, property), Err(error), "{place:?}");
        }
    }
}
