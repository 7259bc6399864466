//! Small pieces of histories for the checkers' tests.

use std::time::Duration;

use crate::history::{Connection, End, Event, Kind, Span};
use crate::run::schedule::Fault;

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The address of a client is its id, unless a test says otherwise.
pub fn event(seq: u64, kind: Kind, client: &str, epoch: u64) -> Event {
    let reason = if kind == Kind::Disconnected { "normal" } else { "" };
    let (client, peer, reason) = (client.to_owned(), client.to_owned(), reason.to_owned());
    Event { seq, kind, client, epoch, reason, peer, topic: String::new() }
}

pub fn connection(client: &str, granted: u64, ended: u64) -> Connection {
    Connection {
        client_id: client.into(),
        peer: client.into(),
        node: 0,
        five: true,
        asked: s(granted),
        granted: Some(s(granted)),
        alive: s(granted),
        ended: s(ended),
        end: End::Left,
        superseded: None,
        late: None,
        subscribed: Vec::new(),
    }
}

pub fn span(fault: Fault, nodes: &[usize], from: u64, over: u64) -> Span {
    Span { fault, nodes: nodes.to_vec(), from: s(from), healed: s(over), over: s(over) }
}
