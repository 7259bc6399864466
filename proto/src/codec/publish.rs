//! PUBLISH [MQTT 5.0 §3.3].

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use super::Oversized;
use super::error::{DecodeError, EncodeError};
use super::header::{self, FixedHeader};
use super::property::{self, Block, PropertyOut};
use super::reader::{Reader, qos};
use super::writer::{Counter, Out, Properties, fits, varint_len, write_header};
use crate::packet::{Packet, PacketId, PacketType, Publish, QoS, Version};
use crate::properties::PublishProperties;
use crate::topic;

const DUP: u8 = 0x08;
const QOS_SHIFT: u8 = 1;
const RETAIN: u8 = 0x01;

/// Takes what follows the fixed header, with which `buf` no longer begins.
/// The result is the decoder's own, so that it is built where it is needed and not moved.
pub(super) fn decode(header: FixedHeader, buf: &mut BytesMut, version: Version) -> Result<Option<Packet>, DecodeError> {
    // The fields are found in the plain slice: each handle on the buffer costs an atomic count, so there are only two.
    let head = Head::read(header.flags, &buf[..header.remaining], version)?;
    buf.advance(2);
    let topic = buf.split_to(head.topic_len).freeze();
    buf.advance(head.id_len);
    let mut payload = buf.split_to(header.remaining - 2 - head.topic_len - head.id_len).freeze();
    let topic = topic_name(topic)?;
    let mut properties = None;
    if version == Version::V5 {
        match payload.first() {
            // Most have none.
            Some(0) => payload.advance(1),
            Some(_) | None => (properties, payload) = properties_and_payload(payload)?,
        }
    }
    if topic.is_empty() && properties.as_ref().is_none_or(|p| p.topic_alias.is_none()) {
        return Err(DecodeError::EmptyTopicWithoutAlias);
    }
    let Head { dup, qos, retain, packet_id, .. } = head;
    Ok(Some(Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload })))
}

/// As much of a packet of `size` bytes as it takes to answer it; `body` is what there is behind its fixed header.
pub(super) fn peek(
    header: FixedHeader,
    body: &[u8],
    size: usize,
    version: Version,
) -> Result<Option<Oversized>, DecodeError> {
    match Head::read(header.flags, &body[..body.len().min(header.remaining)], version) {
        Ok(Head { dup, qos, packet_id, .. }) => Ok(Some(Oversized { qos, dup, packet_id, size })),
        Err(DecodeError::UnexpectedEnd) if body.len() < header.remaining => Ok(None),
        Err(error) => Err(error),
    }
}

/// What precedes the properties.
struct Head {
    dup: bool,
    qos: QoS,
    retain: bool,
    topic_len: usize,
    packet_id: Option<PacketId>,
    /// Bytes of the packet identifier: 0 or 2.
    id_len: usize,
}

impl Head {
    #[inline]
    fn read(flags: u8, body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let qos = qos(flags >> QOS_SHIFT)?;
        let retain = flags & RETAIN != 0;
        let mut dup = flags & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            // [MQTT-3.3.1-2]; MQTT 3.1 gives the bit no meaning there.
            if version != Version::V31 {
                return Err(DecodeError::DupOnQoS0);
            }
            dup = false;
        }
        let (len, rest) = body.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        let topic_len = usize::from(u16::from_be_bytes(*len));
        let rest = rest.get(topic_len..).ok_or(DecodeError::UnexpectedEnd)?;
        if topic_len == 0 && version != Version::V5 {
            return Err(DecodeError::TopicNameInvalid);
        }
        if qos == QoS::AtMostOnce {
            return Ok(Head { dup, qos, retain, topic_len, packet_id: None, id_len: 0 });
        }
        let id = rest.first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        let packet_id = PacketId::new(u16::from_be_bytes(*id)).ok_or(DecodeError::PacketIdZero)?;
        Ok(Head { dup, qos, retain, topic_len, packet_id: Some(packet_id), id_len: 2 })
    }
}

/// The topic, which may be empty.
fn topic_name(topic: Bytes) -> Result<ByteString, DecodeError> {
    let topic = ByteString::try_from(topic).map_err(|_| DecodeError::InvalidUtf8)?;
    match topic::validate_characters(&topic) {
        Ok(()) => Ok(topic),
        Err(topic::TopicError::Nul) => Err(DecodeError::NulInString),
        Err(_) => Err(DecodeError::TopicNameInvalid),
    }
}

fn properties_and_payload(body: Bytes) -> Result<(Option<Box<PublishProperties>>, Bytes), DecodeError> {
    let mut r = Reader::new(body);
    let mut block = Block::read(&mut r, "PUBLISH")?;
    let mut p = Box::<PublishProperties>::default();
    while let Some(id) = block.next()? {
        match id {
            property::PAYLOAD_FORMAT => block.flag(&mut p.payload_format)?,
            property::MESSAGE_EXPIRY => block.u32(&mut p.message_expiry)?,
            property::TOPIC_ALIAS => block.topic_alias(&mut p.topic_alias)?,
            property::RESPONSE_TOPIC => block.response_topic(&mut p.response_topic)?,
            property::CORRELATION_DATA => block.binary(&mut p.correlation_data)?,
            property::USER => block.user(&mut p.user)?,
            property::SUBSCRIPTION_ID => p.subscription_ids.push(block.subscription_id()?),
            property::CONTENT_TYPE => block.string(&mut p.content_type)?,
            _ => return block.misplaced(),
        }
    }
    Ok((Some(p), r.take_rest()))
}

/// A PUBLISH as parts that need not be owned by one packet, so that one message goes to many subscribers.
#[derive(Debug, Clone, Copy)]
pub struct PublishParts<'a> {
    /// Known to be a topic name (from a [`super::Decoder`], or checked by [`topic::validate_name`]), or empty with a
    /// topic alias.
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    /// `Some` exactly when `qos > 0`.
    pub packet_id: Option<PacketId>,
    /// Left out for 3.x. A topic alias in here is written too: a publisher's own must not reach a subscriber.
    pub properties: Option<&'a PublishProperties>,
    /// Left out for 3.x; not 0. For where the properties have none.
    pub topic_alias: Option<u16>,
    /// Each 1 to 268,435,455; they follow those in `properties`.
    pub subscription_ids: &'a [u32],
}

impl PublishParts<'_> {
    fn have_properties(&self) -> bool {
        self.properties.is_some() || self.topic_alias.is_some() || !self.subscription_ids.is_empty()
    }

    fn topic_alias(&self) -> Option<u16> {
        self.topic_alias.or_else(|| self.properties?.topic_alias)
    }
}

impl<'a> From<&'a Publish> for PublishParts<'a> {
    fn from(p: &'a Publish) -> Self {
        PublishParts {
            topic: &p.topic,
            payload: &p.payload,
            qos: p.qos,
            retain: p.retain,
            dup: p.dup,
            packet_id: p.packet_id,
            properties: p.properties.as_deref(),
            topic_alias: None,
            subscription_ids: &[],
        }
    }
}

/// Appends a PUBLISH to `out`, growing it at most once; `out` is left as it was on an error.
///
/// # Errors
/// [`EncodeError`] where packet id, QoS, DUP and alias contradict each other or something is too long.
pub fn encode_publish(parts: &PublishParts<'_>, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    if version == Version::V5 && parts.have_properties() {
        let mut counter = Counter::default();
        write_parts(parts, version, &mut counter);
        write_header(first_byte(parts), counter.finish()?, out);
        write_parts(parts, version, out);
        return Ok(());
    }
    encode_plain(parts, version, out)
}

/// The common PUBLISH, without the counting pass that properties need.
fn encode_plain(p: &PublishParts<'_>, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    check(p, version)?;
    let topic_len = u16::try_from(p.topic.len()).map_err(|_| EncodeError::FieldTooLong(p.topic.len()))?;
    let id_len = if p.packet_id.is_some() { 2 } else { 0 };
    let remaining = 2 + p.topic.len() + id_len + usize::from(version == Version::V5) + p.payload.len();
    write_header(first_byte(p), fits(remaining)?, out);
    out.u16(topic_len);
    out.bytes(p.topic.as_bytes());
    if let Some(id) = p.packet_id {
        out.u16(id.get());
    }
    if version == Version::V5 {
        out.u8(0);
    }
    out.bytes(p.payload);
    Ok(())
}

fn check(p: &PublishParts<'_>, version: Version) -> Result<(), EncodeError> {
    if p.packet_id.is_some() != (p.qos != QoS::AtMostOnce) {
        return Err(EncodeError::PacketIdAndQoS);
    }
    if p.dup && p.qos == QoS::AtMostOnce {
        return Err(EncodeError::DupOnQoS0);
    }
    if p.topic.is_empty() && (version != Version::V5 || p.topic_alias().is_none()) {
        return Err(EncodeError::EmptyTopicWithoutAlias);
    }
    Ok(())
}

/// Bytes that [`encode_publish`] would append, fixed header included.
///
/// # Errors
/// The same as [`encode_publish`].
pub fn publish_len(parts: &PublishParts<'_>, version: Version) -> Result<usize, EncodeError> {
    let mut counter = Counter::default();
    write_parts(parts, version, &mut counter);
    let remaining = counter.finish()?;
    Ok(1 + varint_len(remaining) + remaining as usize)
}

pub(super) fn first_byte(p: &PublishParts<'_>) -> u8 {
    header::first_byte(PacketType::Publish)
        | (p.qos as u8) << QOS_SHIFT
        | if p.dup { DUP } else { 0 }
        | if p.retain { RETAIN } else { 0 }
}

pub(super) fn write<W: Out>(p: &Publish, version: Version, w: &mut W) {
    if topic::validate_characters(&p.topic).is_err() {
        w.fault(EncodeError::TopicNameInvalid);
    }
    write_parts(&PublishParts::from(p), version, w);
}

fn write_parts<W: Out>(p: &PublishParts<'_>, version: Version, w: &mut W) {
    if let Err(error) = check(p, version) {
        w.fault(error);
    }
    w.binary(p.topic.as_bytes());
    if let Some(id) = p.packet_id {
        w.u16(id.get());
    }
    if version == Version::V5 {
        if p.have_properties() { w.properties(p) } else { w.u8(0) }
    }
    w.bytes(p.payload);
}

impl Properties for PublishParts<'_> {
    fn write<W: Out>(&self, w: &mut W) {
        if let Some(properties) = self.properties {
            properties.write(w);
        }
        w.positive_u16(property::TOPIC_ALIAS, self.topic_alias);
        for &id in self.subscription_ids {
            w.subscription_id(id);
        }
    }
}

impl Properties for PublishProperties {
    fn write<W: Out>(&self, w: &mut W) {
        w.flag(property::PAYLOAD_FORMAT, self.payload_format);
        w.property_u32(property::MESSAGE_EXPIRY, self.message_expiry);
        w.positive_u16(property::TOPIC_ALIAS, self.topic_alias);
        w.response_topic(self.response_topic.as_ref());
        w.property_binary(property::CORRELATION_DATA, self.correlation_data.as_ref());
        w.user(&self.user);
        for &id in &self.subscription_ids {
            w.subscription_id(id);
        }
        w.property_string(property::CONTENT_TYPE, self.content_type.as_ref());
    }
}
