//! The MQTT session protocol of one network connection, from CONNECT to the end, without any I/O.

mod action;
mod aliases;
mod config;
mod connect;
mod end;
mod inbound;
mod outbound;
mod request;
mod send;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;

pub use action::{
    Action, Close, CloseStage, ConnectRequest, Delivered, DropReason, PublishToken, SubscribeRequest,
    UnsubscribeRequest,
};
pub use config::{ClientIdPolicy, KeepAliveGrace, KeepAliveOutside, Overflow, SessionConfig};

use crate::packet::{Packet, Version, Will};
use crate::properties::ConnAckProperties;
use crate::reason::{DisconnectReason, ReasonCode};
use inbound::Inbound;
use outbound::Outbound;
use request::Requests;
use timers::Clock;

/// The server's side of one connection.
///
/// It does nothing by itself. The shell around it
/// - tells it what happened: `handle_*` (a packet, a decode error, the end of the stream, the time),
/// - answers what it asked: `claimed`, `refused`, `published`, `subscribed`, `unsubscribed`,
/// - gives it messages for the client (`deliver`) or ends it (`disconnect`),
/// - slows it down: `hold`, `release`, `set_congested`,
///
/// and after every such call carries out all of `poll_action`. `poll_timeout` says when `handle_timeout` is due; a
/// packet only ever moves that later, so a timer once set need not be moved before it fires.
///
/// `now` is in milliseconds on any clock that never goes back. After [`Action::Close`] every call is without effect.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    stage: Stage,
    version: Version,
    client_id: ByteString,
    username: Option<ByteString>,
    will: Option<Box<Will>>,
    /// Seconds, as the client's CONNECT asked.
    asked_expiry: u32,
    /// Seconds.
    keep_alive: u16,
    /// What the CONNACK will say if the claim is granted.
    greeting: Box<ConnAckProperties>,
    /// The session outlives its connections, and what it sends and receives above QoS 0 is recorded.
    has_inbox: bool,
    clock: Clock,
    inbound: Inbound,
    requests: Requests,
    outbound: Outbound,
    actions: VecDeque<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    AwaitConnect,
    Claiming,
    Online,
    Closed,
}

impl Session {
    /// For a connection accepted at `now`.
    pub fn new(config: Arc<SessionConfig>, now: u64) -> Self {
        Session {
            stage: Stage::AwaitConnect,
            version: Version::V311,
            client_id: ByteString::new(),
            username: None,
            will: None,
            asked_expiry: 0,
            keep_alive: 0,
            greeting: Box::default(),
            has_inbox: false,
            clock: Clock::new(now, Some(config.connect_timeout)),
            inbound: Inbound::default(),
            requests: Requests::default(),
            outbound: Outbound::default(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// A packet from the client.
    pub fn handle_packet(&mut self, packet: Packet, now: u64) {
        match self.stage {
            Stage::Closed => {}
            Stage::AwaitConnect => match packet {
                Packet::Connect(connect) => self.on_connect(*connect),
                Packet::PingReq => self.finish(DisconnectReason::PingWithoutConnect, None),
                Packet::ConnAck(_)
                | Packet::Publish(_)
                | Packet::PubAck(_)
                | Packet::PubRec(_)
                | Packet::PubRel(_)
                | Packet::PubComp(_)
                | Packet::Subscribe(_)
                | Packet::SubAck(_)
                | Packet::Unsubscribe(_)
                | Packet::UnsubAck(_)
                | Packet::PingResp
                | Packet::Disconnect(_)
                | Packet::Auth(_) => self.finish(DisconnectReason::TcpClosed, Some("the first packet is no CONNECT")),
            },
            Stage::Claiming => {
                self.finish(DisconnectReason::ServerInternalError, Some("a packet was handled before the claim was"));
            }
            Stage::Online => {
                self.clock.touch(now);
                self.on_packet(packet, now);
            }
        }
    }

    fn on_packet(&mut self, packet: Packet, now: u64) {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish, now),
            Packet::PubAck(ack) => self.on_puback(&ack, now),
            Packet::PubRec(ack) => self.on_pubrec(&ack, now),
            Packet::PubRel(ack) => self.on_pubrel(&ack),
            Packet::PubComp(ack) => self.on_pubcomp(&ack, now),
            Packet::Subscribe(subscribe) => self.on_subscribe(*subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(*unsubscribe),
            Packet::PingReq => self.send(Packet::PingResp),
            Packet::Disconnect(disconnect) => self.on_disconnect(*disconnect),
            Packet::Connect(_) => self.fail(ReasonCode::ProtocolError, "a second CONNECT [MQTT-3.1.0-2]"),
            Packet::Auth(_) => self.fail(ReasonCode::ProtocolError, "AUTH without an authentication method"),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                self.fail(ReasonCode::ProtocolError, "a packet that only a server sends");
            }
        }
    }

    /// The time is `now`.
    pub fn handle_timeout(&mut self, now: u64) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.stage {
            Stage::AwaitConnect => self.finish(DisconnectReason::TcpClosed, Some("no CONNECT in time")),
            Stage::Online => self.end(DisconnectReason::KeepAliveTimeout, ReasonCode::KeepAliveTimeout, None, None),
            Stage::Claiming | Stage::Closed => {}
        }
    }

    /// When [`Session::handle_timeout`] is due; `None` while nothing is timed.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.stage {
            Stage::AwaitConnect | Stage::Online => self.clock.deadline(),
            Stage::Claiming | Stage::Closed => None,
        }
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the client's next packet should be read now. While it is false, leave the bytes where they are: an
    /// answer is outstanding, or the client has more waiting than it may. Never ignore it while a claim is open.
    pub fn accepts_packets(&self) -> bool {
        match self.stage {
            Stage::AwaitConnect => true,
            Stage::Claiming | Stage::Closed => false,
            Stage::Online => {
                self.requests.len() < self.config.max_requests
                    && self.inbound.unanswered() < usize::from(self.config.receive_maximum.get())
            }
        }
    }

    /// The shell stops reading from this client: its keep alive stands still until [`Session::release`].
    pub fn hold(&mut self, now: u64) {
        self.clock.hold(now);
    }

    pub fn release(&mut self, now: u64) {
        self.clock.release(now);
    }

    /// Gives back the memory of queues that are empty, for a connection that idles.
    pub fn trim(&mut self) {
        if self.actions.is_empty() {
            self.actions = VecDeque::new();
        }
        self.inbound.trim();
        self.requests.trim();
        self.outbound.trim();
    }

    pub fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    pub fn is_online(&self) -> bool {
        self.stage == Stage::Online
    }

    /// How to encode for this client: 3.1.1 until its CONNECT said otherwise.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Empty until a CONNECT gave it; then also that of a client that was refused.
    pub fn client_id(&self) -> &ByteString {
        &self.client_id
    }

    pub fn username(&self) -> Option<&ByteString> {
        self.username.as_ref()
    }

    /// Seconds; 0 is none.
    pub fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// Messages waiting for a place in the client's window.
    pub fn queued(&self) -> usize {
        self.outbound.queued()
    }

    /// QoS 1 and 2 messages sent and not yet acknowledged.
    pub fn in_flight(&self) -> usize {
        self.outbound.in_flight()
    }

    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }
}
