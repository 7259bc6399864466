//! Links: publishes for the sessions of other nodes. Ordered, windowed, acknowledged on receipt, sent again after a
//! reconnect; the receiver passes over what it had already.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rollcall_proto::message::Message;
use rollcall_proto::schema::node::{Addressee, ForwardFrame, ForwardOpen, Forwarded};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::clock::boottime;
use crate::config::Config;
use crate::message;
use crate::raft::peers::Peers;
use crate::replica::Replica;
use crate::roster::NodeId;

/// Messages in one frame at most.
const FRAME: usize = 256;
/// Frames that may wait in the stream.
const FRAMES_AHEAD: usize = 16;
/// Before a node that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Between two looks at whether the other node's epoch has ended.
const LOOK: Duration = Duration::from_millis(500);
/// As an acknowledgement: nobody is left to receive.
const ENDED: u64 = u64::MAX;

/// A message, and whom it is for on the other node.
#[derive(Debug, Clone, PartialEq)]
pub struct Parcel {
    pub message: Arc<Message>,
    /// Only for the addressees; otherwise also for all live sessions that match.
    pub addressed: bool,
    /// Members of shared subscriptions that the sender has chosen.
    pub addressees: Vec<Addressee>,
}

impl Parcel {
    /// For all who match.
    pub fn for_matching(message: Arc<Message>) -> Self {
        Parcel { message, addressed: false, addressees: Vec::new() }
    }

    fn weight(&self) -> usize {
        let addressee = |addressee: &Addressee| size_of::<Addressee>() + addressee.share.len();
        self.message.weight() + self.addressees.iter().map(addressee).sum::<usize>()
    }
}

/// The way to one epoch of another node.
pub struct Link {
    epoch: u64,
    window: Mutex<Window>,
    /// Something is to be sent.
    filled: Notify,
    /// Changes with each acknowledgement: the number up to which all were received, or [`ENDED`].
    acked: watch::Sender<u64>,
    /// Boot time in nanoseconds of the last sign of life.
    heard: watch::Sender<Duration>,
    limits: (usize, usize),
    silence: Duration,
}

#[derive(Default)]
struct Window {
    /// Not yet acknowledged, in order; the first has the number `first`.
    waiting: VecDeque<Parcel>,
    first: u64,
    bytes: usize,
}

impl Link {
    fn new(epoch: u64, config: &Config) -> Self {
        Link {
            epoch,
            window: Mutex::new(Window { first: 1, ..Window::default() }),
            filled: Notify::new(),
            acked: watch::Sender::new(0),
            heard: watch::Sender::new(boottime()),
            limits: (config.link_window, config.link_window_bytes),
            silence: config.route_lease,
        }
    }

    /// Whether a publisher must wait for [`Self::room`]. Those that ask at the same moment may go beyond the bound by
    /// one message each.
    pub fn is_full(&self) -> bool {
        let window = self.window.lock();
        !self.has_ended() && (window.waiting.len() >= self.limits.0 || window.bytes >= self.limits.1)
    }

    /// Puts a message into the window; its number.
    pub fn send(&self, parcel: Parcel) -> u64 {
        let mut window = self.window.lock();
        window.bytes += parcel.weight();
        window.waiting.push_back(parcel);
        let number = window.first + window.waiting.len() as u64 - 1;
        drop(window);
        self.filled.notify_one();
        number
    }

    /// Waits until something was acknowledged, or the other node's epoch has ended; where the message `may_be_dropped`,
    /// no longer than the link shows signs of life.
    pub async fn room(&self, may_be_dropped: bool) {
        let mut acked = self.acked.subscribe();
        let mut heard = self.heard.subscribe();
        while self.is_full() && !(may_be_dropped && self.is_silent()) {
            tokio::select! {
                _ = acked.changed() => return,
                _ = heard.changed() => {}
                () = sleep(self.silence) => {}
            }
        }
    }

    /// Waits until the message of that number was received. A link that has been silent for longer than the route lease
    /// is not waited for: the message stays in the window.
    pub async fn received(&self, number: u64) {
        let mut acked = self.acked.subscribe();
        let mut heard = self.heard.subscribe();
        while *acked.borrow_and_update() < number {
            let silent_at = *heard.borrow_and_update() + self.silence;
            let left = silent_at.saturating_sub(boottime());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                _ = acked.changed() => {}
                _ = heard.changed() => {}
                () = sleep(left) => {}
            }
        }
    }

    fn has_ended(&self) -> bool {
        *self.acked.borrow() == ENDED
    }

    pub fn is_silent(&self) -> bool {
        boottime() > *self.heard.borrow() + self.silence
    }

    fn acknowledge(&self, received: u64) {
        let mut window = self.window.lock();
        while window.first <= received {
            let Some(parcel) = window.waiting.pop_front() else { break };
            window.bytes -= parcel.weight();
            window.first += 1;
        }
        drop(window);
        self.heard.send_replace(boottime());
        self.acked.send_if_modified(|last| {
            let higher = received > *last;
            *last = received.max(*last);
            higher
        });
    }

    /// Up to a frame of messages from that number on.
    fn from(&self, next: u64, now_ms: u64) -> Vec<Forwarded> {
        let window = self.window.lock();
        let skip = next.saturating_sub(window.first) as usize;
        let numbers = window.first.max(next)..;
        numbers
            .zip(window.waiting.iter().skip(skip))
            .take(FRAME)
            .map(|(n, parcel)| to_wire(n, parcel, now_ms))
            .collect()
    }

    fn first(&self) -> u64 {
        self.window.lock().first
    }
}

/// All links of this node.
pub struct Links {
    config: Arc<Config>,
    replica: Arc<Replica>,
    peers: Peers,
    /// Tells one link's numbers from those of an earlier one.
    boots: AtomicU64,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
}

impl Links {
    pub(crate) fn new(config: Arc<Config>, replica: Arc<Replica>, peers: Peers) -> Arc<Self> {
        let boots = AtomicU64::new(rand::random::<u64>() >> 1 | 1);
        Arc::new(Links { config, replica, peers, boots, links: RwLock::default() })
    }

    /// The link to that node as it is now, made at first use; `None` while the node is not up: nobody is there. A message
    /// for the node's new epoch must not wait in the link to its old one: it would end with it.
    pub fn to(&self, node: NodeId) -> Option<Arc<Link>> {
        let epoch = {
            let roster = self.replica.roster();
            roster.node(node).map(|record| record.epoch).filter(|epoch| roster.is_current(node, *epoch))?
        };
        let usable = |link: &&Arc<Link>| link.epoch == epoch && !link.has_ended();
        if let Some(link) = self.links.read().get(&node).filter(usable) {
            return Some(link.clone());
        }
        let mut links = self.links.write();
        if let Some(link) = links.get(&node).filter(usable) {
            return Some(link.clone());
        }
        let link = Arc::new(Link::new(epoch, &self.config));
        links.insert(node, link.clone());
        let sender = Sender {
            link: link.clone(),
            node,
            config: self.config.clone(),
            replica: self.replica.clone(),
            peers: self.peers.clone(),
            boot: self.boots.fetch_add(1, Ordering::Relaxed),
        };
        tokio::spawn(sender.run());
        Some(link)
    }
}

struct Sender {
    link: Arc<Link>,
    node: NodeId,
    config: Arc<Config>,
    replica: Arc<Replica>,
    peers: Peers,
    boot: u64,
}

impl Sender {
    /// Until the other node's epoch has ended: what waits for it then would find no session.
    async fn run(self) {
        while self.replica.roster().is_current(self.node, self.link.epoch) {
            let waiting = !self.link.window.lock().waiting.is_empty();
            if waiting || timeout(LOOK, self.link.filled.notified()).await.is_ok() {
                self.transmit().await;
                sleep(RETRY).await;
            }
        }
        self.link.acked.send_replace(ENDED);
    }

    async fn ended(&self) {
        while self.replica.roster().is_current(self.node, self.link.epoch) {
            sleep(LOOK).await;
        }
    }

    /// Over one stream, until it breaks.
    async fn transmit(&self) {
        let Some(address) = self.replica.roster().node(self.node).map(|node| node.rpc_address.clone()) else { return };
        let Ok(mut client) = self.peers.client(&address) else { return };
        let (frames, receiver) = mpsc::channel(FRAMES_AHEAD);
        let mut next = self.link.first();
        let open = ForwardOpen { node: self.replica.me(), boot: self.boot, first: next };
        if frames.send(ForwardFrame { open: Some(open), messages: Vec::new() }).await.is_err() {
            return;
        }
        let opening = client.forward(ReceiverStream::new(receiver));
        let mut acks = match timeout(self.config.rpc_timeout, opening).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return tracing::debug!(%status, %address, "the link cannot be opened"),
            Err(_) => return,
        };
        let listening = async {
            while let Some(Ok(ack)) = acks.next().await {
                self.link.acknowledge(ack.received);
            }
        };
        let sending = async {
            loop {
                let messages = self.link.from(next, boottime().as_millis() as u64);
                if messages.is_empty() {
                    self.link.filled.notified().await;
                    continue;
                }
                next += messages.len() as u64;
                if frames.send(ForwardFrame { open: None, messages }).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = listening => {}
            () = sending => {}
            () = self.ended() => {}
        }
    }
}

/// What this node has received from the others.
#[derive(Default)]
pub(crate) struct Received {
    senders: Mutex<BTreeMap<NodeId, Arc<Mutex<Inbound>>>>,
}

#[derive(Default)]
pub(crate) struct Inbound {
    boot: u64,
    received: u64,
    /// Of the stream that speaks for the sender now; an older one is not listened to any more.
    stream: u64,
}

impl Received {
    /// A stream was opened; it gets the sender's record and its own number.
    pub(crate) fn open(&self, open: ForwardOpen) -> (Arc<Mutex<Inbound>>, u64) {
        let inbound = self.senders.lock().entry(open.node).or_default().clone();
        let mut record = inbound.lock();
        if record.boot != open.boot {
            *record = Inbound { boot: open.boot, received: open.first.saturating_sub(1), stream: record.stream };
        }
        record.stream += 1;
        let stream = record.stream;
        drop(record);
        (inbound, stream)
    }
}

impl Inbound {
    /// Hands over what is new; the number to acknowledge, or `None` when another stream has taken over.
    pub(crate) fn take(&mut self, stream: u64, messages: Vec<Forwarded>, replica: &Replica) -> Option<u64> {
        if self.stream != stream {
            return None;
        }
        let now_ms = boottime().as_millis() as u64;
        for forwarded in messages {
            if forwarded.number <= self.received {
                continue;
            }
            self.received = forwarded.number;
            match from_wire(forwarded, now_ms) {
                Some(parcel) => replica.observer().forwarded(parcel),
                None => tracing::error!("another node sent a message that is not UTF-8 where it must be; dropped"),
            }
        }
        Some(self.received)
    }
}

fn to_wire(number: u64, parcel: &Parcel, now_ms: u64) -> Forwarded {
    let Parcel { message, addressed, addressees } = parcel;
    let expires_in = message.expires_at.map(|at| at.saturating_sub(now_ms));
    let message = Some(message::to_wire(message));
    Forwarded { number, message, expires_in, addressed: *addressed, addressees: addressees.clone() }
}

fn from_wire(forwarded: Forwarded, now_ms: u64) -> Option<Parcel> {
    let Forwarded { message, expires_in, addressed, addressees, .. } = forwarded;
    let message = message::from_wire(message?, expires_in.map(|left| now_ms + left))?;
    Some(Parcel { message: Arc::new(message), addressed, addressees })
}

#[cfg(test)]
mod tests;
