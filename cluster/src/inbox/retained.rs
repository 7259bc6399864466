//! Retained messages: one per topic.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use rollcall_proto::schema::message::Message;
use rollcall_proto::schema::shard::{Retain, outcome};
use rollcall_proto::topic::validate_name;

use super::bodies::{Bodies, BodyRef};
use super::origins::Use;
use super::walk::{Step, step};
use super::{Effects, Shard, done};
use crate::sorted::SortedMap;

/// Topics looked at for one page, so that a filter that matches little cannot hold the shard for long.
const LOOKED_AT: usize = 10_000;

/// A retained message that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedItem {
    pub topic: Arc<str>,
    pub body: BodyRef,
    /// Milliseconds since 1970; 0 never.
    pub expires_at: u64,
}

/// Some of the retained messages that match, in topic order.
#[derive(Debug, Default)]
pub struct RetainedPage {
    pub items: Vec<RetainedItem>,
    /// Give it back as `after` to go on, also where there are no items; `None` at the end.
    pub next: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    /// To the message's body.
    pub bodies: SortedMap<Arc<str>, u64>,
    /// (expiry, topic) of those that will expire; follows from `bodies`.
    pub expiring: SortedMap<(u64, Arc<str>), ()>,
}

impl Topics {
    pub fn set(&mut self, topic: Arc<str>, body: u64, expires_at: u64) {
        if expires_at != 0 {
            self.expiring.insert((expires_at, topic.clone()), ());
        }
        self.bodies.insert(topic, body);
    }

    fn remove(&mut self, topic: &Arc<str>, bodies: &mut Bodies, freed: &mut Vec<u64>) {
        let Some(body) = self.bodies.remove(topic) else { return };
        let expires_at = bodies.get(body).map_or(0, |body| body.expires_at);
        if expires_at != 0 {
            self.expiring.remove(&(expires_at, topic.clone()));
        }
        bodies.release(body, freed);
    }
}

/// The topic, and whether the message removes what is retained; `None` if it is no message.
fn read(message: &Bytes) -> Option<(Arc<str>, bool)> {
    let message = Message::decode(message.clone()).ok()?;
    let topic = std::str::from_utf8(&message.topic).ok()?;
    validate_name(topic).ok()?;
    Some((topic.into(), message.payload.is_empty()))
}

impl Shard {
    /// What is no message is passed over: whoever logged it cannot be helped.
    pub(super) fn retain(&mut self, retain: &Retain, effects: &mut Effects) -> outcome::Kind {
        let Some((topic, removes)) = read(&retain.message) else { return done(0) };
        if !self.origins.take(retain.origin.as_ref(), Use::Retain, self.time) {
            return done(0);
        }
        self.topics.remove(&topic, &mut self.bodies, &mut effects.freed);
        if !removes {
            let expires_at = self.expiry(retain.expires_in);
            let body = self.bodies.store(&retain.message, expires_at);
            self.topics.set(topic, body, expires_at);
        }
        done(1)
    }

    /// Whether it was.
    pub(super) fn drop_if_expired(&mut self, topic: &str, effects: &mut Effects) -> bool {
        let body = self.topics.bodies.get(topic).and_then(|body| self.bodies.get(*body));
        let expired = body.is_some_and(|body| body.is_expired(self.time));
        if expired {
            self.topics.remove(&topic.into(), &mut self.bodies, &mut effects.freed);
        }
        expired
    }

    /// What is retained under topics behind `after` that match, at most `limit` and nothing that is expired at `now`.
    /// `filter` is valid, its share group taken off.
    pub fn retained(&self, filter: &str, after: Option<&str>, limit: usize, now: u64) -> RetainedPage {
        let mut page = RetainedPage::default();
        let mut looked_at = 0;
        let mut last = None;
        let mut start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_owned()));
        'seek: loop {
            for (topic, id) in self.topics.bodies.range_from::<str>(start.as_ref().map(String::as_str)) {
                if page.items.len() >= limit || looked_at >= LOOKED_AT {
                    page.next = last;
                    return page;
                }
                looked_at += 1;
                last = Some(topic.clone());
                match step(filter, topic) {
                    Step::Match => page.items.extend(self.retained_item(topic, *id, now)),
                    Step::Pass => {}
                    Step::Seek(to) => {
                        start = Bound::Included(to);
                        continue 'seek;
                    }
                    Step::End => return page,
                }
            }
            return page;
        }
    }

    fn retained_item(&self, topic: &Arc<str>, id: u64, now: u64) -> Option<RetainedItem> {
        let body = self.bodies.get(id).filter(|body| !body.is_expired(now))?;
        Some(RetainedItem { topic: topic.clone(), body: body.to_ref(id), expires_at: body.expires_at })
    }

    /// Topics whose retained message has expired at `now`, the oldest first; for a Sweep.
    pub fn expired_topics(&self, now: u64, limit: usize) -> Vec<String> {
        let due = self.topics.expiring.iter().take_while(|((expires_at, _), ())| *expires_at <= now);
        due.take(limit).map(|((_, topic), ())| topic.to_string()).collect()
    }

    /// Topics with a retained message.
    pub fn retained_count(&self) -> usize {
        self.topics.bodies.len()
    }
}
