//! PUBACK, PUBREC, PUBREL and PUBCOMP [MQTT 5.0 §3.4 to §3.7], and the properties all acknowledgements share.

use super::error::{DecodeError, EncodeError};
use super::property::{self, Block, PropertyOut};
use super::reader::Reader;
use super::reasons;
use super::writer::{Out, Properties};
use crate::packet::{Ack, PacketType, Version};
use crate::properties::AckProperties;
use crate::reason::ReasonCode;

pub(super) fn decode(packet_type: PacketType, r: &mut Reader, version: Version) -> Result<Ack, DecodeError> {
    let packet_id = r.packet_id()?;
    let mut ack = Ack { packet_id, reason: ReasonCode::Success, properties: None };
    // Reason and properties may be cut off from the end [MQTT 5.0 §3.4.2.1].
    if version == Version::V5 && !r.is_empty() {
        ack.reason = reasons::read(packet_type, r)?;
        if !r.is_empty() {
            let block = Block::read(r, packet_type.name())?;
            ack.properties = if block.is_empty() { None } else { Some(Box::new(properties(block)?)) };
        }
    }
    Ok(ack)
}

pub(super) fn properties(mut block: Block) -> Result<AckProperties, DecodeError> {
    let mut p = AckProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::REASON_STRING => block.string(&mut p.reason_string)?,
            property::USER => block.user(&mut p.user)?,
            _ => return block.misplaced(),
        }
    }
    Ok(p)
}

pub(super) fn write<W: Out>(packet_type: PacketType, p: &Ack, version: Version, w: &mut W) {
    w.u16(p.packet_id.get());
    if version != Version::V5 {
        return;
    }
    if !reasons::allowed(packet_type, p.reason) {
        w.fault(EncodeError::ReasonNotAllowed { packet_type, reason: p.reason });
    }
    let properties = p.properties.as_deref().filter(|p| !p.is_empty());
    if properties.is_some() || p.reason != ReasonCode::Success {
        w.u8(p.reason.byte());
    }
    if let Some(properties) = properties {
        w.properties(properties);
    }
}

impl Properties for AckProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.property_string(property::REASON_STRING, self.reason_string.as_ref());
        w.user(&self.user);
    }
}
