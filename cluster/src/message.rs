//! Application messages as they cross between nodes and lie in logs.

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;
use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::schema::message as wire;

pub(crate) fn to_wire(message: &Message) -> wire::Message {
    let properties = message.properties.as_deref().map(|properties| wire::Properties {
        payload_format: properties.payload_format,
        response_topic: properties.response_topic.as_ref().map(ToString::to_string),
        correlation_data: properties.correlation_data.clone(),
        content_type: properties.content_type.as_ref().map(ToString::to_string),
        user: properties
            .user
            .iter()
            .map(|(name, value)| wire::UserProperty { name: name.to_string(), value: value.to_string() })
            .collect(),
    });
    wire::Message {
        topic: message.topic.as_bytes().clone(),
        payload: message.payload.clone(),
        qos: message.qos as u32,
        retain: message.retain,
        publisher: message.publisher.as_bytes().clone(),
        properties,
    }
}

/// `None` if it is not UTF-8 where it must be. `expires_at` is in milliseconds on the clock of this node.
pub(crate) fn from_wire(message: wire::Message, expires_at: Option<u64>) -> Option<Message> {
    let text = |bytes: Bytes| ByteString::try_from(bytes).ok();
    let properties = message.properties.map(|properties| {
        Box::new(PublishProperties {
            payload_format: properties.payload_format,
            response_topic: properties.response_topic.map(Into::into),
            correlation_data: properties.correlation_data,
            content_type: properties.content_type.map(Into::into),
            user: properties.user.into_iter().map(|user| (user.name.into(), user.value.into())).collect(),
            ..PublishProperties::default()
        })
    });
    Some(Message {
        topic: text(message.topic)?,
        payload: message.payload,
        qos: QoS::from_bits(message.qos as u8)?,
        retain: message.retain,
        properties,
        publisher: text(message.publisher)?,
        expires_at,
    })
}

/// As logs and inboxes hold it: a copy of its own.
pub fn to_body(message: &Message) -> Bytes {
    to_wire(message).encode_to_vec().into()
}

/// A view of the body; `None` if it does not decode.
pub fn from_body(body: Bytes, expires_at: Option<u64>) -> Option<Message> {
    from_wire(wire::Message::decode(body).ok()?, expires_at)
}
