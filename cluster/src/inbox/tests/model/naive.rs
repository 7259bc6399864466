//! A shard of plain lists: every message copied into every inbox, every question answered by looking at everything.

use std::collections::{BTreeMap, BTreeSet};

use rollcall_proto::schema::shard::{Close, Complete, Forget, HandedOn, Sweep};
use rollcall_proto::topic::matches;

use super::super::*;
use crate::inbox::{Handing, Mark, Source};

#[derive(Debug, Clone)]
struct Item {
    position: u64,
    message: Bytes,
    expires_at: u64,
    target: Target,
    received: bool,
}

#[derive(Debug, Default)]
pub(super) struct NaiveInbox {
    open: Open,
    next_position: u64,
    sent: u64,
    items: Vec<Item>,
    held: BTreeSet<u32>,
    handed: u64,
    events: Option<u64>,
    /// Sent events, whether it is open, and whether it was when it was opened.
    events_sent: u64,
    in_use: bool,
    unclean: bool,
    dropped: u64,
    overflowed: bool,
}

/// Kind, client id, incarnation, and whether it is of Retain.
type Key = (i32, String, u64, bool);
/// Number, payload, origin, how many targets.
type Handed = (u64, String, Origin, usize);

#[derive(Debug)]
pub(super) struct Naive {
    pub time: u64,
    pub inboxes: BTreeMap<String, NaiveInbox>,
    retained: BTreeMap<String, (Bytes, u64)>,
    pub hand_ons: Vec<Handed>,
    next_hand_on: u64,
    marks: BTreeMap<Key, u64>,
    told: Told,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    outcomes: Vec<outcome::Kind>,
    filled: BTreeSet<String>,
    hand_ons: bool,
    dropped: u64,
    overflowed: Vec<(String, u64)>,
}

impl Told {
    pub fn is(&self, effects: &Effects) {
        let outcomes: Vec<_> = effects.outcomes.iter().map(|outcome| outcome.kind.unwrap()).collect();
        assert_eq!(outcomes, self.outcomes);
        assert_eq!(effects.filled.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>(), self.filled);
        let overflowed: Vec<_> = effects.overflowed.iter().map(|(id, at)| (id.to_string(), *at)).collect();
        assert_eq!(
            (effects.hand_ons, effects.dropped, overflowed),
            (self.hand_ons, self.dropped, self.overflowed.clone())
        );
    }
}

fn is_over(expires_at: u64, now: u64) -> bool {
    expires_at != 0 && expires_at <= now
}

impl NaiveInbox {
    fn is_full(&self, len: usize) -> bool {
        let limits = self.open.limits.unwrap();
        let bytes: usize = self.items.iter().filter(|item| !item.received).map(|item| item.message.len()).sum();
        (limits.max_messages > 0 && self.items.len() as u64 >= limits.max_messages)
            || (limits.max_bytes > 0 && (bytes + len) as u64 > limits.max_bytes)
    }

    fn drop_expired(&mut self, now: u64) -> u64 {
        let before = self.items.len();
        self.items.retain(|item| item.received || item.position <= self.sent || !is_over(item.expires_at, now));
        (before - self.items.len()) as u64
    }

    /// Whether it took it, and how many were dropped.
    fn push(&mut self, target: &Target, message: &Bytes, expires_at: u64, now: u64) -> (bool, u64) {
        let limits = self.open.limits.unwrap();
        if self.overflowed {
            return (false, 1);
        }
        if self.is_full(message.len()) {
            self.drop_expired(now);
        }
        let mut dropped = 0;
        while self.is_full(message.len()) {
            if limits.overflow == Overflow::EndSession as i32 {
                self.overflowed = true;
                dropped = self.items.len() as u64;
                self.items.clear();
                return (false, dropped + 1);
            }
            let too_large = limits.max_bytes > 0 && message.len() as u64 > limits.max_bytes;
            if limits.overflow != Overflow::DropOldest as i32 || too_large {
                return (false, 1);
            }
            let unsent = self.items.iter().position(|item| !item.received && item.position > self.sent);
            let Some(victim) = unsent.or_else(|| self.items.iter().position(|item| !item.received)) else {
                return (false, dropped + 1);
            };
            self.items.remove(victim);
            dropped += 1;
        }
        let position = self.next_position;
        self.next_position += 1;
        let (message, target) = (message.clone(), target.clone());
        self.items.push(Item { position, message, expires_at, target, received: false });
        (true, dropped)
    }

    pub fn seen(&self, now: u64) -> String {
        let item = |item: &Item| {
            let (payload, expires_at) =
                if item.received { ("-".into(), 0) } else { (payload(&item.message), item.expires_at) };
            let Target { qos, retain, subscription_ids, .. } = &item.target;
            format!("{}:{payload} {expires_at} {qos} {retain} {subscription_ids:?}", item.position)
        };
        let items: Vec<_> = self.items.iter().map(item).collect();
        let over = |item: &Item| !item.received && item.position > self.sent && is_over(item.expires_at, now);
        let over = self.items.iter().any(over);
        format!(
            "{:?} {:?} {} {} {} {:?} {} {} {over}",
            self.open, items, self.next_position, self.sent, self.handed, self.held, self.dropped, self.overflowed
        ) + &format!("{:?} {} {}", self.events, self.events_sent, self.unclean)
    }
}

/// The same of the shard's.
pub(super) fn seen(shard: &Shard, client_id: &str) -> Option<String> {
    let inbox = shard.inbox(client_id)?;
    let open = Open {
        client_id: client_id.into(),
        incarnation: inbox.incarnation(),
        epoch: inbox.epoch(),
        roster_index: inbox.roster_index(),
        limits: Some(inbox.limits()),
    };
    let item = |waiting: &Waiting| {
        let queued = &waiting.queued;
        let (qos, ids) = (queued.qos as u32, queued.subscription_ids.as_slice());
        let payload = text(waiting.body.as_ref());
        format!("{}:{payload} {} {qos} {} {ids:?}", waiting.position, waiting.expires_at, queued.retain)
    };
    let items: Vec<_> = shard.read(client_id, inbox.incarnation(), 0, 1000).iter().map(item).collect();
    let held: BTreeSet<u32> = inbox.held().iter().copied().map(u32::from).collect();
    let over = inbox.has_expired(shard.time());
    let (next, sent, handed, dropped) = (inbox.next_position(), inbox.sent(), inbox.handed(), inbox.dropped());
    Some(
        format!("{open:?} {items:?} {next} {sent} {handed} {held:?} {dropped} {} {over}", inbox.is_overflowed())
            + &format!("{:?} {} {}", inbox.events(), inbox.events_sent(), inbox.is_unclean()),
    )
}

pub(super) fn handed(handing: &Handing) -> Handed {
    let hand_on = &handing.hand_on;
    (hand_on.number, text(Some(&handing.body)), hand_on.origin.clone().unwrap(), hand_on.targets.len())
}

pub(super) fn mark(source: &Source, mark: &Mark) -> (i32, String, u64, u64, u64) {
    (source.kind.into(), source.client_id.to_string(), source.incarnation, mark.enqueued, mark.retained)
}

impl Naive {
    pub fn new(time: u64) -> Self {
        Naive {
            time,
            inboxes: BTreeMap::new(),
            retained: BTreeMap::new(),
            hand_ons: Vec::new(),
            next_hand_on: 1,
            marks: BTreeMap::new(),
            told: Told::default(),
        }
    }

    pub fn incarnation(&self, id: &str) -> u64 {
        self.inboxes.get(id).map_or(0, |inbox| inbox.open.incarnation)
    }

    pub fn epoch(&self, id: &str) -> u64 {
        self.inboxes.get(id).map_or(0, |inbox| inbox.open.epoch)
    }

    pub fn retained(&self, filter: &str) -> Vec<(String, String)> {
        let live = self.retained.iter().filter(|(_, (_, expires_at))| !is_over(*expires_at, self.time));
        let matching = live.filter(|(topic, _)| matches(filter, topic));
        matching.map(|(topic, (message, _))| (topic.clone(), payload(message))).collect()
    }

    pub fn marks(&self) -> BTreeSet<(i32, String, u64, u64, u64)> {
        let of = |(kind, id, incarnation, _): &Key, retain| {
            self.marks.get(&(*kind, id.clone(), *incarnation, retain)).copied().unwrap_or(0)
        };
        self.marks.keys().map(|key| (key.0, key.1.clone(), key.2, of(key, false), of(key, true))).collect()
    }

    pub fn apply(&mut self, now: u64, kinds: &[command::Kind]) -> Told {
        self.time = self.time.max(now);
        for kind in kinds {
            let outcome = self.command(kind);
            self.told.outcomes.push(outcome);
        }
        std::mem::take(&mut self.told)
    }

    fn command(&mut self, kind: &command::Kind) -> outcome::Kind {
        use command::Kind;
        match kind {
            Kind::Open(open) => self.open(open),
            Kind::Enqueue(enqueue) => self.enqueue(enqueue),
            Kind::Acknowledge(acknowledge) => self.acknowledge(acknowledge),
            Kind::Receive(receive) => self.receive(receive),
            Kind::Complete(Complete { client_id, incarnation, epoch, packet_id }) => {
                let Some(inbox) = self.fenced(client_id, *incarnation, *epoch) else { return STALE };
                inbox.held.remove(packet_id);
                done(0)
            }
            Kind::HandedOn(HandedOn { up_to }) => {
                let before = self.hand_ons.len();
                self.hand_ons.retain(|(number, ..)| number > up_to);
                done((before - self.hand_ons.len()) as u64)
            }
            Kind::Retain(retain) => self.retain(retain),
            Kind::Close(Close { client_id, incarnation, roster_index }) => {
                let closes = self.inboxes.get(client_id).is_some_and(|inbox| {
                    inbox.open.incarnation == *incarnation && inbox.open.roster_index <= *roster_index
                });
                done(u64::from(closes && self.inboxes.remove(client_id).is_some()))
            }
            Kind::Sweep(Sweep { .. }) => {
                let retained = self.retained.len();
                self.retained.retain(|_, (_, expires_at)| !is_over(*expires_at, self.time));
                let queued: u64 = self.inboxes.values_mut().map(|inbox| inbox.drop_expired(self.time)).sum();
                done(queued + (retained - self.retained.len()) as u64)
            }
            Kind::Forget(Forget { origins }) => done(origins.iter().map(|origin| self.forget(origin)).sum()),
        }
    }

    fn open(&mut self, open: &Open) -> outcome::Kind {
        let known = self.inboxes.get(&open.client_id).map(|inbox| inbox.open.clone());
        if known.as_ref().is_some_and(|known| open.epoch < known.epoch || open.incarnation < known.incarnation) {
            return STALE;
        }
        let existed = known.is_some_and(|known| known.incarnation == open.incarnation);
        if !existed {
            let fresh = NaiveInbox { next_position: 1, ..NaiveInbox::default() };
            self.inboxes.insert(open.client_id.clone(), fresh);
        }
        let inbox = self.inboxes.get_mut(&open.client_id).unwrap();
        (inbox.unclean, inbox.in_use) = (inbox.in_use, true);
        if inbox.unclean {
            inbox.sent = inbox.next_position - 1;
        }
        inbox.open = open.clone();
        opened(existed)
    }

    fn expiry(&self, expires_in: Option<u64>) -> u64 {
        expires_in.map_or(0, |millis| self.time + millis)
    }

    fn is_new(&mut self, origin: Option<&Origin>, retain: bool) -> bool {
        let Some(Origin { kind, client_id, incarnation, number }) = origin else { return true };
        let highest = self.marks.entry((*kind, client_id.clone(), *incarnation, retain)).or_default();
        let is_new = number > highest;
        *highest = *number.max(highest);
        is_new
    }

    fn forget(&mut self, Origin { kind, client_id, incarnation, number }: &Origin) -> u64 {
        let keys = [false, true].map(|retain| (*kind, client_id.clone(), *incarnation, retain));
        let highest = keys.iter().filter_map(|key| self.marks.get(key)).max();
        let forgets = highest.is_some_and(|highest| highest <= number);
        self.marks.retain(|key, _| !(forgets && keys.contains(key)));
        forgets.into()
    }

    fn enqueue(&mut self, enqueue: &Enqueue) -> outcome::Kind {
        if !self.is_new(enqueue.origin.as_ref(), false) {
            return done(0);
        }
        done(self.put(&enqueue.message, self.expiry(enqueue.expires_in), &enqueue.targets))
    }

    fn put(&mut self, message: &Bytes, expires_at: u64, targets: &[Target]) -> u64 {
        let mut count = 0;
        for target in targets {
            let Some(inbox) = self.inboxes.get_mut(&target.client_id) else { continue };
            if inbox.open.incarnation != target.incarnation {
                continue;
            }
            let before = inbox.overflowed;
            let (taken, dropped) = inbox.push(target, message, expires_at, self.time);
            inbox.dropped += dropped;
            self.told.dropped += dropped;
            if inbox.overflowed && !before {
                self.told.overflowed.push((target.client_id.clone(), target.incarnation));
            }
            if taken {
                self.told.filled.insert(target.client_id.clone());
                count += 1;
            }
        }
        count
    }

    fn fenced(&mut self, client_id: &str, incarnation: u64, epoch: u64) -> Option<&mut NaiveInbox> {
        let inbox = self.inboxes.get_mut(client_id)?;
        (inbox.open.incarnation == incarnation && inbox.open.epoch == epoch).then_some(inbox)
    }

    fn acknowledge(&mut self, acknowledge: &Acknowledge) -> outcome::Kind {
        let Acknowledge { client_id, incarnation, epoch, done: gone, received, sent, events, events_sent, closed } =
            acknowledge;
        let Some(inbox) = self.fenced(client_id, *incarnation, *epoch) else { return STALE };
        inbox.items.retain(|item| !gone.contains(&item.position));
        for item in inbox.items.iter_mut().filter(|item| received.contains(&item.position)) {
            item.received |= item.target.qos == 2;
        }
        inbox.sent = inbox.sent.max(*sent.min(&(inbox.next_position - 1)));
        inbox.events = inbox.events.max(*events);
        inbox.events_sent = inbox.events_sent.max(*events_sent);
        inbox.in_use &= !closed;
        done(0)
    }

    fn receive(&mut self, receive: &Receive) -> outcome::Kind {
        let Some(inbox) = self.fenced(&receive.client_id, receive.incarnation, receive.epoch) else { return STALE };
        if !inbox.held.insert(receive.packet_id) {
            return done(0);
        }
        inbox.handed += 1;
        let origin = origin(&receive.client_id, receive.incarnation, inbox.handed);
        let expires_at = self.expiry(receive.expires_in);
        let (here, others): (Vec<_>, Vec<_>) = receive.targets.iter().partition(|targets| targets.shard == HERE);
        for targets in here {
            self.put(&receive.message, expires_at, &targets.targets);
        }
        if !others.is_empty() {
            self.hand_ons.push((self.next_hand_on, payload(&receive.message), origin, others.len()));
            self.next_hand_on += 1;
            self.told.hand_ons = true;
        }
        done(1)
    }

    fn retain(&mut self, retain: &Retain) -> outcome::Kind {
        if !self.is_new(retain.origin.as_ref(), true) {
            return done(0);
        }
        let message = Message::decode(retain.message.clone()).unwrap();
        let topic = String::from_utf8(message.topic.to_vec()).unwrap();
        self.retained.remove(&topic);
        if !message.payload.is_empty() {
            self.retained.insert(topic, (retain.message.clone(), self.expiry(retain.expires_in)));
        }
        done(1)
    }
}
