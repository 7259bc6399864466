//! Our codec beside mqttbytes 0.6. Where the two differ, the difference is in one of the lists below, each
//! entry of which is shown on bytes of its own at the end.

use bytes::BytesMut;
use proptest::prelude::*;
use rollcall_proto::codec::{DEFAULT_MAX_PACKET, DecodeError, Decoder};
use rollcall_proto::packet::{Packet, Version};
use rollcall_proto::properties::{ConnAckProperties, DisconnectProperties};
use rollcall_proto::reason::ReasonCode;

use super::generators;
use super::oracle;
use super::round_trip::{decoder_for, encoded};

/// What mqttbytes does with packets that are valid.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ReadFault {
    /// It knows no MQTT 3.1.
    No31,
    /// It knows no AUTH.
    NoAuth,
    /// A 5.0 DISCONNECT without a reason or without properties is refused.
    ShortDisconnect,
    /// Reason 0x8C of a DISCONNECT is refused.
    BadAuthenticationMethod,
    /// A password must be UTF-8.
    BinaryPassword,
    /// A subscription identifier is counted one byte too long, so with several of them, or with little behind them,
    /// the last properties are read as payload, or as filters.
    SubscriptionIdMiscounted,
}

fn read_fault(version: Version, packet: &Packet) -> Option<ReadFault> {
    match packet {
        _ if version == Version::V31 => Some(ReadFault::No31),
        Packet::Auth(_) => Some(ReadFault::NoAuth),
        Packet::Disconnect(p) if p.reason == ReasonCode::BadAuthenticationMethod => {
            Some(ReadFault::BadAuthenticationMethod)
        }
        Packet::Disconnect(p) if version == Version::V5 && p.properties == DisconnectProperties::default() => {
            Some(ReadFault::ShortDisconnect)
        }
        Packet::Connect(p) if p.password.as_ref().is_some_and(|password| std::str::from_utf8(password).is_err()) => {
            Some(ReadFault::BinaryPassword)
        }
        // After one alone, no property is short enough to be missed.
        Packet::Publish(p) if p.properties.as_ref().is_some_and(|p| p.subscription_ids.len() > 1) => {
            Some(ReadFault::SubscriptionIdMiscounted)
        }
        _ => None,
    }
}

/// What mqttbytes writes wrongly although it has read it rightly: a 5.0 CONNACK without its property length, and an
/// empty user name as none, which a 3.1.1 password cannot be without.
fn is_written_wrongly(version: Version, packet: &Packet) -> bool {
    match packet {
        Packet::ConnAck(p) => version == Version::V5 && p.properties == ConnAckProperties::default(),
        Packet::Connect(p) => p.version == Version::V311 && p.username.is_none() && p.password.is_some(),
        _ => false,
    }
}

/// What mqttbytes accepts although it is invalid. `false` for what it checks too.
fn is_checked_by_us_alone(error: &DecodeError) -> bool {
    match error {
        DecodeError::ReservedHeaderFlags { .. }
        | DecodeError::VarintNotMinimal
        | DecodeError::TrailingBytes
        | DecodeError::NulInString
        | DecodeError::ReservedConnectFlag
        | DecodeError::PasswordWithoutUsername
        | DecodeError::BadWillTopic(_)
        | DecodeError::DupOnQoS0
        | DecodeError::PacketIdZero
        | DecodeError::TopicNameInvalid
        | DecodeError::EmptyTopicWithoutAlias
        | DecodeError::TopicAliasZero
        | DecodeError::DuplicateProperty(_)
        | DecodeError::PropertyValue(_)
        | DecodeError::InvalidConnAckFlags
        | DecodeError::EmptyList(_)
        | DecodeError::ReservedSubscribeOptions
        | DecodeError::NoLocalOnShared
        | DecodeError::AuthenticationMethodMissing
        // A property may reach over the end of its block into what follows it.
        | DecodeError::UnexpectedEnd => true,
        DecodeError::PacketTooLarge { .. }
        | DecodeError::ExpectedConnect(_)
        | DecodeError::ReservedPacketType
        | DecodeError::AuthBeforeV5
        | DecodeError::VarintTooLong
        | DecodeError::InvalidUtf8
        | DecodeError::UnsupportedProtocolName
        | DecodeError::UnsupportedProtocolLevel(_)
        | DecodeError::InvalidWillFlags
        | DecodeError::InvalidQoS
        | DecodeError::PropertyNotAllowed { .. }
        | DecodeError::ReasonNotAllowed { .. }
        | DecodeError::InvalidRetainHandling => false,
    }
}

/// Whether [`ReadFault::SubscriptionIdMiscounted`] may hide what is wrong behind a subscription identifier.
fn may_miscount(version: Version, bytes: &[u8]) -> bool {
    version == Version::V5 && matches!(bytes[0] >> 4, 3 | 8) && bytes.contains(&0x0B)
}

fn bytes_of_both() -> impl Strategy<Value = (Version, Packet)> {
    prop_oneof![Just(Version::V311), Just(Version::V5)].prop_flat_map(|v| (Just(v), generators::packet_of(v)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn both_read_what_we_write_and_we_read_what_they_write((version, packet) in bytes_of_both()) {
        let bytes = encoded(&packet, version);
        if read_fault(version, &packet).is_some() {
            return Ok(());
        }
        let Some((theirs, taken)) = oracle::read(version, &bytes) else {
            return Err(TestCaseError::fail(format!("mqttbytes refuses {packet:?}")));
        };
        prop_assert_eq!(taken, bytes.len());
        let mut written = oracle::write(&theirs);
        let comparable = oracle::comparable(packet);
        prop_assert_eq!(oracle::translate(theirs), comparable.clone());
        if !is_written_wrongly(version, &comparable) {
            prop_assert_eq!(decoder_for(&comparable, version).decode(&mut written), Ok(Some(comparable)));
        }
    }

    #[test]
    fn damaged_bytes_are_judged_alike_or_the_difference_is_known(
        (version, packet) in bytes_of_both(),
        damage in proptest::collection::vec(damage(), 1..4),
    ) {
        let mut bytes = encoded(&packet, version).to_vec();
        for damage in damage {
            damage.done_to(&mut bytes);
        }
        compare(version, &bytes)?;
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    /// By a small number, as a length might be wrong.
    Add(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), 0..0x2B_u8).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Remove),
        (at(), prop_oneof![0..4_u8, 253..=255_u8]).prop_map(|(at, by)| Damage::Add(at, by)),
    ]
}

impl Damage {
    /// The remaining length of a packet below 128 bytes is kept right, so that what is behind it is looked at.
    fn done_to(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Damage::Set(at, byte) => bytes[at.index(len)] = byte,
            Damage::Insert(at, byte) => bytes.insert(at.index(len), byte),
            Damage::Remove(at) if len > 2 => {
                bytes.remove(at.index(len));
            }
            Damage::Remove(_) => {}
            Damage::Add(at, by) => {
                let at = at.index(len);
                bytes[at] = bytes[at].wrapping_add(by);
            }
        }
        if usize::from(bytes[1]) + 2 == len && bytes.len() != len {
            bytes[1] = u8::try_from(bytes.len() - 2).map_or(bytes[1], |len| len & 0x7F);
        }
    }
}

fn compare(version: Version, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut buf = BytesMut::from(bytes);
    let ours = Decoder::with_version(version, DEFAULT_MAX_PACKET).decode(&mut buf);
    let theirs = oracle::read(version, bytes);
    match (ours, theirs) {
        (Ok(Some(Packet::Connect(connect))), _) if connect.version != version => {}
        (Ok(Some(packet)), theirs) if read_fault(version, &packet).is_none() => {
            let Some((theirs, taken)) = theirs else {
                return Err(TestCaseError::fail(format!("mqttbytes refuses {packet:?} in {bytes:?}")));
            };
            prop_assert_eq!(taken, bytes.len() - buf.len());
            prop_assert_eq!(oracle::translate(theirs), oracle::comparable(packet), "{:?}", bytes);
        }
        (Err(error), Some(_)) => {
            let known = is_checked_by_us_alone(&error) || may_miscount(version, bytes);
            prop_assert!(known, "{error:?} in {bytes:?}");
        }
        (Ok(_) | Err(_), _) => {}
    }
    Ok(())
}

fn ours_and_theirs(version: Version, bytes: &[u8]) -> (Result<Packet, DecodeError>, Option<Packet>) {
    let mut buf = BytesMut::from(bytes);
    let ours = Decoder::with_version(version, DEFAULT_MAX_PACKET).decode(&mut buf);
    let theirs = oracle::read(version, bytes).map(|(packet, _)| oracle::translate(packet));
    (ours.map(|packet| packet.expect("the packet is whole")), theirs)
}

#[test]
fn the_oracles_faults_with_valid_packets_are_real() {
    let v5 = Version::V5;
    let connect_31 = b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x00\x00\x01c";
    let connect_password = b"\x10\x14\x00\x04MQTT\x04\xC2\x00\x00\x00\x01c\x00\x01u\x00\x02\xFF\xFE";
    for (version, bytes, fault) in [
        (Version::V31, &connect_31[..], ReadFault::No31),
        (Version::V311, connect_password, ReadFault::BinaryPassword),
        (v5, b"\xF0\x00", ReadFault::NoAuth),
        (v5, b"\xE0\x00", ReadFault::ShortDisconnect),
        (v5, b"\xE0\x01\x8E", ReadFault::ShortDisconnect),
        (v5, b"\xE0\x02\x8C\x00", ReadFault::BadAuthenticationMethod),
    ] {
        let (ours, theirs) = ours_and_theirs(version, bytes);
        assert_eq!(theirs, None, "{fault:?}");
        assert_eq!(read_fault(version, &ours.unwrap()), Some(fault));
    }
    let three_ids = b"\x30\x0D\x00\x01t\x06\x0B\x01\x0B\x02\x0B\x03who";
    let (Ok(Packet::Publish(ours)), Some(Packet::Publish(theirs))) = ours_and_theirs(v5, three_ids) else {
        panic!("both read a PUBLISH");
    };
    assert_eq!(&ours.payload[..], b"who");
    assert_eq!(&theirs.payload[..], b"\x0B\x03who", "the third identifier leaks into the payload");
    let no_properties = oracle::read(v5, b"\x20\x03\x00\x00\x00").map(|(packet, _)| oracle::write(&packet));
    assert_eq!(no_properties.as_deref(), Some(&b"\x20\x02\x00\x00"[..]), "a CONNACK loses its property length");
}

#[test]
fn the_oracle_accepts_what_is_invalid() {
    let v5 = Version::V5;
    for (version, bytes) in [
        (Version::V311, &b"\x41\x02\x00\x01"[..]),
        (Version::V311, b"\x40\x03\x00\x01\x00"),
        (Version::V311, b"\x30\x03\x00\x01\x00"),
        (Version::V311, b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x00\x00\x01c"),
        (Version::V311, b"\x10\x10\x00\x04MQTT\x04\x42\x00\x00\x00\x01c\x00\x01p"),
        (Version::V311, b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01#\x00\x00"),
        (Version::V311, b"\x38\x03\x00\x01t"),
        (Version::V311, b"\x30\x03\x00\x01+"),
        (Version::V311, b"\x20\x02\x02\x00"),
        (Version::V311, b"\x82\x02\x00\x01"),
        (Version::V311, b"\x82\x06\x00\x01\x00\x01t\x80"),
        (v5, b"\x40\x02\x00\x00"),
        (v5, b"\x40\x82\x00\x00\x01"),
        (v5, b"\x30\x03\x00\x00\x00"),
        (v5, b"\x30\x06\x00\x00\x03\x23\x00\x00"),
        (v5, b"\x30\x08\x00\x01t\x04\x01\x01\x01\x01"),
        (v5, b"\x30\x06\x00\x01t\x02\x01\x02"),
        (v5, b"\x30\x08\x00\x01t\x01\x03\x00\x01x"),
        (v5, b"\x82\x10\x00\x01\x00\x00\x0A$share/g/a\x04"),
        (v5, b"\x20\x07\x00\x00\x04\x16\x00\x01x"),
    ] {
        let ours = Decoder::with_version(version, DEFAULT_MAX_PACKET).decode(&mut BytesMut::from(bytes));
        assert!(is_checked_by_us_alone(&ours.unwrap_err()), "{bytes:?}");
        assert!(oracle::read(version, bytes).is_some(), "{bytes:?}");
    }
}
