//! CONNACK [MQTT 5.0 §3.2].

use super::error::{DecodeError, EncodeError};
use super::property::{self, Block, PropertyOut};
use super::reader::Reader;
use super::reasons;
use super::writer::{Out, Properties};
use crate::packet::{ConnAck, PacketType, Version};
use crate::properties::ConnAckProperties;
use crate::reason::ReasonCode;

pub(super) fn decode(r: &mut Reader, version: Version) -> Result<ConnAck, DecodeError> {
    let flags = r.u8()?;
    // MQTT 3.1 knows no session present and leaves the byte unused.
    let session_present = version != Version::V31 && flags == 1;
    if version != Version::V31 && flags > 1 {
        return Err(DecodeError::InvalidConnAckFlags);
    }
    let (reason, properties) = match version {
        Version::V31 | Version::V311 => (reason_of_return_code(r.u8()?)?, ConnAckProperties::default()),
        Version::V5 => (reasons::read(PacketType::ConnAck, r)?, properties(r)?),
    };
    if session_present && reason != ReasonCode::Success {
        return Err(DecodeError::InvalidConnAckFlags);
    }
    Ok(ConnAck { session_present, reason, properties })
}

fn reason_of_return_code(code: u8) -> Result<ReasonCode, DecodeError> {
    match code {
        0 => Ok(ReasonCode::Success),
        1 => Ok(ReasonCode::UnsupportedProtocolVersion),
        2 => Ok(ReasonCode::ClientIdentifierNotValid),
        3 => Ok(ReasonCode::ServerUnavailable),
        4 => Ok(ReasonCode::BadUserNameOrPassword),
        5 => Ok(ReasonCode::NotAuthorized),
        code => Err(DecodeError::ReasonNotAllowed { packet_type: PacketType::ConnAck, code }),
    }
}

fn properties(r: &mut Reader) -> Result<ConnAckProperties, DecodeError> {
    let mut block = Block::read(r, "CONNACK")?;
    let mut p = ConnAckProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::SESSION_EXPIRY => block.u32(&mut p.session_expiry)?,
            property::RECEIVE_MAXIMUM => block.positive_u16(&mut p.receive_maximum)?,
            property::MAXIMUM_QOS => block.maximum_qos(&mut p.maximum_qos)?,
            property::RETAIN_AVAILABLE => block.flag(&mut p.retain_available)?,
            property::MAXIMUM_PACKET_SIZE => block.positive_u32(&mut p.maximum_packet_size)?,
            property::ASSIGNED_CLIENT_ID => block.string(&mut p.assigned_client_id)?,
            property::TOPIC_ALIAS_MAXIMUM => block.u16(&mut p.topic_alias_maximum)?,
            property::REASON_STRING => block.string(&mut p.reason_string)?,
            property::USER => block.user(&mut p.user)?,
            property::WILDCARD_SUBSCRIPTION_AVAILABLE => block.flag(&mut p.wildcard_subscription_available)?,
            property::SUBSCRIPTION_IDS_AVAILABLE => block.flag(&mut p.subscription_ids_available)?,
            property::SHARED_SUBSCRIPTION_AVAILABLE => block.flag(&mut p.shared_subscription_available)?,
            property::SERVER_KEEP_ALIVE => block.u16(&mut p.server_keep_alive)?,
            property::RESPONSE_INFORMATION => block.string(&mut p.response_information)?,
            property::SERVER_REFERENCE => block.string(&mut p.server_reference)?,
            property::AUTHENTICATION_METHOD => block.string(&mut p.authentication_method)?,
            property::AUTHENTICATION_DATA => block.binary(&mut p.authentication_data)?,
            _ => return block.misplaced(),
        }
    }
    property::authentication_is_whole(p.authentication_method.as_ref(), p.authentication_data.as_ref())?;
    Ok(p)
}

pub(super) fn write<W: Out>(p: &ConnAck, version: Version, w: &mut W) {
    if p.session_present && p.reason != ReasonCode::Success {
        w.fault(EncodeError::SessionPresentInRefusal);
    }
    w.u8(u8::from(p.session_present && version != Version::V31));
    match version {
        Version::V31 | Version::V311 => w.u8(p.reason.v3_return_code()),
        Version::V5 => {
            if !reasons::allowed(PacketType::ConnAck, p.reason) {
                w.fault(EncodeError::ReasonNotAllowed { packet_type: PacketType::ConnAck, reason: p.reason });
            }
            w.u8(p.reason.byte());
            w.properties(&p.properties);
        }
    }
}

impl Properties for ConnAckProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.property_u32(property::SESSION_EXPIRY, self.session_expiry);
        w.positive_u16(property::RECEIVE_MAXIMUM, self.receive_maximum);
        w.maximum_qos(self.maximum_qos);
        w.flag(property::RETAIN_AVAILABLE, self.retain_available);
        w.positive_u32(property::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        w.property_string(property::ASSIGNED_CLIENT_ID, self.assigned_client_id.as_ref());
        w.property_u16(property::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        w.property_string(property::REASON_STRING, self.reason_string.as_ref());
        w.user(&self.user);
        w.flag(property::WILDCARD_SUBSCRIPTION_AVAILABLE, self.wildcard_subscription_available);
        w.flag(property::SUBSCRIPTION_IDS_AVAILABLE, self.subscription_ids_available);
        w.flag(property::SHARED_SUBSCRIPTION_AVAILABLE, self.shared_subscription_available);
        w.property_u16(property::SERVER_KEEP_ALIVE, self.server_keep_alive);
        w.property_string(property::RESPONSE_INFORMATION, self.response_information.as_ref());
        w.property_string(property::SERVER_REFERENCE, self.server_reference.as_ref());
        w.authentication(self.authentication_method.as_ref(), self.authentication_data.as_ref());
    }
}
