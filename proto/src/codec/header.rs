//! The fixed header: packet type, flags, remaining length [MQTT 5.0 §2.1].

use super::error::DecodeError;
use crate::packet::{PacketType, Version};

/// The largest number a variable byte integer holds, and so the largest remaining length in bytes.
pub(super) const MAX_VARINT: u32 = 268_435_455;

#[derive(Debug, Clone, Copy)]
pub(super) struct FixedHeader {
    pub packet_type: PacketType,
    pub flags: u8,
    /// Bytes of the fixed header itself: 2 to 5.
    pub width: usize,
    /// Bytes that follow it.
    pub remaining: usize,
    /// Whether the remaining length took as few bytes as it can; only MQTT 5.0 cares, which a CONNECT's header does
    /// not know yet.
    pub minimal_length: bool,
}

impl FixedHeader {
    /// `None` when `bytes` end within it.
    #[inline]
    pub fn read(bytes: &[u8], version: Option<Version>) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let packet_type = packet_type(first, version)?;
        let Some((remaining, width)) = varint(rest)? else { return Ok(None) };
        let minimal_length = is_minimal(rest[width - 1], width);
        if !minimal_length && version == Some(Version::V5) {
            return Err(DecodeError::VarintNotMinimal);
        }
        let flags = first & 0x0F;
        Ok(Some(FixedHeader { packet_type, flags, width: 1 + width, remaining: remaining as usize, minimal_length }))
    }
}

/// Checks all that the first byte can show. PUBLISH flags are left to its own decoder.
#[inline]
fn packet_type(first: u8, version: Option<Version>) -> Result<PacketType, DecodeError> {
    let packet_type = PacketType::from_bits(first >> 4).ok_or(DecodeError::ReservedPacketType)?;
    let flags = first & 0x0F;
    match (packet_type, version) {
        (PacketType::Connect | PacketType::PingReq, None) | (PacketType::Publish, Some(_)) => return Ok(packet_type),
        (_, None) => return Err(DecodeError::ExpectedConnect(packet_type)),
        (PacketType::Auth, Some(Version::V31 | Version::V311)) => return Err(DecodeError::AuthBeforeV5),
        (_, Some(_)) => {}
    }
    // MQTT 3.1 calls these bits unused and sets DUP in repeated SUBSCRIBE, UNSUBSCRIBE and PUBREL.
    if version != Some(Version::V31) && flags != first_byte(packet_type) & 0x0F {
        return Err(DecodeError::ReservedHeaderFlags { packet_type, flags });
    }
    Ok(packet_type)
}

/// With the flags every packet but PUBLISH has [MQTT 5.0 table 2-2].
pub(super) fn first_byte(packet_type: PacketType) -> u8 {
    let flags = match packet_type {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
        PacketType::Connect
        | PacketType::ConnAck
        | PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubComp
        | PacketType::SubAck
        | PacketType::UnsubAck
        | PacketType::PingReq
        | PacketType::PingResp
        | PacketType::Disconnect
        | PacketType::Auth => 0,
    };
    (packet_type as u8) << 4 | flags
}

/// The number at the front of `bytes` and how many bytes it takes; `None` when `bytes` end within it.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() >= 4 { Err(DecodeError::VarintTooLong) } else { Ok(None) }
}

/// [MQTT-1.5.5-1]: a number of more than one byte whose last byte is 0 would fit into fewer.
pub(super) fn is_minimal(last: u8, width: usize) -> bool {
    width == 1 || last != 0
}
