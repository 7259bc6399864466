//! One client's connection: bytes in and out, and everything its session machine asks for.
//!
//! One task per connection. It reads only when the session takes packets, so a client that floods is held by TCP; it
//! writes what has gathered in one call; while nothing happens it holds no buffers.

mod carry;
mod cursor;
mod end;
mod inbox;
mod oversize;
mod publish;
mod pump;
mod request;
mod retained;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rollcall_cluster::{Cluster, Unavailable};
use rollcall_proto::codec::Decoder;
use rollcall_proto::message::Delivery;
use rollcall_proto::reason::DisconnectReason;
use rollcall_proto::session::{Close, PublishToken, Session, SessionConfig};
use tokio::time::{Instant, Sleep};

use crate::access::Access;
use crate::door::Entered;
use crate::mailbox::{End, Mailbox, MailboxLimits};
use crate::meters::Meters;
use crate::refusals::Refusals;
use crate::router::{Routed, Router};
use crate::transport::{Ready, Transport};
use cursor::EventCursor;
use inbox::InboxCursor;
use publish::{Held, Stage};
use request::{Done, Request};
use retained::Quests;

/// What all connections of a listener share.
pub struct Shared {
    pub cluster: Cluster,
    pub router: Arc<Router>,
    pub access: Access,
    pub refusals: Arc<Refusals>,
    pub meters: Arc<Meters>,
    pub session: Arc<SessionConfig>,
    pub mailbox: MailboxLimits,
    /// Bytes of written but unsent packets beyond which the client counts as slow.
    pub write_buffer: usize,
    pub event_node: crate::config::EventNode,
    /// Subscriptions that one session may have.
    pub max_filters: usize,
    /// A PUBLISH that is too large is dropped; otherwise it ends the connection.
    pub drops_oversized: bool,
}

/// The first read of a connection that had nothing to read; it grows while reads fill it.
const READ_SMALL: usize = 4 << 10;
const READ_LARGE: usize = 64 << 10;
/// Packets handled before what they brought about is written, so that nobody waits for a flood to end.
const PACKETS_PER_TURN: usize = 256;

pub struct Connection {
    shared: Arc<Shared>,
    stream: Transport,
    number: u64,
    peername: SocketAddr,
    sockname: SocketAddr,
    session: Session,
    /// Of the granted claim; 0 before.
    epoch: u64,
    decoder: Decoder,
    input: BytesMut,
    /// Bytes to come of a packet that is passed over.
    unread: usize,
    /// The client has sent something.
    heard: bool,
    /// There may be whole packets in `input` that were not handled yet.
    more: bool,
    read_size: usize,
    output: BytesMut,
    congested: bool,
    mailbox: Arc<Mailbox>,
    deliveries: VecDeque<Delivery>,
    /// Why others want this connection to end.
    told: Option<End>,
    requests: FuturesUnordered<Request>,
    /// A publish that has to wait; nothing is read meanwhile.
    held: Option<Held>,
    /// Publishes behind a retained one.
    stage: Stage,
    /// Publishes that other nodes or shards have still to take, in order.
    unconfirmed: VecDeque<(PublishToken, Routed)>,
    events: EventCursor,
    /// Of a persistent session.
    inbox: Option<Box<InboxCursor>>,
    quests: Quests,
    timer: Pin<Box<Sleep>>,
    /// When the timer will fire, in milliseconds of [`now_ms`]; 0 when it is not set.
    timer_at: u64,
    connect_at: Option<Instant>,
}

/// What happened.
enum Woken {
    Readable(io::Result<()>),
    /// A turn ended before all packets that had been read were handled.
    More,
    Writable(io::Result<()>),
    Done(Done),
    Released,
    Committed(Result<(), Unavailable>),
    Confirmed(Result<(), Unavailable>),
    Mailbox,
    /// Its inbox or the event log may have something for the client.
    Filled,
    Timer,
}

/// Milliseconds on the clock of sessions and message expiry.
pub fn now_ms() -> u64 {
    rollcall_cluster::boottime().as_millis() as u64
}

impl Connection {
    pub fn new(shared: Arc<Shared>, number: u64, entered: Entered) -> Self {
        let Entered { stream, peername, sockname, accepted_at } = entered;
        Connection {
            session: Session::new(shared.session.clone(), accepted_at),
            decoder: Decoder::new(shared.session.max_packet as usize),
            events: EventCursor::new(shared.cluster.events().watch()),
            mailbox: Arc::new(Mailbox::new(shared.mailbox)),
            stream,
            number,
            peername,
            sockname,
            epoch: 0,
            input: BytesMut::new(),
            unread: 0,
            heard: false,
            more: false,
            read_size: READ_SMALL,
            output: BytesMut::new(),
            congested: false,
            deliveries: VecDeque::new(),
            told: None,
            requests: FuturesUnordered::new(),
            held: None,
            stage: Stage::default(),
            unconfirmed: VecDeque::new(),
            inbox: None,
            quests: Quests::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: 0,
            connect_at: None,
            shared,
        }
    }

    /// Until the connection has ended and its session is given back.
    pub async fn run(mut self) {
        self.shared.router.register(self.number, self.mailbox.clone());
        let close = loop {
            self.set_timer();
            let woken = self.wait().await;
            if let Some(close) = self.turn(woken) {
                break close;
            }
        };
        let (router, number) = (self.shared.router.clone(), self.number);
        self.end(close).await;
        // Only now: until then the connection counts, and word of a takeover reaches it.
        router.unregister(number);
    }

    /// Handles what happened, carries out what follows, writes what there is to write.
    fn turn(&mut self, woken: Woken) -> Option<Box<Close>> {
        match woken {
            Woken::Readable(Ok(())) => self.fill(),
            Woken::Readable(Err(_)) | Woken::Writable(Err(_)) => self.session.handle_closed(),
            Woken::More | Woken::Writable(Ok(())) | Woken::Filled => {}
            Woken::Done(done) => self.on_done(done),
            Woken::Released => self.retry_held(),
            Woken::Committed(result) => self.on_committed(result),
            Woken::Confirmed(result) => self.confirm(result),
            Woken::Mailbox => self.collect(),
            Woken::Timer => {
                self.timer_at = 0;
                self.session.handle_timeout(now_ms());
            }
        }
        let close = self.carry_all().or_else(|| self.handle_input()).or_else(|| {
            self.pump();
            self.carry_all()
        });
        self.record();
        // Who is told to go connects again at once: its session is given back before, by the end.
        if close.as_ref().is_none_or(|close| close.reason != DisconnectReason::GoAway) {
            self.flush();
        }
        if close.is_some() {
            return close;
        }
        let close = self.carry_all();
        self.rest();
        close
    }

    async fn wait(&mut self) -> Woken {
        let reading = self.takes_packets();
        if reading && self.more {
            // Others of this runtime's tasks get their turn.
            tokio::task::yield_now().await;
            return Woken::More;
        }
        let writing = !self.output.is_empty();
        let pumping = self.may_pump();
        if pumping && self.quests.are_waiting() {
            return Woken::Filled;
        }
        let (following, draining) = (self.events.is_active() && pumping, pumping && self.session.room() > 0);
        let moving = reading || writing || self.stream.is_unflushed();
        let (timer, is_held) = (self.timer.as_mut(), self.held.is_some());
        let held = self.held.as_mut();
        let first = self.unconfirmed.front_mut();
        let inbox = self.inbox.as_ref().filter(|_| draining);
        tokio::select! {
            ready = self.stream.ready(reading, &self.output), if moving => match ready {
                Ready::Readable(ready) => Woken::Readable(ready),
                Ready::Writable(ready) => Woken::Writable(ready),
            },
            () = self.mailbox.changed() => Woken::Mailbox,
            Some(done) = self.requests.next(), if !self.requests.is_empty() => Woken::Done(done),
            Some(()) = finished(held.map(|held| held.over.as_mut())) => Woken::Released,
            result = self.stage.committed(&self.shared.cluster), if !is_held => Woken::Committed(result),
            Some(result) = finished(first.map(|first| first.1.received())) => Woken::Confirmed(result),
            Some(()) = finished(inbox.map(|inbox| inbox.changed())) => Woken::Filled,
            () = self.events.changed(), if following => Woken::Filled,
            () = timer, if self.timer_at != 0 => Woken::Timer,
        }
    }

    /// Reads once.
    fn fill(&mut self) {
        match self.stream.try_read(&mut self.input, self.read_size) {
            Ok(0) if self.stream.has_said_goodbye() => self.session.handle_goodbye(),
            Ok(0) => self.session.handle_closed(),
            Ok(read) => {
                self.shared.meters.bytes_received.increment(read as u64);
                self.heard = true;
                self.read_size =
                    if read >= self.read_size { READ_LARGE } else { READ_SMALL.max(read.next_power_of_two()) };
                self.more = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.session.handle_closed(),
        }
    }

    fn takes_packets(&self) -> bool {
        self.held.is_none() && !self.stage.is_full() && self.session.accepts_packets()
    }

    /// Hands the session the packets that are there, as long as it takes them.
    fn handle_input(&mut self) -> Option<Box<Close>> {
        if !self.more {
            return None;
        }
        let now = now_ms();
        for _ in 0..PACKETS_PER_TURN {
            if !self.takes_packets() {
                return None;
            }
            if self.unread > 0 && !self.pass_over() {
                self.more = false;
                return None;
            }
            match self.decoder.decode(&mut self.input) {
                Ok(Some(packet)) => {
                    self.shared.meters.packets_received.increment(1);
                    self.session.handle_packet(packet, now);
                }
                Ok(None) => {
                    self.more = false;
                    return None;
                }
                Err(error) => match self.drop_oversized(error) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.more = false;
                        return None;
                    }
                    Err(error) => {
                        tracing::debug!(peername = %self.peername, %error, "a malformed packet");
                        self.session.handle_decode_error(&error, self.decoder.version());
                    }
                },
            }
            if let Some(close) = self.carry_all() {
                return Some(close);
            }
        }
        None
    }

    /// What the mailbox has. Messages for a session whose CONNACK is still to come wait there.
    fn collect(&mut self) {
        let online = self.session.is_online();
        let told = if online { self.mailbox.take(&mut self.deliveries) } else { self.mailbox.told() };
        let now = now_ms();
        while let Some(delivery) = self.deliveries.pop_front() {
            self.deliver(delivery, now);
        }
        if let Some(end) = told {
            self.session.disconnect(end.reason, end.server_reference.clone());
            self.told = Some(end);
        }
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(written) => {
                    self.shared.meters.bytes_sent.increment(written as u64);
                    self.output.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.output.clear();
                    self.session.handle_closed();
                }
            }
        }
        let congested = self.output.len() > self.shared.write_buffer;
        // Slow until all of it is gone, so that it does not flicker.
        if congested || (self.congested && self.output.is_empty()) {
            self.congested = congested;
            self.session.set_congested(congested, now_ms());
        }
    }

    fn set_timer(&mut self) {
        let Some(at) = self.session.poll_timeout() else { return };
        if self.timer_at == 0 || at < self.timer_at {
            let left = Duration::from_millis(at.saturating_sub(now_ms()));
            self.timer.as_mut().reset(Instant::now() + left);
            self.timer_at = at.max(1);
        }
    }

    /// A connection that idles holds no buffers.
    fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
            self.session.trim();
        }
    }
}

/// `None` where there is nothing to wait for.
async fn finished<T>(waited: Option<impl Future<Output = T>>) -> Option<T> {
    Some(waited?.await)
}
