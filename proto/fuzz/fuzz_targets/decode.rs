//! The first byte chooses the version, the rest is what a peer sends. No bytes may panic; bytes one at a time must be
//! the same packets; and what is decoded must encode, and decode again to the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rollcall_proto::codec::{DecodeError, Decoder, encode, encoded_len};
use rollcall_proto::packet::{Packet, PacketType, Version};

const MAX_PACKET: usize = 4096;

fn decoder(choice: u8) -> Decoder {
    match Version::from_level(choice) {
        Some(version) => Decoder::with_version(version, MAX_PACKET),
        None => Decoder::new(MAX_PACKET),
    }
}

fn decode(choice: u8, chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> (Vec<(Version, Packet)>, Option<DecodeError>) {
    let mut decoder = decoder(choice);
    let mut buf = BytesMut::new();
    let mut packets = Vec::new();
    for chunk in chunks {
        buf.extend_from_slice(chunk.as_ref());
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(packet)) => packets.push((decoder.version().unwrap_or(Version::V311), packet)),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn check_round_trip(version: Version, packet: &Packet) {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).expect("what was decoded has a form");
    assert_eq!(encoded_len(packet, version), Ok(bytes.len()));
    let mut decoder = match packet.packet_type() {
        PacketType::Connect => Decoder::new(usize::MAX),
        _ => Decoder::with_version(version, usize::MAX),
    };
    assert_eq!(decoder.decode(&mut bytes), Ok(Some(packet.clone())));
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let whole = decode(choice, std::iter::once(bytes));
    assert_eq!(whole, decode(choice, bytes.chunks(1)));
    for (version, packet) in &whole.0 {
        check_round_trip(*version, packet);
    }
});
