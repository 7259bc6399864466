//! DISCONNECT and AUTH [MQTT 5.0 §3.14, §3.15].

use super::error::{DecodeError, EncodeError};
use super::property::{self, Block, PropertyOut};
use super::reader::Reader;
use super::reasons;
use super::writer::{Out, Properties};
use crate::packet::{Auth, Disconnect, PacketType, Version};
use crate::properties::{AuthProperties, DisconnectProperties};
use crate::reason::ReasonCode;

pub(super) fn decode(r: &mut Reader, version: Version) -> Result<Disconnect, DecodeError> {
    let mut p = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
    // Reason and properties may be cut off from the end [MQTT 5.0 §3.14.2.1].
    if version == Version::V5 && !r.is_empty() {
        p.reason = reasons::read(PacketType::Disconnect, r)?;
        if !r.is_empty() {
            p.properties = properties(r)?;
        }
    }
    Ok(p)
}

fn properties(r: &mut Reader) -> Result<DisconnectProperties, DecodeError> {
    let mut block = Block::read(r, "DISCONNECT")?;
    let mut p = DisconnectProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::SESSION_EXPIRY => block.u32(&mut p.session_expiry)?,
            property::REASON_STRING => block.string(&mut p.reason_string)?,
            property::USER => block.user(&mut p.user)?,
            property::SERVER_REFERENCE => block.string(&mut p.server_reference)?,
            _ => return block.misplaced(),
        }
    }
    Ok(p)
}

pub(super) fn decode_auth(r: &mut Reader) -> Result<Auth, DecodeError> {
    if r.is_empty() {
        return Ok(Auth { reason: ReasonCode::Success, properties: AuthProperties::default() });
    }
    let reason = reasons::read(PacketType::Auth, r)?;
    let mut block = Block::read(r, "AUTH")?;
    let mut p = AuthProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::AUTHENTICATION_METHOD => block.string(&mut p.authentication_method)?,
            property::AUTHENTICATION_DATA => block.binary(&mut p.authentication_data)?,
            property::REASON_STRING => block.string(&mut p.reason_string)?,
            property::USER => block.user(&mut p.user)?,
            _ => return block.misplaced(),
        }
    }
    if p.authentication_method.is_none() {
        return Err(DecodeError::AuthenticationMethodMissing);
    }
    Ok(Auth { reason, properties: p })
}

/// The one DISCONNECT of 3.x comes from the client and says nothing.
pub(super) fn write<W: Out>(p: &Disconnect, version: Version, w: &mut W) {
    let packet_type = PacketType::Disconnect;
    if version != Version::V5 {
        if p.reason != ReasonCode::Success {
            w.fault(EncodeError::NotInVersion { packet_type, version });
        }
        return;
    }
    if !reasons::allowed(packet_type, p.reason) {
        w.fault(EncodeError::ReasonNotAllowed { packet_type, reason: p.reason });
    }
    let has_properties = p.properties != DisconnectProperties::default();
    if has_properties || p.reason != ReasonCode::Success {
        w.u8(p.reason.byte());
    }
    if has_properties {
        w.properties(&p.properties);
    }
}

/// Without a method only the empty form for success exists.
pub(super) fn write_auth<W: Out>(p: &Auth, version: Version, w: &mut W) {
    let packet_type = PacketType::Auth;
    if version != Version::V5 {
        return w.fault(EncodeError::NotInVersion { packet_type, version });
    }
    if p.reason == ReasonCode::Success && p.properties == AuthProperties::default() {
        return;
    }
    if !reasons::allowed(packet_type, p.reason) {
        w.fault(EncodeError::ReasonNotAllowed { packet_type, reason: p.reason });
    }
    if p.properties.authentication_method.is_none() {
        w.fault(EncodeError::AuthenticationMethodMissing);
    }
    w.u8(p.reason.byte());
    w.properties(&p.properties);
}

impl Properties for DisconnectProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.property_u32(property::SESSION_EXPIRY, self.session_expiry);
        w.property_string(property::REASON_STRING, self.reason_string.as_ref());
        w.user(&self.user);
        w.property_string(property::SERVER_REFERENCE, self.server_reference.as_ref());
    }
}

impl Properties for AuthProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.authentication(self.authentication_method.as_ref(), self.authentication_data.as_ref());
        w.property_string(property::REASON_STRING, self.reason_string.as_ref());
        w.user(&self.user);
    }
}
