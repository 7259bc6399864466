//! Each packet is written by one function, run twice: into a [`Counter`], which finds its length and every fault, and
//! then into the buffer. So a length can never disagree with what follows it.

use bytes::{BufMut, BytesMut};

use super::error::EncodeError;
use super::header::MAX_VARINT;
use crate::packet::PacketType;

pub(super) trait Out: Sized {
    fn bytes(&mut self, bytes: &[u8]);

    /// Notes why the packet cannot be sent. Only the counting pass listens: after a fault there is no other.
    fn fault(&mut self, error: EncodeError);

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// `value` is at most [`MAX_VARINT`].
    fn varint(&mut self, value: u32) {
        let low = (value & 0x7F) as u8 | 0x80;
        let middle = (value >> 7 & 0x7F) as u8 | 0x80;
        let high = (value >> 14 & 0x7F) as u8 | 0x80;
        match varint_len(value) {
            1 => self.bytes(&[low & 0x7F]),
            2 => self.bytes(&[low, middle & 0x7F]),
            3 => self.bytes(&[low, middle, high & 0x7F]),
            _ => self.bytes(&[low, middle, high, (value >> 21) as u8 & 0x7F]),
        }
    }

    fn binary(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(len) => self.u16(len),
            Err(_) => self.fault(EncodeError::FieldTooLong(bytes.len())),
        }
        self.bytes(bytes);
    }

    fn string(&mut self, string: &str) {
        if string.as_bytes().contains(&0) {
            self.fault(EncodeError::NulInString);
        }
        self.binary(string.as_bytes());
    }

    /// Faults on an empty list.
    fn not_empty<T>(&mut self, list: &[T], packet_type: PacketType) {
        if list.is_empty() {
            self.fault(EncodeError::EmptyList(packet_type));
        }
    }

    /// Properties with their length before them.
    fn properties<P: Properties>(&mut self, properties: &P) {
        let mut counter = Counter::default();
        properties.write(&mut counter);
        match counter.finish() {
            Ok(len) => self.varint(len),
            Err(error) => self.fault(error),
        }
        properties.write(self);
    }
}

/// The properties of one kind of packet.
pub(super) trait Properties {
    fn write<W: Out>(&self, w: &mut W);
}

/// Makes room for a whole packet and writes its fixed header; `remaining` bytes have to follow.
pub(super) fn write_header(first: u8, remaining: u32, out: &mut BytesMut) {
    out.reserve(1 + varint_len(remaining) + remaining as usize);
    out.u8(first);
    out.varint(remaining);
}

impl Out for BytesMut {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }

    fn fault(&mut self, _: EncodeError) {}
}

/// Counts bytes and keeps the first fault.
#[derive(Debug, Default)]
pub(super) struct Counter {
    len: usize,
    fault: Option<EncodeError>,
}

impl Counter {
    /// The bytes counted, at most [`MAX_VARINT`].
    pub fn finish(self) -> Result<u32, EncodeError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => fits(self.len),
        }
    }
}

impl Out for Counter {
    fn bytes(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
    }

    fn fault(&mut self, error: EncodeError) {
        self.fault.get_or_insert(error);
    }
}

/// `len` if one packet can have that many bytes after its fixed header.
pub(super) fn fits(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).ok().filter(|&len| len <= MAX_VARINT).ok_or(EncodeError::PacketTooLarge(len))
}

/// Bytes of `value` as a variable byte integer. `value` is at most [`MAX_VARINT`].
pub(super) fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
