//! What one listener allows its sessions.

use std::num::NonZeroU16;

use bytestring::ByteString;

use crate::packet::QoS;

/// The rules and bounds of the sessions of one listener. Times in milliseconds unless said otherwise.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// How long a connection may take to its CONNECT.
    pub connect_timeout: u64,
    /// Seconds.
    pub keep_alive_min: u16,
    /// Seconds.
    pub keep_alive_max: u16,
    pub keep_alive_outside: KeepAliveOutside,
    pub keep_alive_grace: KeepAliveGrace,
    /// Characters.
    pub client_id_max_length: usize,
    pub client_id_policy: ClientIdPolicy,
    /// An empty client id is refused also where the protocol lets the server assign one.
    pub client_id_required: bool,
    /// Called for an id when the client leaves it to the server; must never return the same one twice in a cluster. An
    /// empty one refuses the client.
    pub assign_client_id: fn() -> ByteString,
    /// Seconds; 0xFFFF_FFFF never expires. Longer wishes are cut to it.
    pub session_expiry_max: u32,
    /// Bytes of the largest packet the decoder accepts, told to 5.0 clients.
    pub max_packet: u32,
    pub max_qos: QoS,
    pub retain_available: bool,
    pub shared_subscriptions: bool,
    /// Levels that a filter may have: each takes its time and memory on every node.
    pub max_topic_levels: usize,
    /// QoS 1 and 2 publishes that one client may have in flight towards us.
    pub receive_maximum: NonZeroU16,
    /// Topic aliases a client may set; 0 turns them off.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards a client, if it allows as many.
    pub topic_aliases_sent: u16,
    /// SUBSCRIBE and UNSUBSCRIBE packets of one client that may wait for their answer before no more is read.
    pub max_requests: usize,
    /// QoS 1 and 2 messages in flight towards one client, if it allows as many.
    pub outbound_window: NonZeroU16,
    /// QoS 1 and 2 messages waiting for a place in the window.
    pub outbound_queue: usize,
    /// Bytes of the messages waiting.
    pub outbound_queue_bytes: usize,
    pub overflow: Overflow,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            connect_timeout: 10_000,
            keep_alive_min: 0,
            keep_alive_max: u16::MAX,
            keep_alive_outside: KeepAliveOutside::Adjust,
            keep_alive_grace: KeepAliveGrace::Percent(150),
            client_id_max_length: usize::from(u16::MAX),
            client_id_policy: ClientIdPolicy::Any,
            client_id_required: false,
            assign_client_id: ByteString::new,
            session_expiry_max: u32::MAX,
            max_packet: 256 * 1024,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            shared_subscriptions: true,
            max_topic_levels: 128,
            receive_maximum: NonZeroU16::MIN.saturating_add(99),
            topic_alias_maximum: 16,
            topic_aliases_sent: 16,
            max_requests: 16,
            outbound_window: NonZeroU16::MIN.saturating_add(99),
            outbound_queue: 1000,
            outbound_queue_bytes: 16 * 1024 * 1024,
            overflow: Overflow::DropOldest,
        }
    }
}

/// What happens to a keep alive outside the listener's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAliveOutside {
    /// A 5.0 client is told the nearest one allowed. A 3.x client cannot be told: it is given the minimum where it
    /// asked for less, and what it asked for otherwise.
    Adjust,
    /// The connection is refused.
    Refuse,
}

/// How long a client may be silent, counted from its keep alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAliveGrace {
    /// Of the keep alive; 150 is what the specification says [MQTT-3.1.2-22].
    Percent(u32),
    /// The keep alive and so many milliseconds.
    Plus(u64),
}

impl KeepAliveGrace {
    /// Milliseconds of silence allowed for a keep alive in seconds.
    pub fn limit(self, keep_alive: u16) -> u64 {
        let keep_alive = u64::from(keep_alive) * 1000;
        match self {
            KeepAliveGrace::Percent(percent) => keep_alive * u64::from(percent) / 100,
            KeepAliveGrace::Plus(ms) => keep_alive.saturating_add(ms),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIdPolicy {
    /// Whatever MQTT allows, but for control characters, which it advises against [MQTT 5.0 §1.5.4].
    Any,
    /// `[0-9a-zA-Z]` only.
    Alphanumeric,
}

/// What gives way when the queue towards a client is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    DropOldest,
    DropNewest,
    EndSession,
}
