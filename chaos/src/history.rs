//! What happened in a run: what was done to the cluster, what clients did and saw, and what the cluster tells of it. The
//! checkers read nothing else. All times count from the beginning of the run.

mod event;

use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use event::{Event, Kind, digest};

use crate::durable::check::{Received, Sent};
use crate::durable::plan::Plan;
use crate::run::schedule::Fault;

pub type At = Duration;

/// One fault.
#[derive(Debug, Clone)]
pub struct Span {
    pub fault: Fault,
    /// Those it was done to.
    pub nodes: Vec<usize>,
    pub from: At,
    /// When what had been done was undone.
    pub healed: At,
    /// When all nodes were ready again.
    pub over: At,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By the client's DISCONNECT.
    Left,
    /// By the client, without a word.
    Vanished,
    /// By the broker or its death, without a word.
    Closed,
    /// By the broker's DISCONNECT.
    Told(u8),
}

/// One attempt to connect, and what came of it.
#[derive(Debug, Clone)]
pub struct Connection {
    pub client_id: String,
    /// The client's own address: an event's `peername`.
    pub peer: String,
    pub node: usize,
    /// Whether it speaks 5.0, and can be told why it ends.
    pub five: bool,
    pub asked: At,
    /// When the CONNACK that said yes had come.
    pub granted: Option<At>,
    /// When the last ping that was answered had been sent: so long it was there for certain.
    pub alive: At,
    pub ended: At,
    pub end: End,
    /// When a later connection of the same client id had its CONNACK.
    pub superseded: Option<At>,
    /// A SUBSCRIBE that this connection sent after it was superseded, and whether that was granted.
    pub late: Option<(At, bool)>,
    /// Filters that it asked for, and whether they were granted.
    pub subscribed: Vec<(String, bool)>,
}

/// What is promised of a message that is published at one node for a subscriber at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It was published after the SUBACK.
    Live,
    /// It was retained, and acknowledged, before the subscriber came.
    Retained,
    /// It was published after the UNSUBACK and must not come.
    Nothing,
}

#[derive(Debug, Clone)]
pub struct Round {
    pub wanted: Wanted,
    pub topic: String,
    /// Of the subscriber.
    pub here: usize,
    /// Of the publisher.
    pub there: usize,
    pub published: At,
    /// When the round was over.
    pub ended: At,
    pub arrived: bool,
    /// A connection was lost, or an answer did not come: nothing was promised.
    pub broke: bool,
}

/// How the connection of a client with a will ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// The client took the will back by its DISCONNECT; whether that arrived, only the events tell.
    TakenBack,
    /// Without a DISCONNECT, or with one that asks for the will; also when the broker or its death ended it.
    Ungraceful,
    /// Without a DISCONNECT, and the session was taken up again well within the delay.
    Resumed,
    /// Nobody can say: its CONNACK did not come, or the session was taken up again about when the delay ran out.
    Unknown,
}

/// A session taken up again long before it could have expired.
#[derive(Debug, Clone)]
pub struct Resumption {
    pub client_id: String,
    pub from: At,
    pub to: At,
    pub present: bool,
}

#[derive(Debug, Clone)]
pub struct Will {
    /// The payload of the will, which no other has.
    pub token: String,
    pub client_id: String,
    pub peer: String,
    pub leaving: Leaving,
    pub ended: At,
}

/// What one subscriber of `$events/#` or one reader of the stream saw.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    pub name: String,
    /// What it had asked to begin after.
    pub after: u64,
    /// It may have some again after a break: QoS 1.
    pub repeats: bool,
    /// `seq` and digest of each event.
    pub seen: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub seq: u64,
    /// Client id and epoch.
    pub items: Vec<(String, u64)>,
}

/// What one listing of all who are online told, from its first page to its last.
pub type Listing = Vec<Page>;

#[derive(Debug, Clone)]
pub struct Drained {
    pub node: usize,
    pub from: At,
    pub exited: At,
}

/// One round of a client that does a little of everything at one node.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub node: usize,
    pub from: At,
    pub ended: At,
    pub succeeded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Connect,
    Subscribe,
    Publish,
    Retain,
    Queue,
}

#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub action: Action,
    pub ended: At,
    /// From asking to the answer; `None` if none came.
    pub took: Option<Duration>,
}

/// The streams between persistent sessions.
#[derive(Debug)]
pub struct Queues {
    /// What the times of acknowledgements count from.
    pub started: At,
    pub plan: Plan,
    pub sent: Sent,
    /// Of each subscriber.
    pub received: Vec<Received>,
    /// Messages that publishers waited for in vain, all nodes being there.
    pub open: usize,
}

/// What the cluster has promised to remember, and what it says of it in the end.
#[derive(Debug, Clone)]
pub struct Remembered {
    pub what: String,
    pub promised: String,
    pub told: String,
}

#[derive(Debug, Default)]
pub struct History {
    pub spans: Vec<Span>,
    pub operations: Vec<Operation>,
    pub connections: Vec<Connection>,
    pub rounds: Vec<Round>,
    pub queues: Option<Queues>,
    pub wills: Vec<Will>,
    pub resumptions: Vec<Resumption>,
    /// The payloads of the wills that came, in their order.
    pub will_arrivals: Vec<String>,
    pub watches: Vec<Watch>,
    pub listings: Vec<Listing>,
    pub drains: Vec<Drained>,
    pub probes: Vec<Probe>,
    /// The cluster's limit of connections.
    pub limit: u64,
    pub refused_by_limit: u64,
    pub remembered: Vec<Remembered>,
    /// What clients saw that no broker may do, in words.
    pub findings: Vec<String>,
    /// The log as the first node tells it.
    pub events: Vec<Event>,
    /// `seq` and digest of each event, as each node tells them.
    pub logs: Vec<Vec<(u64, u64)>>,
}

impl History {
    /// When so much time without a fault has passed.
    pub fn calm(&self, from: At, allowed: Duration) -> At {
        let mut deadline = from + allowed;
        let mut spans: Vec<&Span> = self.spans.iter().collect();
        spans.sort_by_key(|span| span.from);
        for span in spans {
            if span.over > from && span.from < deadline {
                deadline += span.over - span.from.max(from);
            }
        }
        deadline
    }

    /// Whether the time that the cluster agrees on may have jumped: with a wrong clock, at an election.
    pub fn time_jumped(&self, from: At, to: At) -> bool {
        let overlaps = |span: &Span| span.from <= to && span.over >= from;
        self.spans.iter().any(|span| span.fault == Fault::ClockJump && overlaps(span))
    }

    /// Whether a fault of one of these kinds was done to the node in between.
    pub fn hurt(&self, node: usize, from: At, to: At, kind: impl Fn(Fault) -> bool) -> bool {
        let overlaps = |span: &&Span| span.from <= to && span.over >= from && span.nodes.contains(&node);
        self.spans.iter().filter(overlaps).any(|span| kind(span.fault))
    }
}

/// Where everybody writes down what happens.
pub struct Recorder {
    started: Instant,
    history: Mutex<History>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { started: Instant::now(), history: Mutex::default() }
    }
}

impl Recorder {
    pub fn now(&self) -> At {
        self.started.elapsed()
    }

    pub fn at(&self, instant: Instant) -> At {
        instant.saturating_duration_since(self.started)
    }

    pub fn add(&self, write: impl FnOnce(&mut History)) {
        write(&mut self.history.lock());
    }

    pub fn look<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.history.lock())
    }

    /// An operation that was begun then and has ended now.
    pub fn operation(&self, action: Action, begun: At, answered: bool) {
        let ended = self.now();
        let took = answered.then(|| ended - begun);
        self.add(|history| history.operations.push(Operation { action, ended, took }));
    }

    pub fn finding(&self, what: String) {
        eprintln!("chaos: {what}");
        self.add(|history| history.findings.push(what));
    }

    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_under_a_fault_does_not_count() {
        let s = Duration::from_secs;
        let span =
            |from, over| Span { fault: Fault::Kill, nodes: vec![1], from: s(from), healed: s(over), over: s(over) };
        let history = History { spans: vec![span(10, 20), span(22, 25)], ..History::default() };
        assert_eq!(history.calm(s(1), s(5)), s(6));
        assert_eq!(history.calm(s(8), s(3)), s(21));
        assert_eq!(history.calm(s(8), s(5)), s(26));
        assert_eq!(history.calm(s(15), s(1)), s(21));
        assert!(history.hurt(1, s(0), s(11), |fault| fault == Fault::Kill));
        assert!(!history.hurt(0, s(0), s(11), |_| true) && !history.hurt(1, s(0), s(9), |_| true));
    }
}
