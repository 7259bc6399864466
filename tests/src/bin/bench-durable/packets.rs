//! The packets on the wire, as 3.1.1 has them: every PUBLISH is as long as every other, so that clients can count bytes
//! and leave the processor to the broker.

use bytes::{Buf, BufMut, BytesMut};

/// Bytes.
const PAYLOAD: usize = 64;
const TOPIC: usize = "bench/durable/00".len();
/// Fixed header, topic, packet id, payload.
pub const PUBLISH: usize = 2 + 2 + TOPIC + 2 + PAYLOAD;
pub const PUBACK: usize = 4;
/// First bytes, without DUP.
const PUBLISH_QOS_1: u8 = 0x32;
const DUP: u8 = 0x08;
const PUBACK_TYPE: u8 = 0x40;

pub fn topic(pair: usize) -> String {
    format!("bench/durable/{pair:02}")
}

/// A QoS 1 PUBLISH that carries its number.
pub fn put_publish(packets: &mut BytesMut, topic: &str, packet_id: u16, number: u64) {
    packets.put_u8(PUBLISH_QOS_1);
    packets.put_u8((PUBLISH - 2) as u8);
    packets.put_u16(TOPIC as u16);
    packets.put_slice(topic.as_bytes());
    packets.put_u16(packet_id);
    packets.put_u64(number);
    packets.put_bytes(b'x', PAYLOAD - size_of::<u64>());
}

/// Takes one PUBLISH off the front, if all of it is there: its packet id and its number.
pub fn take_publish(packets: &mut BytesMut) -> Option<(u16, u64)> {
    if packets.len() < PUBLISH {
        return None;
    }
    let mut packet = packets.split_to(PUBLISH);
    let (first, length) = (packet.get_u8(), packet.get_u8());
    assert_eq!((first & !DUP, usize::from(length)), (PUBLISH_QOS_1, PUBLISH - 2), "not the PUBLISH that was sent");
    packet.advance(2 + TOPIC);
    Some((packet.get_u16(), packet.get_u64()))
}

pub fn put_puback(packets: &mut BytesMut, packet_id: u16) {
    packets.put_slice(&[PUBACK_TYPE, 2]);
    packets.put_u16(packet_id);
}

/// Takes the PUBACKs off the front that are there.
pub fn take_pubacks(packets: &mut BytesMut) -> usize {
    let count = packets.len() / PUBACK;
    for puback in packets.split_to(count * PUBACK).chunks(PUBACK) {
        assert_eq!(puback[..2], [PUBACK_TYPE, 2], "not a PUBACK");
    }
    count
}
