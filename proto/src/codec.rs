//! Bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! [`Decoder`] checks everything one packet alone can show to be wrong. It knows neither who sends nor what was sent
//! before, so these stay with the session: packets and properties that only one side may send, order, packet ids in
//! use, topic aliases, and topic filters (a bad one is answered in the SUBACK, it does not end the connection).

mod ack;
mod connack;
mod connect;
mod disconnect;
mod error;
mod header;
mod property;
mod publish;
mod reader;
mod reasons;
mod suback;
mod subscribe;
mod writer;

use bytes::{Buf, Bytes, BytesMut};

pub use error::{DecodeError, EncodeError};
pub use publish::{PublishParts, encode_publish, publish_len};

use crate::packet::{Packet, PacketId, PacketType, QoS, Version};
use header::FixedHeader;
use reader::Reader;
use writer::{Counter, Out, varint_len, write_header};

/// Bytes of the largest packet accepted by default, its fixed header included.
pub const DEFAULT_MAX_PACKET: usize = 256 * 1024;

/// A PUBLISH by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oversized {
    pub qos: QoS,
    pub dup: bool,
    pub packet_id: Option<PacketId>,
    /// Bytes of the whole packet.
    pub size: usize,
}

/// Cuts packets out of a growing buffer. Of one connection, in one direction.
#[derive(Debug, Clone)]
pub struct Decoder {
    version: Option<Version>,
    max_packet: usize,
}

impl Decoder {
    /// For a connection whose first packet will be a CONNECT, which sets the version. `max_packet` is in bytes, fixed
    /// header included.
    pub fn new(max_packet: usize) -> Self {
        Decoder { version: None, max_packet }
    }

    /// For the direction that has no CONNECT.
    pub fn with_version(version: Version, max_packet: usize) -> Self {
        Decoder { version: Some(version), max_packet }
    }

    /// Known as soon as a CONNECT showed its level, even if the rest of that CONNECT was refused.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes one packet off the front of `buf`; `None` when it is not all there yet.
    ///
    /// Before the version is known only CONNECT and PINGREQ are accepted. The buffer is never grown here: a header
    /// that promises much costs nothing until the bytes are there.
    ///
    /// # Errors
    /// [`DecodeError`], after which the bytes left in `buf` are of no use. Only at [`DecodeError::PacketTooLarge`] is
    /// `buf` untouched: who discards `size` bytes may go on decoding behind them.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = FixedHeader::read(buf, self.version)? else { return Ok(None) };
        let size = header.width + header.remaining;
        if size > self.max_packet {
            return Err(DecodeError::PacketTooLarge { size, limit: self.max_packet });
        }
        if buf.len() < size {
            return Ok(None);
        }
        self.decode_whole(header, buf)
    }

    /// What `buf` begins with, if that is a PUBLISH which is too large: enough of it to answer it without the rest. `None`
    /// when more has to come first.
    ///
    /// # Errors
    /// [`DecodeError`] if it is another packet, or no proper one.
    pub fn peek_oversized(&self, buf: &[u8]) -> Result<Option<Oversized>, DecodeError> {
        let Some(header) = FixedHeader::read(buf, self.version)? else { return Ok(None) };
        let size = header.width + header.remaining;
        if header.packet_type != PacketType::Publish {
            return Err(DecodeError::PacketTooLarge { size, limit: self.max_packet });
        }
        publish::peek(header, &buf[header.width..], size, self.version.unwrap_or(Version::V311))
    }

    /// `buf` begins with one whole packet.
    fn decode_whole(&mut self, header: FixedHeader, buf: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        // PINGREQ is the one packet let through without a version; it is the same in all of them.
        let version = self.version.unwrap_or(Version::V311);
        let packet_type = header.packet_type;
        buf.advance(header.width);
        // A PUBLISH, of which there are so many, takes its own bytes.
        let r = &mut match packet_type == PacketType::Publish {
            true => Reader::new(Bytes::new()),
            false => Reader::new(buf.split_to(header.remaining).freeze()),
        };
        let packet = match packet_type {
            PacketType::Connect => Packet::Connect(connect::decode(header, r, &mut self.version)?),
            PacketType::ConnAck => Packet::ConnAck(Box::new(connack::decode(r, version)?)),
            PacketType::Publish => return publish::decode(header, buf, version),
            PacketType::PubAck => Packet::PubAck(ack::decode(packet_type, r, version)?),
            PacketType::PubRec => Packet::PubRec(ack::decode(packet_type, r, version)?),
            PacketType::PubRel => Packet::PubRel(ack::decode(packet_type, r, version)?),
            PacketType::PubComp => Packet::PubComp(ack::decode(packet_type, r, version)?),
            PacketType::Subscribe => Packet::Subscribe(Box::new(subscribe::decode(r, version)?)),
            PacketType::SubAck => Packet::SubAck(Box::new(suback::decode(r, version)?)),
            PacketType::Unsubscribe => Packet::Unsubscribe(Box::new(subscribe::decode_unsubscribe(r, version)?)),
            PacketType::UnsubAck => Packet::UnsubAck(Box::new(suback::decode_unsuback(r, version)?)),
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(Box::new(disconnect::decode(r, version)?)),
            PacketType::Auth => Packet::Auth(Box::new(disconnect::decode_auth(r)?)),
        };
        r.end()?;
        Ok(Some(packet))
    }
}

/// Appends `packet` to `out`, which is left as it was on an error.
///
/// A CONNECT is written in its own version; `version` is that of the connection. For 3.x, properties are left out, the
/// reason of a CONNACK becomes a return code, that of a PUBACK and its kin is left out, and every error in a SUBACK
/// becomes 0x80.
///
/// # Errors
/// [`EncodeError`] for what the version has no form for and for what [`Decoder`] would refuse.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let remaining = body_len(packet, version)?;
    write_header(first_byte(packet), remaining, out);
    write_body(packet, version, out);
    Ok(())
}

/// Bytes that [`encode`] would append, fixed header included.
///
/// # Errors
/// The same as [`encode`].
pub fn encoded_len(packet: &Packet, version: Version) -> Result<usize, EncodeError> {
    let remaining = body_len(packet, version)?;
    Ok(1 + varint_len(remaining) + remaining as usize)
}

fn first_byte(packet: &Packet) -> u8 {
    if let Packet::Publish(p) = packet {
        return publish::first_byte(&PublishParts::from(p));
    }
    header::first_byte(packet.packet_type())
}

fn body_len(packet: &Packet, version: Version) -> Result<u32, EncodeError> {
    let mut counter = Counter::default();
    write_body(packet, version, &mut counter);
    counter.finish()
}

fn write_body<W: Out>(packet: &Packet, version: Version, w: &mut W) {
    let packet_type = packet.packet_type();
    match packet {
        Packet::Connect(p) => connect::write(p, w),
        Packet::ConnAck(p) => connack::write(p, version, w),
        Packet::Publish(p) => publish::write(p, version, w),
        Packet::PubAck(p) | Packet::PubRec(p) | Packet::PubRel(p) | Packet::PubComp(p) => {
            ack::write(packet_type, p, version, w);
        }
        Packet::Subscribe(p) => subscribe::write(p, version, w),
        Packet::SubAck(p) => suback::write(p, version, w),
        Packet::Unsubscribe(p) => subscribe::write_unsubscribe(p, version, w),
        Packet::UnsubAck(p) => suback::write_unsuback(p, version, w),
        Packet::PingReq | Packet::PingResp => {}
        Packet::Disconnect(p) => disconnect::write(p, version, w),
        Packet::Auth(p) => disconnect::write_auth(p, version, w),
    }
}
