//! Bytes that are cut, damaged or come one at a time.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rollcall_proto::codec::{DEFAULT_MAX_PACKET, DecodeError, Decoder, Oversized, encode};
use rollcall_proto::packet::{Packet, PacketId, PacketType, QoS, Version};

use super::generators;
use super::round_trip::{decoder_for, encoded};

/// All packets up to the end of `bytes` or the first error, and what is left.
fn decode_all(mut decoder: Decoder, bytes: &[u8]) -> (Vec<Packet>, Option<DecodeError>, usize) {
    let mut buf = BytesMut::from(bytes);
    let mut packets = Vec::new();
    loop {
        match decoder.decode(&mut buf) {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => return (packets, None, buf.len()),
            Err(error) => return (packets, Some(error), 0),
        }
    }
}

/// The same with the bytes arriving one by one.
fn decode_byte_by_byte(mut decoder: Decoder, bytes: &[u8]) -> (Vec<Packet>, Option<DecodeError>, usize) {
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for &byte in bytes {
        buf.extend_from_slice(&[byte]);
        match decoder.decode(&mut buf) {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => {}
            Err(error) => return (packets, Some(error), 0),
        }
    }
    (packets, None, buf.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_packet_cut_anywhere_is_awaited((version, packet) in generators::packet()) {
        let bytes = encoded(&packet, version);
        for len in 0..bytes.len() {
            let mut cut = BytesMut::from(&bytes[..len]);
            prop_assert_eq!(decoder_for(&packet, version).decode(&mut cut), Ok(None));
            prop_assert_eq!(cut.len(), len, "nothing is taken before the packet is whole");
        }
    }

    /// The fixed header then says that the packet ends where it was cut.
    #[test]
    fn a_body_cut_anywhere_never_panics((version, packet) in generators::packet()) {
        let bytes = encoded(&packet, version);
        let header = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        for len in 0..bytes.len() - header {
            let mut cut = BytesMut::from(&bytes[..1]);
            let mut rest = len;
            loop {
                let more = if rest >= 0x80 { 0x80 } else { 0 };
                cut.extend_from_slice(&[(rest & 0x7F) as u8 | more]);
                rest >>= 7;
                if more == 0 {
                    break;
                }
            }
            cut.extend_from_slice(&bytes[header..header + len]);
            let outcome = decoder_for(&packet, version).decode(&mut cut);
            prop_assert_ne!(outcome.as_ref(), Ok(&None));
            prop_assert_ne!(outcome, Ok(Some(packet.clone())), "{} of {}", len, bytes.len());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_never_panics((version, packet) in generators::packet()) {
        let bytes = encoded(&packet, version);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let whole = decode_all(decoder_for(&packet, version), &flipped);
            for packet in &whole.0 {
                let again = encoded(packet, version);
                let (packets, error, left) = decode_all(decoder_for(packet, version), &again);
                prop_assert_eq!((packets, error, left), (vec![packet.clone()], None, 0));
            }
        }
    }

    #[test]
    fn bytes_one_at_a_time_are_the_same_packets(
        (version, packets) in generators::version()
            .prop_flat_map(|v| (Just(v), proptest::collection::vec(generators::packet_of(v), 1..5))),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = BytesMut::new();
        for packet in &packets {
            bytes.extend_from_slice(&encoded(packet, version));
        }
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let decoder = Decoder::with_version(version, DEFAULT_MAX_PACKET);
        let whole = decode_all(decoder.clone(), &bytes);
        prop_assert_eq!(decode_byte_by_byte(decoder, &bytes), whole.clone());
        if damage.is_none() {
            prop_assert_eq!(whole, (packets, None, 0));
        }
    }

    #[test]
    fn random_bytes_never_panic(
        version in proptest::option::of(generators::version()),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let decoder = match version {
            Some(version) => Decoder::with_version(version, 1000),
            None => Decoder::new(1000),
        };
        prop_assert_eq!(decode_byte_by_byte(decoder.clone(), &bytes), decode_all(decoder, &bytes));
    }
}

#[test]
fn the_size_limit_is_decided_before_the_body_arrives() {
    let limit = 1 + 3 + 20_000;
    let header = [0x30, 0xA0, 0x9C, 0x01];
    let mut decoder = Decoder::with_version(Version::V311, limit);
    assert_eq!(decoder.decode(&mut BytesMut::from(&header[..])), Ok(None), "20,000 bytes to come are allowed");
    let mut decoder = Decoder::with_version(Version::V311, limit - 1);
    let mut buf = BytesMut::from(&header[..]);
    let too_large = DecodeError::PacketTooLarge { size: limit, limit: limit - 1 };
    assert_eq!(decoder.decode(&mut buf), Err(too_large));
    assert_eq!(&buf[..], header, "the buffer is left for who wants to skip the packet");
}

#[test]
fn a_packet_awaited_reserves_no_memory() {
    let mut buf = BytesMut::from(&[0x30, 0xFF, 0xFF, 0x0E][..]);
    let before = buf.capacity();
    assert_eq!(Decoder::with_version(Version::V311, DEFAULT_MAX_PACKET).decode(&mut buf), Ok(None));
    assert_eq!(buf.capacity(), before);
}

#[test]
fn before_connect_only_connect_and_pingreq_are_decoded() {
    for first in 0..=u8::MAX {
        let mut decoder = Decoder::new(DEFAULT_MAX_PACKET);
        let outcome = decoder.decode(&mut BytesMut::from(&[first][..]));
        match PacketType::from_bits(first >> 4) {
            None => assert_eq!(outcome, Err(DecodeError::ReservedPacketType)),
            Some(PacketType::Connect | PacketType::PingReq) => assert_eq!(outcome, Ok(None)),
            Some(other) => assert_eq!(outcome, Err(DecodeError::ExpectedConnect(other))),
        }
        assert_eq!(decoder.version(), None);
    }
    let ping = Bytes::from_static(&[0xC0, 0]);
    assert_eq!(Decoder::new(100).decode(&mut BytesMut::from(&ping[..])), Ok(Some(Packet::PingReq)));
}

#[test]
fn a_publish_that_is_too_large_shows_what_it_takes_to_answer_it_byte_by_byte() {
    let packet = [&[0x3A, 0xC0, 0x0C, 0, 3][..], b"a/b", &[0x12, 0x34, 0], &[b'x'; 100]].concat();
    let decoder = Decoder::with_version(Version::V5, 1_000);
    for there in 0..10 {
        assert_eq!(decoder.peek_oversized(&packet[..there]), Ok(None), "{there} bytes");
    }
    let expected = Oversized { qos: QoS::AtLeastOnce, dup: true, packet_id: PacketId::new(0x1234), size: 1_603 };
    for there in 10..packet.len() {
        assert_eq!(decoder.peek_oversized(&packet[..there]), Ok(Some(expected)), "{there} bytes");
    }
    let subscribe = [0x82, 0xC0, 0x0C, 0, 1];
    let error = DecodeError::PacketTooLarge { size: 1_603, limit: 1_000 };
    assert_eq!(decoder.peek_oversized(&subscribe), Err(error));
    let without_id = [&[0x32, 0xC0, 0x0C, 0, 3][..], b"a/b", &[0, 0]].concat();
    assert_eq!(decoder.peek_oversized(&without_id), Err(DecodeError::PacketIdZero));
}

#[test]
fn a_3_1_connect_with_a_password_and_no_user_name_has_a_form_as_it_is_taken() {
    // 3.1 disregards what its flags contradict.
    let bytes = [&[0x10, 20, 0, 6][..], b"MQIsdp", &[3, 0x42, 0, 0, 0, 1, b'c', 0, 3], b"pwd"].concat();
    let packet = Decoder::new(DEFAULT_MAX_PACKET).decode(&mut BytesMut::from(&bytes[..])).unwrap().unwrap();
    let mut again = BytesMut::new();
    assert_eq!(encode(&packet, Version::V31, &mut again), Ok(()));
    assert_eq!(again, bytes);
}
