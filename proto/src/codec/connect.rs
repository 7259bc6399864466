//! CONNECT [MQTT 5.0 §3.1].

use super::error::{DecodeError, EncodeError};
use super::header::FixedHeader;
use super::property::{self, Block, PropertyOut};
use super::reader::{Reader, qos};
use super::writer::{Out, Properties};
use crate::packet::{Connect, PacketType, Version, Will};
use crate::properties::{ConnectProperties, WillProperties};
use crate::topic;

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// Sets `known` once the level is read, if it is not set.
pub(super) fn decode(
    header: FixedHeader,
    r: &mut Reader,
    known: &mut Option<Version>,
) -> Result<Box<Connect>, DecodeError> {
    let version = protocol(r)?;
    known.get_or_insert(version);
    if version != Version::V31 && header.flags != 0 {
        return Err(DecodeError::ReservedHeaderFlags { packet_type: PacketType::Connect, flags: header.flags });
    }
    if version == Version::V5 && !header.minimal_length {
        return Err(DecodeError::VarintNotMinimal);
    }
    let flags = connect_flags(r.u8()?, version)?;
    let keep_alive = r.u16()?;
    let properties = if version == Version::V5 { properties(r)? } else { ConnectProperties::default() };
    let client_id = r.string()?;
    let (will, will_topic_valid) = match flags & WILL {
        0 => (None, true),
        _ => will(flags, r, version)?,
    };
    let username = optional(flags & USERNAME, r, version, Reader::string)?;
    let password = optional(flags & PASSWORD, r, version, Reader::binary)?;
    r.end()?;
    let clean_start = flags & CLEAN_START != 0;
    let connect =
        Box::new(Connect { version, clean_start, keep_alive, client_id, username, password, will, properties });
    if will_topic_valid { Ok(connect) } else { Err(DecodeError::BadWillTopic(connect)) }
}

fn protocol(r: &mut Reader) -> Result<Version, DecodeError> {
    let name = r.binary()?;
    if !matches!(&name[..], b"MQTT" | b"MQIsdp") {
        return Err(DecodeError::UnsupportedProtocolName);
    }
    let level = r.u8()?;
    Version::from_level(level)
        .filter(|&version| name == protocol_name(version))
        .ok_or(DecodeError::UnsupportedProtocolLevel(level))
}

fn protocol_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "MQIsdp",
        Version::V311 | Version::V5 => "MQTT",
    }
}

/// MQTT 3.1 disregards what the later versions refuse.
fn connect_flags(flags: u8, version: Version) -> Result<u8, DecodeError> {
    if version == Version::V31 {
        return Ok(flags);
    }
    if flags & 0x01 != 0 {
        return Err(DecodeError::ReservedConnectFlag);
    }
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
    if flags & WILL == 0 && flags & (0b11 << WILL_QOS_SHIFT | WILL_RETAIN) != 0 {
        return Err(DecodeError::InvalidWillFlags);
    }
    // [MQTT-3.1.2-22] of 3.1.1
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::PasswordWithoutUsername);
    }
    Ok(flags)
}

/// The will, and whether its topic is one.
fn will(flags: u8, r: &mut Reader, version: Version) -> Result<(Option<Will>, bool), DecodeError> {
    let qos = qos(flags >> WILL_QOS_SHIFT)?;
    let properties = if version == Version::V5 { will_properties(r)? } else { WillProperties::default() };
    let (topic, valid) = r.topic_name()?;
    let payload = r.binary()?;
    Ok((Some(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties }), valid))
}

/// MQTT 3.1 lets the packet end before a user name or password that its flags announce.
fn optional<T>(
    flag: u8,
    r: &mut Reader,
    version: Version,
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flag == 0 || version == Version::V31 && r.is_empty() { Ok(None) } else { read(r).map(Some) }
}

fn properties(r: &mut Reader) -> Result<ConnectProperties, DecodeError> {
    let mut block = Block::read(r, "CONNECT")?;
    let mut p = ConnectProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::SESSION_EXPIRY => block.u32(&mut p.session_expiry)?,
            property::RECEIVE_MAXIMUM => block.positive_u16(&mut p.receive_maximum)?,
            property::MAXIMUM_PACKET_SIZE => block.positive_u32(&mut p.maximum_packet_size)?,
            property::TOPIC_ALIAS_MAXIMUM => block.u16(&mut p.topic_alias_maximum)?,
            property::REQUEST_RESPONSE_INFORMATION => block.flag(&mut p.request_response_information)?,
            property::REQUEST_PROBLEM_INFORMATION => block.flag(&mut p.request_problem_information)?,
            property::USER => block.user(&mut p.user)?,
            property::AUTHENTICATION_METHOD => block.string(&mut p.authentication_method)?,
            property::AUTHENTICATION_DATA => block.binary(&mut p.authentication_data)?,
            _ => return block.misplaced(),
        }
    }
    property::authentication_is_whole(p.authentication_method.as_ref(), p.authentication_data.as_ref())?;
    Ok(p)
}

fn will_properties(r: &mut Reader) -> Result<WillProperties, DecodeError> {
    let mut block = Block::read(r, "the will of a CONNECT")?;
    let mut p = WillProperties::default();
    while let Some(id) = block.next()? {
        match id {
            property::WILL_DELAY_INTERVAL => block.u32(&mut p.delay_interval)?,
            property::PAYLOAD_FORMAT => block.flag(&mut p.payload_format)?,
            property::MESSAGE_EXPIRY => block.u32(&mut p.message_expiry)?,
            property::CONTENT_TYPE => block.string(&mut p.content_type)?,
            property::RESPONSE_TOPIC => block.response_topic(&mut p.response_topic)?,
            property::CORRELATION_DATA => block.binary(&mut p.correlation_data)?,
            property::USER => block.user(&mut p.user)?,
            _ => return block.misplaced(),
        }
    }
    Ok(p)
}

pub(super) fn write<W: Out>(p: &Connect, w: &mut W) {
    if p.version == Version::V311 && p.password.is_some() && p.username.is_none() {
        w.fault(EncodeError::PasswordWithoutUsername);
    }
    w.string(protocol_name(p.version));
    w.u8(p.version.level());
    w.u8(flags(p));
    w.u16(p.keep_alive);
    if p.version == Version::V5 {
        w.properties(&p.properties);
    }
    w.string(&p.client_id);
    if let Some(will) = &p.will {
        if p.version == Version::V5 {
            w.properties(&will.properties);
        }
        if topic::validate_name(&will.topic).is_err() {
            w.fault(EncodeError::TopicNameInvalid);
        }
        w.string(&will.topic);
        w.binary(&will.payload);
    }
    if let Some(username) = &p.username {
        w.string(username);
    }
    if let Some(password) = &p.password {
        w.binary(password);
    }
}

fn flags(p: &Connect) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let will =
        p.will.as_ref().map_or(0, |will| WILL | (will.qos as u8) << WILL_QOS_SHIFT | bit(will.retain, WILL_RETAIN));
    bit(p.clean_start, CLEAN_START) | will | bit(p.username.is_some(), USERNAME) | bit(p.password.is_some(), PASSWORD)
}

impl Properties for ConnectProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.property_u32(property::SESSION_EXPIRY, self.session_expiry);
        w.positive_u16(property::RECEIVE_MAXIMUM, self.receive_maximum);
        w.positive_u32(property::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        w.property_u16(property::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        w.flag(property::REQUEST_RESPONSE_INFORMATION, self.request_response_information);
        w.flag(property::REQUEST_PROBLEM_INFORMATION, self.request_problem_information);
        w.user(&self.user);
        w.authentication(self.authentication_method.as_ref(), self.authentication_data.as_ref());
    }
}

impl Properties for WillProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.property_u32(property::WILL_DELAY_INTERVAL, self.delay_interval);
        w.flag(property::PAYLOAD_FORMAT, self.payload_format);
        w.property_u32(property::MESSAGE_EXPIRY, self.message_expiry);
        w.property_string(property::CONTENT_TYPE, self.content_type.as_ref());
        w.response_topic(self.response_topic.as_ref());
        w.property_binary(property::CORRELATION_DATA, self.correlation_data.as_ref());
        w.user(&self.user);
    }
}
