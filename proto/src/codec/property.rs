//! Property identifiers and the values they carry [MQTT 5.0 §2.2.2.2].

use bytestring::ByteString;

use super::error::{DecodeError, EncodeError};
use super::header::MAX_VARINT;
use super::reader::Reader;
use super::writer::Out;
use crate::packet::QoS;
use crate::properties::UserProperties;

pub(super) const PAYLOAD_FORMAT: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY: u8 = 0x02;
pub(super) const CONTENT_TYPE: u8 = 0x03;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const CORRELATION_DATA: u8 = 0x09;
pub(super) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub(super) const WILL_DELAY_INTERVAL: u8 = 0x18;
pub(super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub(super) const RESPONSE_INFORMATION: u8 = 0x1A;
pub(super) const SERVER_REFERENCE: u8 = 0x1C;
pub(super) const REASON_STRING: u8 = 0x1F;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
pub(super) const MAXIMUM_QOS: u8 = 0x24;
pub(super) const RETAIN_AVAILABLE: u8 = 0x25;
pub(super) const USER: u8 = 0x26;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub(super) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
pub(super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
pub(super) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;

/// The properties of one packet, read one by one.
pub(super) struct Block {
    r: Reader,
    /// Where they are, for errors.
    packet: &'static str,
    /// The property whose value comes next.
    id: u8,
}

impl Block {
    /// Takes the length and as many bytes.
    pub fn read(r: &mut Reader, packet: &'static str) -> Result<Self, DecodeError> {
        let len = r.varint()?;
        Ok(Block { r: Reader::new(r.take(len as usize)?), packet, id: 0 })
    }

    pub fn is_empty(&self) -> bool {
        self.r.is_empty()
    }

    /// The next identifier; its value must be taken before the next call.
    pub fn next(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.r.is_empty() {
            return Ok(None);
        }
        let id = self.r.varint()?;
        self.id = u8::try_from(id).map_err(|_| DecodeError::PropertyNotAllowed { id, packet: self.packet })?;
        Ok(Some(self.id))
    }

    /// The error for an identifier that the packet has no use for.
    pub fn misplaced<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::PropertyNotAllowed { id: u32::from(self.id), packet: self.packet })
    }

    fn once<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(DecodeError::DuplicateProperty(self.id)),
        }
    }

    fn in_range(&self, valid: bool) -> Result<(), DecodeError> {
        if valid { Ok(()) } else { Err(DecodeError::PropertyValue(self.id)) }
    }

    pub fn flag(&mut self, slot: &mut Option<bool>) -> Result<(), DecodeError> {
        let byte = self.r.u8()?;
        self.in_range(byte <= 1)?;
        self.once(slot, byte == 1)
    }

    pub fn maximum_qos(&mut self, slot: &mut Option<QoS>) -> Result<(), DecodeError> {
        let qos = match self.r.u8()? {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => return Err(DecodeError::PropertyValue(self.id)),
        };
        self.once(slot, qos)
    }

    pub fn u16(&mut self, slot: &mut Option<u16>) -> Result<(), DecodeError> {
        let value = self.r.u16()?;
        self.once(slot, value)
    }

    pub fn positive_u16(&mut self, slot: &mut Option<u16>) -> Result<(), DecodeError> {
        let value = self.r.u16()?;
        self.in_range(value > 0)?;
        self.once(slot, value)
    }

    pub fn topic_alias(&mut self, slot: &mut Option<u16>) -> Result<(), DecodeError> {
        let value = self.r.u16()?;
        if value == 0 {
            return Err(DecodeError::TopicAliasZero);
        }
        self.once(slot, value)
    }

    pub fn u32(&mut self, slot: &mut Option<u32>) -> Result<(), DecodeError> {
        let value = self.r.u32()?;
        self.once(slot, value)
    }

    pub fn positive_u32(&mut self, slot: &mut Option<u32>) -> Result<(), DecodeError> {
        let value = self.r.u32()?;
        self.in_range(value > 0)?;
        self.once(slot, value)
    }

    pub fn subscription_id(&mut self) -> Result<u32, DecodeError> {
        let value = self.r.varint()?;
        self.in_range(value > 0)?;
        Ok(value)
    }

    pub fn one_subscription_id(&mut self, slot: &mut Option<u32>) -> Result<(), DecodeError> {
        let value = self.subscription_id()?;
        self.once(slot, value)
    }

    pub fn string(&mut self, slot: &mut Option<ByteString>) -> Result<(), DecodeError> {
        let value = self.r.string()?;
        self.once(slot, value)
    }

    /// A topic name: not empty, no wildcards [MQTT-3.3.2-14].
    pub fn response_topic(&mut self, slot: &mut Option<ByteString>) -> Result<(), DecodeError> {
        let (topic, valid) = self.r.topic_name()?;
        self.in_range(valid)?;
        self.once(slot, topic)
    }

    pub fn binary(&mut self, slot: &mut Option<bytes::Bytes>) -> Result<(), DecodeError> {
        let value = self.r.binary()?;
        self.once(slot, value)
    }

    pub fn user(&mut self, user: &mut UserProperties) -> Result<(), DecodeError> {
        let name = self.r.string()?;
        user.push((name, self.r.string()?));
        Ok(())
    }
}

/// The value of a property that may be absent.
pub(super) trait PropertyOut: Out {
    fn flag(&mut self, id: u8, value: Option<bool>) {
        if let Some(value) = value {
            self.bytes(&[id, u8::from(value)]);
        }
    }

    fn maximum_qos(&mut self, value: Option<QoS>) {
        if let Some(qos) = value {
            if qos == QoS::ExactlyOnce {
                self.fault(EncodeError::PropertyValue(MAXIMUM_QOS));
            }
            self.bytes(&[MAXIMUM_QOS, qos as u8]);
        }
    }

    fn property_u16(&mut self, id: u8, value: Option<u16>) {
        if let Some(value) = value {
            self.u8(id);
            self.u16(value);
        }
    }

    fn positive_u16(&mut self, id: u8, value: Option<u16>) {
        if value == Some(0) {
            self.fault(EncodeError::PropertyValue(id));
        }
        self.property_u16(id, value);
    }

    fn property_u32(&mut self, id: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.u8(id);
            self.u32(value);
        }
    }

    fn positive_u32(&mut self, id: u8, value: Option<u32>) {
        if value == Some(0) {
            self.fault(EncodeError::PropertyValue(id));
        }
        self.property_u32(id, value);
    }

    fn subscription_id(&mut self, value: u32) {
        if (1..=MAX_VARINT).contains(&value) {
            self.u8(SUBSCRIPTION_ID);
            self.varint(value);
        } else {
            self.fault(EncodeError::PropertyValue(SUBSCRIPTION_ID));
        }
    }

    fn property_string(&mut self, id: u8, value: Option<&ByteString>) {
        if let Some(value) = value {
            self.u8(id);
            self.string(value);
        }
    }

    fn response_topic(&mut self, value: Option<&ByteString>) {
        if value.is_some_and(|topic| crate::topic::validate_name(topic).is_err()) {
            self.fault(EncodeError::PropertyValue(RESPONSE_TOPIC));
        }
        self.property_string(RESPONSE_TOPIC, value);
    }

    fn property_binary(&mut self, id: u8, value: Option<&bytes::Bytes>) {
        if let Some(value) = value {
            self.u8(id);
            self.binary(value);
        }
    }

    fn user(&mut self, user: &UserProperties) {
        for (name, value) in user {
            self.u8(USER);
            self.string(name);
            self.string(value);
        }
    }

    /// Authentication data belongs to a method [MQTT 5.0 §3.1.2.11.10].
    fn authentication(&mut self, method: Option<&ByteString>, data: Option<&bytes::Bytes>) {
        if method.is_none() && data.is_some() {
            self.fault(EncodeError::AuthenticationMethodMissing);
        }
        self.property_string(AUTHENTICATION_METHOD, method);
        self.property_binary(AUTHENTICATION_DATA, data);
    }
}

impl<W: Out> PropertyOut for W {}

/// The decoder's half of the same rule.
pub(super) fn authentication_is_whole(
    method: Option<&ByteString>,
    data: Option<&bytes::Bytes>,
) -> Result<(), DecodeError> {
    if method.is_none() && data.is_some() { Err(DecodeError::AuthenticationMethodMissing) } else { Ok(()) }
}
