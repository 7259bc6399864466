//! SUBACK and UNSUBACK [MQTT 5.0 §3.9, §3.11].

use super::ack;
use super::error::{DecodeError, EncodeError};
use super::property::Block;
use super::reader::Reader;
use super::reasons;
use super::writer::Out;
use crate::packet::{PacketType, SubAck, Version};
use crate::properties::AckProperties;
use crate::reason::ReasonCode;

pub(super) fn decode(r: &mut Reader, version: Version) -> Result<SubAck, DecodeError> {
    let packet_type = PacketType::SubAck;
    let packet_id = r.packet_id()?;
    if version == Version::V5 {
        return decode_v5(packet_type, packet_id, r);
    }
    let mut reasons = Vec::with_capacity(r.len());
    while !r.is_empty() {
        reasons.push(match r.u8()? {
            0x00 => ReasonCode::Success,
            0x01 => ReasonCode::GrantedQoS1,
            0x02 => ReasonCode::GrantedQoS2,
            0x80 => ReasonCode::UnspecifiedError,
            code => return Err(DecodeError::ReasonNotAllowed { packet_type, code }),
        });
    }
    not_empty(packet_type, SubAck { packet_id, reasons, properties: AckProperties::default() })
}

pub(super) fn decode_unsuback(r: &mut Reader, version: Version) -> Result<SubAck, DecodeError> {
    let packet_id = r.packet_id()?;
    match version {
        Version::V31 | Version::V311 => {
            Ok(SubAck { packet_id, reasons: Vec::new(), properties: AckProperties::default() })
        }
        Version::V5 => decode_v5(PacketType::UnsubAck, packet_id, r),
    }
}

fn decode_v5(
    packet_type: PacketType,
    packet_id: crate::packet::PacketId,
    r: &mut Reader,
) -> Result<SubAck, DecodeError> {
    let properties = ack::properties(Block::read(r, packet_type.name())?)?;
    let mut reasons = Vec::with_capacity(r.len());
    while !r.is_empty() {
        reasons.push(reasons::read(packet_type, r)?);
    }
    not_empty(packet_type, SubAck { packet_id, reasons, properties })
}

fn not_empty(packet_type: PacketType, p: SubAck) -> Result<SubAck, DecodeError> {
    if p.reasons.is_empty() { Err(DecodeError::EmptyList(packet_type)) } else { Ok(p) }
}

pub(super) fn write<W: Out>(p: &SubAck, version: Version, w: &mut W) {
    if version == Version::V5 {
        return write_v5(PacketType::SubAck, p, w);
    }
    w.u16(p.packet_id.get());
    w.not_empty(&p.reasons, PacketType::SubAck);
    for &reason in &p.reasons {
        check(PacketType::SubAck, reason, w);
        w.u8(if reason.is_error() { 0x80 } else { reason.byte() });
    }
}

pub(super) fn write_unsuback<W: Out>(p: &SubAck, version: Version, w: &mut W) {
    match version {
        Version::V31 | Version::V311 => w.u16(p.packet_id.get()),
        Version::V5 => write_v5(PacketType::UnsubAck, p, w),
    }
}

fn write_v5<W: Out>(packet_type: PacketType, p: &SubAck, w: &mut W) {
    w.u16(p.packet_id.get());
    w.properties(&p.properties);
    w.not_empty(&p.reasons, packet_type);
    for &reason in &p.reasons {
        check(packet_type, reason, w);
        w.u8(reason.byte());
    }
}

fn check<W: Out>(packet_type: PacketType, reason: ReasonCode, w: &mut W) {
    if !reasons::allowed(packet_type, reason) {
        w.fault(EncodeError::ReasonNotAllowed { packet_type, reason });
    }
}
