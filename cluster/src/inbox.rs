//! A shard: the replicated state machine of the inboxes of persistent sessions, and of retained messages.
//!
//! `apply` is a pure function of the log: same entries, same state, on every replica. It reads no clock (time comes with
//! the entry), no random number and no hash order. Where a message's bytes are, in memory or spilled, is each node's own
//! affair and no part of that state.
//!
//! Cloning a shard, for a snapshot, clones pointers only.

mod bodies;
mod origins;
mod qos2;
mod queue;
mod read;
mod retained;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rollcall_proto::schema::shard::{Batch, Command, Done, HandOn, Node, Outcome, Stale, command, outcome};

pub use bodies::BodyRef;
pub use origins::{Mark, Source};
pub use queue::{Inbox, PACKET_IDS, Queued, packet_id};
pub use read::{Handing, Waiting};
pub use retained::{RetainedItem, RetainedPage};

use bodies::Bodies;
use origins::Origins;
use retained::Topics;

use crate::pages::PageMap;
use crate::sorted::SortedMap;

#[derive(Debug, Clone)]
pub struct Shard {
    /// Of its Raft group, 1 and up.
    number: u32,
    /// Of the last entry; milliseconds since 1970.
    time: u64,
    /// Each node's current epoch, its last batch and what that was answered.
    nodes: BTreeMap<u64, Node>,
    inboxes: PageMap<Inbox>,
    bodies: Bodies,
    topics: Topics,
    /// By number; in the order in which they were received.
    hand_ons: SortedMap<u64, Arc<HandOn>>,
    /// Of the next one.
    next_hand_on: u64,
    origins: Origins,
}

/// What applying one batch brought about, for the shell to carry out.
#[derive(Debug, Default, PartialEq)]
pub struct Effects {
    /// One per command.
    pub outcomes: Vec<Outcome>,
    /// Inboxes that have something new to send; one may be named more than once.
    pub filled: Vec<Arc<str>>,
    /// Bodies that are gone and had been spilled: no replica but this one need have freed the same.
    pub freed: Vec<u64>,
    /// There are new ones.
    pub hand_ons: bool,
    /// Messages that overflow policies dropped.
    pub dropped: u64,
    /// Client id and incarnation of sessions that are to end.
    pub overflowed: Vec<(Arc<str>, u64)>,
}

impl Shard {
    /// `number` is that of its group, 1 and up.
    pub fn new(number: u32) -> Self {
        Shard {
            number,
            time: 0,
            nodes: BTreeMap::new(),
            inboxes: PageMap::default(),
            bodies: Bodies::default(),
            topics: Topics::default(),
            hand_ons: SortedMap::default(),
            next_hand_on: 1,
            origins: Origins::default(),
        }
    }

    /// `time` is the leader's stamp; the shard's own time never goes back.
    pub fn apply(&mut self, time: u64, batch: &Batch) -> Effects {
        self.time = self.time.max(time);
        let mut effects = Effects::default();
        let fresh = || Node { id: batch.node, epoch: batch.node_epoch, ..Node::default() };
        let node = self.nodes.entry(batch.node).or_insert_with(fresh);
        if batch.node_epoch < node.epoch {
            effects.outcomes = batch.commands.iter().map(|_| outcome_of(stale())).collect();
            return effects;
        }
        if batch.node_epoch > node.epoch {
            *node = fresh();
        }
        if batch.number <= node.last_number {
            if batch.number == node.last_number {
                effects.outcomes.clone_from(&node.last_outcomes);
            }
            return effects;
        }
        effects.outcomes.reserve_exact(batch.commands.len());
        for command in &batch.commands {
            let kind = self.apply_command(command, &mut effects);
            effects.outcomes.push(outcome_of(kind));
        }
        if let Some(node) = self.nodes.get_mut(&batch.node) {
            node.last_number = batch.number;
            node.last_outcomes.clone_from(&effects.outcomes);
        }
        effects
    }

    fn apply_command(&mut self, command: &Command, effects: &mut Effects) -> outcome::Kind {
        use command::Kind;
        match &command.kind {
            Some(Kind::Open(open)) => self.open(open, effects),
            Some(Kind::Enqueue(enqueue)) => self.enqueue(enqueue, effects),
            Some(Kind::Acknowledge(acknowledge)) => self.acknowledge(acknowledge, effects),
            Some(Kind::Receive(receive)) => self.receive(receive, effects),
            Some(Kind::Complete(complete)) => self.complete(complete),
            Some(Kind::HandedOn(handed_on)) => self.handed_on(handed_on, effects),
            Some(Kind::Retain(retain)) => self.retain(retain, effects),
            Some(Kind::Close(close)) => self.close(close, effects),
            Some(Kind::Sweep(sweep)) => self.sweep(sweep, effects),
            Some(Kind::Forget(forget)) => done(self.origins.forget(forget)),
            // A command that this version does not know changes nothing.
            None => stale(),
        }
    }

    /// When a message that may still live for so many milliseconds expires; 0 never.
    fn expiry(&self, expires_in: Option<u64>) -> u64 {
        expires_in.map_or(0, |millis| self.time.saturating_add(millis).max(1))
    }

    /// Bytes of all messages, in memory or spilled.
    pub fn bytes(&self) -> u64 {
        self.bodies.bytes()
    }

    /// Bytes of messages in memory.
    pub fn memory(&self) -> u64 {
        self.bodies.memory()
    }

    /// Messages to spill, oldest first, until they come to so many bytes. What [`Self::spilled`] has not been told is
    /// named again.
    pub fn to_spill(&self, bytes: u64) -> Vec<(u64, Bytes)> {
        self.bodies.to_spill(bytes)
    }

    /// These are written elsewhere and can leave memory. Returns those that no one holds any more, to be removed there
    /// again: they are not named in [`Effects::freed`].
    pub fn spilled(&mut self, ids: &[u64]) -> Vec<u64> {
        self.bodies.spilled(ids)
    }
}

impl Effects {
    fn fill(&mut self, client_id: &Arc<str>) {
        // What comes in a burst for one client is said once.
        if self.filled.last() != Some(client_id) {
            self.filled.push(client_id.clone());
        }
    }
}

fn outcome_of(kind: outcome::Kind) -> Outcome {
    Outcome { kind: Some(kind) }
}

fn done(count: u64) -> outcome::Kind {
    outcome::Kind::Done(Done { count })
}

fn stale() -> outcome::Kind {
    outcome::Kind::Stale(Stale {})
}
