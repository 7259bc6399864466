//! SUBSCRIBE and UNSUBSCRIBE [MQTT 5.0 §3.8, §3.10].

use bytestring::ByteString;

use super::error::{DecodeError, EncodeError};
use super::property::{self, Block, PropertyOut};
use super::reader::{Reader, qos};
use super::writer::{Out, Properties};
use crate::packet::{PacketType, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, Version};
use crate::properties::{SubscribeProperties, UnsubscribeProperties};
use crate::topic::SHARE_PREFIX;

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_SHIFT: u8 = 4;

pub(super) fn decode(r: &mut Reader, version: Version) -> Result<Subscribe, DecodeError> {
    let packet_id = r.packet_id()?;
    let properties = if version == Version::V5 { properties(r)? } else { SubscribeProperties::default() };
    let mut filters = Vec::new();
    while !r.is_empty() {
        let filter = r.string()?;
        let options = options(r.u8()?, version)?;
        // [MQTT-3.8.3-4]
        if options.no_local && filter.starts_with(SHARE_PREFIX) {
            return Err(DecodeError::NoLocalOnShared);
        }
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyList(PacketType::Subscribe));
    }
    Ok(Subscribe { packet_id, filters, properties })
}

fn options(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
    let reserved = match version {
        // Six bits that MQTT 3.1 leaves unused.
        Version::V31 => 0,
        Version::V311 => 0xFC,
        Version::V5 => 0xC0,
    };
    if byte & reserved != 0 {
        return Err(DecodeError::ReservedSubscribeOptions);
    }
    let qos = qos(byte)?;
    if version != Version::V5 {
        return Ok(SubscribeOptions { qos, ..SubscribeOptions::default() });
    }
    let retain_handling = match byte >> RETAIN_HANDLING_SHIFT & 0b11 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(DecodeError::InvalidRetainHandling),
    };
    Ok(SubscribeOptions {
        qos,
        no_local: byte & NO_LOCAL != 0,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

fn properties(r: &mut Reader) -> Result<SubscribeProperties, DecodeError> {
    let mut block = Block::read(r, "SUBSCRIBE")?;
    let mut p = SubscribeProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::SUBSCRIPTION_ID => block.one_subscription_id(&mut p.subscription_id)?,
            property::USER => block.user(&mut p.user)?,
            _ => return block.misplaced(),
        }
    }
    Ok(p)
}

pub(super) fn decode_unsubscribe(r: &mut Reader, version: Version) -> Result<Unsubscribe, DecodeError> {
    let packet_id = r.packet_id()?;
    let properties = if version == Version::V5 { unsubscribe_properties(r)? } else { UnsubscribeProperties::default() };
    let mut filters: Vec<ByteString> = Vec::new();
    while !r.is_empty() {
        filters.push(r.string()?);
    }
    if filters.is_empty() {
        return Err(DecodeError::EmptyList(PacketType::Unsubscribe));
    }
    Ok(Unsubscribe { packet_id, filters, properties })
}

fn unsubscribe_properties(r: &mut Reader) -> Result<UnsubscribeProperties, DecodeError> {
    let mut block = Block::read(r, "UNSUBSCRIBE")?;
    let mut p = UnsubscribeProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::USER => block.user(&mut p.user)?,
            _ => return block.misplaced(),
        }
    }
    Ok(p)
}

pub(super) fn write<W: Out>(p: &Subscribe, version: Version, w: &mut W) {
    w.u16(p.packet_id.get());
    if version == Version::V5 {
        w.properties(&p.properties);
    }
    w.not_empty(&p.filters, PacketType::Subscribe);
    for (filter, options) in &p.filters {
        w.string(filter);
        match version {
            Version::V31 | Version::V311 => w.u8(options.qos as u8),
            Version::V5 => {
                if options.no_local && filter.starts_with(SHARE_PREFIX) {
                    w.fault(EncodeError::NoLocalOnShared);
                }
                w.u8(options_byte(*options));
            }
        }
    }
}

fn options_byte(options: SubscribeOptions) -> u8 {
    options.qos as u8
        | if options.no_local { NO_LOCAL } else { 0 }
        | if options.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
        | (options.retain_handling as u8) << RETAIN_HANDLING_SHIFT
}

pub(super) fn write_unsubscribe<W: Out>(p: &Unsubscribe, version: Version, w: &mut W) {
    w.u16(p.packet_id.get());
    if version == Version::V5 {
        w.properties(&p.properties);
    }
    w.not_empty(&p.filters, PacketType::Unsubscribe);
    for filter in &p.filters {
        w.string(filter);
    }
}

impl Properties for SubscribeProperties {
    fn write<W: Out>(&self, w: &mut W) {
        if let Some(id) = self.subscription_id {
            w.subscription_id(id);
        }
        w.user(&self.user);
    }
}

impl Properties for UnsubscribeProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.user(&self.user);
    }
}
