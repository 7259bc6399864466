//! An application message on its way from a publisher to its subscribers.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::codec::PublishParts;
use crate::packet::{PacketId, Publish, QoS, Will};
use crate::properties::PublishProperties;

/// What was published, without anything that belongs to one hop (packet id, DUP, topic alias, subscription ids).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// A valid topic name, never empty.
    pub topic: ByteString,
    pub payload: Bytes,
    /// As published; a subscriber gets at most this.
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
    /// `None` when there are none. The expiry is in `expires_at` instead; alias and subscription ids are absent.
    pub properties: Option<Box<PublishProperties>>,
    /// The publisher's client id; empty when no client published it.
    pub publisher: ByteString,
    /// Milliseconds on the clock of the node that holds this value. Who sends it to another node sends what remains.
    pub expires_at: Option<u64>,
}

impl Message {
    /// What `publish` says, at `now` in milliseconds. Its topic alias must be resolved.
    pub fn from_publish(publish: Publish, publisher: ByteString, now: u64) -> Self {
        let Publish { topic, payload, qos, retain, mut properties, .. } = publish;
        let mut expires_at = None;
        if let Some(p) = &mut properties {
            expires_at = p.message_expiry.take().map(|seconds| expiry(now, seconds));
            p.topic_alias = None;
            p.subscription_ids.clear();
        }
        let properties = properties.filter(|p| **p != PublishProperties::default());
        Message { topic, payload, qos, retain, properties, publisher, expires_at }
    }

    /// The message that `will` becomes when it is published at `now` in milliseconds: its expiry counts from then
    /// [MQTT 5.0 §3.1.3.2.4].
    pub fn from_will(will: &Will, publisher: ByteString, now: u64) -> Self {
        let properties = PublishProperties {
            payload_format: will.properties.payload_format,
            response_topic: will.properties.response_topic.clone(),
            correlation_data: will.properties.correlation_data.clone(),
            user: will.properties.user.clone(),
            content_type: will.properties.content_type.clone(),
            ..PublishProperties::default()
        };
        Message {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            properties: (properties != PublishProperties::default()).then(|| Box::new(properties)),
            publisher,
            expires_at: will.properties.message_expiry.map(|seconds| expiry(now, seconds)),
        }
    }

    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }

    /// Seconds that remain at `now`, begun ones counted whole, so that a message that is not expired never says 0.
    pub fn remaining_expiry(&self, now: u64) -> Option<u32> {
        let left = self.expires_at?.saturating_sub(now).div_ceil(1000);
        Some(u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Bytes that keeping this message costs, near enough for a bound on a queue.
    pub fn weight(&self) -> usize {
        size_of::<Message>() + self.topic.len() + self.payload.len()
    }
}

fn expiry(now: u64, seconds: u32) -> u64 {
    now.saturating_add(u64::from(seconds) * 1000)
}

/// The identifiers of the subscriptions that a message matched; most messages have none or one, and neither allocates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SubscriptionIds {
    #[default]
    None,
    One(u32),
    Many(Arc<[u32]>),
}

impl SubscriptionIds {
    pub fn as_slice(&self) -> &[u32] {
        match self {
            SubscriptionIds::None => &[],
            SubscriptionIds::One(id) => std::slice::from_ref(id),
            SubscriptionIds::Many(ids) => ids,
        }
    }
}

impl From<&[u32]> for SubscriptionIds {
    fn from(ids: &[u32]) -> Self {
        match ids {
            [] => SubscriptionIds::None,
            [id] => SubscriptionIds::One(*id),
            [..] => SubscriptionIds::Many(ids.into()),
        }
    }
}

/// A message for one subscriber. No-local and the choice among the members of a shared subscription lie behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub message: Arc<Message>,
    /// The lower of the message's and the subscription's.
    pub qos: QoS,
    /// As the subscriber is to see it: by Retain As Published, or because it was retained when it subscribed.
    pub retain: bool,
    /// The client may have had it before, on an earlier connection.
    pub dup: bool,
    pub subscription_ids: SubscriptionIds,
    /// The shared subscription whose member the subscriber was chosen as: the whole filter, `$share/` and all.
    pub share: Option<Arc<str>>,
}

/// A number that stands for a topic on one connection [MQTT 5.0 §3.3.2.3.4].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicAlias {
    pub number: u16,
    /// The client was told it in an earlier packet.
    pub is_known: bool,
}

/// A PUBLISH to be written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub delivery: Delivery,
    /// `Some` exactly when the QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// The client may be told this number besides or, where it knows it already, instead of the topic.
    pub(crate) alias: Option<TopicAlias>,
    /// The message's properties with what remains of its expiry, only for a message that has one.
    properties: Option<Box<PublishProperties>>,
}

impl Outgoing {
    /// `delivery` as it goes out at `now`.
    pub(crate) fn new(delivery: Delivery, packet_id: Option<PacketId>, now: u64) -> Self {
        let message = &delivery.message;
        let properties = message.remaining_expiry(now).map(|seconds| {
            let mut properties = message.properties.clone().unwrap_or_default();
            properties.message_expiry = Some(seconds);
            properties
        });
        Outgoing { delivery, packet_id, alias: None, properties }
    }

    /// What [`crate::codec::encode_publish`] writes.
    pub fn parts(&self) -> PublishParts<'_> {
        let Delivery { message, qos, retain, dup, subscription_ids, share: _ } = &self.delivery;
        PublishParts {
            topic: if self.alias.is_some_and(|alias| alias.is_known) { "" } else { &message.topic },
            payload: &message.payload,
            qos: *qos,
            retain: *retain,
            dup: *dup && self.packet_id.is_some(),
            packet_id: self.packet_id,
            properties: self.properties.as_deref().or(message.properties.as_deref()),
            topic_alias: self.alias.map(|alias| alias.number),
            subscription_ids: subscription_ids.as_slice(),
        }
    }
}
