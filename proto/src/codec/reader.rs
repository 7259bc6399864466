use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::error::DecodeError;
use super::header::{is_minimal, varint};
use crate::packet::{PacketId, QoS};
use crate::topic;

/// Takes fields off the front of one packet's bytes; what it hands out are views of them.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub fn new(rest: Bytes) -> Self {
        Reader { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Everything left, leaving nothing.
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// # Errors
    /// If anything is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::UnexpectedEnd)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| DecodeError::UnexpectedEnd)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| DecodeError::UnexpectedEnd)
    }

    /// A variable byte integer of MQTT 5.0, which must be minimal.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, width) = varint(&self.rest)?.ok_or(DecodeError::UnexpectedEnd)?;
        if !is_minimal(self.rest[width - 1], width) {
            return Err(DecodeError::VarintNotMinimal);
        }
        self.rest.advance(width);
        Ok(value)
    }

    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if self.rest.len() < len { Err(DecodeError::UnexpectedEnd) } else { Ok(self.rest.split_to(len)) }
    }

    /// Binary data with its length before it.
    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    pub fn string(&mut self) -> Result<ByteString, DecodeError> {
        let bytes = self.binary()?;
        if bytes.contains(&0) {
            return Err(DecodeError::NulInString);
        }
        ByteString::try_from(bytes).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// A string and whether it is a topic name.
    pub fn topic_name(&mut self) -> Result<(ByteString, bool), DecodeError> {
        let topic = self.string()?;
        let valid = topic::validate_name(&topic).is_ok();
        Ok((topic, valid))
    }

    pub fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }
}

/// From the two low bits.
pub(super) fn qos(bits: u8) -> Result<QoS, DecodeError> {
    QoS::from_bits(bits & 0b11).ok_or(DecodeError::InvalidQoS)
}
