//! What a session asks of the shell around it.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use crate::message::{Message, Outgoing};
use crate::packet::{Packet, PacketId, SubscribeOptions, Version, Will};
use crate::properties::UserProperties;
use crate::reason::DisconnectReason;

/// To be carried out in the order in which they are polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Decide on the connection, then call `claimed` or `refused`.
    Claim(Box<ConnectRequest>),
    /// Write this packet.
    Send(Packet),
    /// Write this PUBLISH.
    Deliver(Outgoing),
    /// Route the message. With a token, call `published` once it is safe; without one nobody waits.
    Publish { token: Option<PublishToken>, packet_id: Option<PacketId>, message: Message },
    /// A QoS 2 message that the session's inbox holds the packet id of is released by its PUBREL: record that the id is
    /// free, then call `completed`.
    Complete(PacketId),
    /// A QoS 2 message from the inbox has reached the client: record it, then call `recorded`.
    Received(PacketId),
    /// The client is done with a message from the inbox.
    Settled(PacketId),
    /// Subscribe, then call `subscribed` with one reason per filter.
    Subscribe(Box<SubscribeRequest>),
    /// Unsubscribe, then call `unsubscribed` with one reason per filter.
    Unsubscribe(Box<UnsubscribeRequest>),
    /// A message that was queued will not be sent: count it.
    Dropped { message: Arc<Message>, why: DropReason },
    /// Flush what was written and close the stream. Always the last action, and there is only one.
    Close(Box<Close>),
}

/// Names one publish that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublishToken(pub(super) u64);

/// A CONNECT that has the right form, and what it comes to under the listener's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Never empty.
    pub client_id: ByteString,
    /// The client left it to the server to choose the id.
    pub client_id_assigned: bool,
    pub version: Version,
    pub clean_start: bool,
    /// Seconds; 0 is none. What the client has to keep, not what it asked for.
    pub keep_alive: u16,
    /// Seconds; 0xFFFF_FFFF never expires. 3.x: 0 with Clean Session, never without.
    pub session_expiry: u32,
    pub username: Option<ByteString>,
    pub password: Option<Bytes>,
    pub will: Option<Will>,
    pub user: UserProperties,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// For the answer.
    pub packet_id: PacketId,
    /// Valid ones, at least one.
    pub filters: Vec<(ByteString, SubscribeOptions)>,
    pub subscription_id: Option<u32>,
    pub user: UserProperties,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeRequest {
    /// For the answer.
    pub packet_id: PacketId,
    /// Valid ones, at least one.
    pub filters: Vec<ByteString>,
}

/// Why and how the connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub reason: DisconnectReason,
    /// What exactly was wrong, for people.
    pub detail: Option<&'static str>,
    pub stage: CloseStage,
    /// To be published now that the connection has ended, after its delay; `None` if there is none or it is void.
    pub will: Option<Box<Will>>,
    /// Seconds, where the client's DISCONNECT changed it.
    pub session_expiry: Option<u32>,
}

/// How far the connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseStage {
    /// No CONNECT was accepted and none claimed. The client id may be known nevertheless, for the event.
    BeforeClaim,
    /// The claim was asked for and is not answered: what it may still be granted has to be given back.
    Claiming,
    /// The claim was refused.
    Refused,
    /// The client had been sent its CONNACK.
    Online,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It goes out with the next actions.
    Sent,
    /// It waits for a place in the client's window.
    Queued,
    Dropped(DropReason),
}

/// Why a message does not reach a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The connection is not (or no longer) online.
    Offline,
    Expired,
    /// It is larger than the client accepts [MQTT-3.1.2-25].
    TooLarge,
    /// QoS 0, and the client reads too slowly.
    Congested,
    /// QoS 1 or 2, and the queue is full.
    QueueFull,
}
