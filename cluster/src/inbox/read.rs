//! Reading a shard: what to deliver, what to hand on, what there is to clean up.

use std::ops::{Bound, Range};
use std::sync::Arc;

use rollcall_proto::schema::shard::{HandOn, Outcome};

use super::Shard;
use super::bodies::BodyRef;
use super::origins::{Mark, Source};
use super::queue::{Inbox, Queued};

/// A message of an inbox with what it takes to send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub position: u64,
    pub queued: Queued,
    /// `None` once it is received: only its PUBREL is to be sent.
    pub body: Option<BodyRef>,
    /// Milliseconds since 1970; 0 never.
    pub expires_at: u64,
}

/// A message for other shards.
#[derive(Debug, Clone, PartialEq)]
pub struct Handing {
    /// With its number, origin and targets.
    pub hand_on: Arc<HandOn>,
    pub body: BodyRef,
    /// Milliseconds since 1970; 0 never.
    pub expires_at: u64,
}

impl Shard {
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Milliseconds since 1970, as of the last entry.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The epoch, number and outcomes of a node's last batch.
    pub fn last_outcomes(&self, node: u64) -> Option<(u64, u64, &[Outcome])> {
        let node = self.nodes.get(&node)?;
        Some((node.epoch, node.last_number, &node.last_outcomes))
    }

    pub fn inbox(&self, client_id: &str) -> Option<&Inbox> {
        self.inboxes.get(client_id)
    }

    pub fn inbox_count(&self) -> usize {
        self.inboxes.len()
    }

    /// Messages that are kept, each counted once.
    pub fn body_count(&self) -> usize {
        self.bodies.len()
    }

    /// What waits behind that position, at most `limit`; nothing if it is another incarnation's inbox.
    pub fn read(&self, client_id: &str, incarnation: u64, after: u64, limit: usize) -> Vec<Waiting> {
        let Some(inbox) = self.inboxes.get(client_id).filter(|inbox| inbox.incarnation == incarnation) else {
            return Vec::new();
        };
        let rest = inbox.queue.range_from(Bound::Excluded(&after)).take(limit);
        rest.map(|(position, queued)| {
            let body = self.bodies.get(queued.body);
            Waiting {
                position: *position,
                queued: queued.clone(),
                body: body.map(|body| body.to_ref(queued.body)),
                expires_at: body.map_or(0, |body| body.expires_at),
            }
        })
        .collect()
    }

    /// Hand-ons behind that number in their order, at most `limit`.
    pub fn hand_ons(&self, after: u64, limit: usize) -> Vec<Handing> {
        let rest = self.hand_ons.range_from(Bound::Excluded(&after)).take(limit);
        rest.filter_map(|(_, hand_on)| {
            let body = self.bodies.get(hand_on.body)?;
            Some(Handing { hand_on: hand_on.clone(), body: body.to_ref(hand_on.body), expires_at: body.expires_at })
        })
        .collect()
    }

    /// The inboxes in these pages of the shard, to compare with the roster's sessions.
    pub fn inboxes(&self, pages: Range<usize>) -> impl Iterator<Item = (&str, &Inbox)> {
        pages.flat_map(|number| self.inboxes.page(number))
    }

    /// Client ids of inboxes in these pages in which something has expired at `now`; for a Sweep.
    pub fn expired(&self, pages: Range<usize>, now: u64, limit: usize) -> Vec<String> {
        let expired = self.inboxes(pages).filter(|(_, inbox)| inbox.has_expired(now));
        expired.take(limit).map(|(client_id, _)| client_id.to_owned()).collect()
    }

    /// Who has handed on messages to this shard, behind `after` in their order; for a Forget.
    pub fn origins(&self, after: Option<&Source>) -> impl Iterator<Item = (&Source, &Mark)> {
        self.origins.after(after)
    }
}
