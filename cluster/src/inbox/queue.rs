//! One inbox: what waits in it, and what becomes of it when it is full.

use std::ops::Bound;
use std::sync::Arc;

use rollcall_proto::message::SubscriptionIds;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::shard::{InboxLimits, Overflow, Target};

use super::Effects;
use super::bodies::Bodies;
use crate::sorted::SortedMap;

/// Packet ids that inboxes give out: 1 to this. Those above are for what does not come out of an inbox.
pub const PACKET_IDS: u64 = 32_767;

/// The packet id under which the message of that position (1 and up) is sent, on whatever node and however often.
/// As long as no position from the oldest one that is not done with plus [`PACKET_IDS`] on is sent, no two in flight
/// share one.
pub fn packet_id(position: u64) -> u16 {
    (position.saturating_sub(1) % PACKET_IDS + 1) as u16
}

/// A message in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// 0 once it is received.
    pub(super) body: u64,
    pub subscription_ids: SubscriptionIds,
    pub qos: QoS,
    /// As the subscriber is to see it.
    pub retain: bool,
    /// Its PUBREC has come: only its PUBREL is still to be sent.
    pub received: bool,
}

/// What a persistent session still has to receive, and its QoS 2 state. An idle one takes about 330 bytes: itself, its
/// client id and their places in the page (`an_idle_inbox_is_small`).
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    pub(super) roster_index: u64,
    pub(super) limits: InboxLimits,
    pub(super) next_position: u64,
    pub(super) sent: u64,
    /// By position.
    pub(super) queue: SortedMap<u64, Queued>,
    /// Of the messages in the queue that are still kept.
    pub(super) bytes: u64,
    pub(super) expiring: Expiring,
    /// Sorted.
    pub(super) held: Vec<u16>,
    pub(super) handed: u64,
    pub(super) events: Option<u64>,
    pub(super) events_sent: u64,
    /// A connection has it open, or had when its node died.
    pub(super) in_use: bool,
    /// Whoever had it open before has not said how far it came.
    pub(super) unclean: bool,
    pub(super) dropped: u64,
    pub(super) overflowed: bool,
}

/// (expiry, position) of the messages that will expire; follows from the queue. Most inboxes have none. What may have been
/// sent is the client's to end: it does not expire any more [MQTT-4.3.3-7].
#[derive(Debug, Clone, Default)]
pub(super) struct Expiring(pub(super) Option<Box<SortedMap<(u64, u64), ()>>>);

impl Queued {
    pub(super) fn new(target: &Target, body: u64) -> Self {
        Queued {
            body,
            subscription_ids: target.subscription_ids.as_slice().into(),
            qos: to_qos(target.qos),
            retain: target.retain,
            received: false,
        }
    }
}

/// QoS 0 has no place in an inbox; whoever asks for it anyway gets the next higher.
pub(super) fn to_qos(qos: u32) -> QoS {
    if qos == QoS::ExactlyOnce as u32 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
}

impl Inbox {
    pub(super) fn new(incarnation: u64) -> Self {
        Inbox { incarnation, next_position: 1, ..Inbox::default() }
    }

    /// Whether it takes the message, which then has one holder more.
    pub(super) fn push(
        &mut self,
        client_id: &Arc<str>,
        queued: Queued,
        now: u64,
        bodies: &mut Bodies,
        effects: &mut Effects,
    ) -> bool {
        let Some((len, expires_at)) = bodies.get(queued.body).map(|body| (body.len, body.expires_at)) else {
            return false;
        };
        if self.overflowed || !self.make_room(client_id, u64::from(len), now, bodies, effects) {
            self.count_dropped(1, effects);
            return false;
        }
        let position = self.next_position;
        self.next_position += 1;
        bodies.hold(queued.body);
        self.append(position, queued, len, expires_at);
        true
    }

    /// `len` and `expires_at` are those of its body.
    pub(super) fn append(&mut self, position: u64, queued: Queued, len: u32, expires_at: u64) {
        self.bytes += u64::from(len);
        if expires_at != 0 && position > self.sent {
            self.expiring.insert(expires_at, position);
        }
        self.queue.insert(position, queued);
    }

    /// By the overflow policy; false where the new message is the one that is dropped.
    fn make_room(
        &mut self,
        client_id: &Arc<str>,
        len: u64,
        now: u64,
        bodies: &mut Bodies,
        effects: &mut Effects,
    ) -> bool {
        if self.fits(len) {
            return true;
        }
        self.drop_expired(now, bodies, &mut effects.freed);
        if self.fits(len) {
            return true;
        }
        match Overflow::try_from(self.limits.overflow).unwrap_or(Overflow::DropNewest) {
            Overflow::DropNewest => false,
            Overflow::DropOldest => self.drop_until_it_fits(len, bodies, effects),
            Overflow::EndSession => {
                let waiting = self.queue.len() as u64;
                self.overflow(bodies, &mut effects.freed);
                self.count_dropped(waiting, effects);
                effects.overflowed.push((client_id.clone(), self.incarnation));
                false
            }
        }
    }

    fn fits(&self, len: u64) -> bool {
        let InboxLimits { max_messages, max_bytes, .. } = self.limits;
        (max_messages == 0 || (self.queue.len() as u64) < max_messages)
            && (max_bytes == 0 || self.bytes + len <= max_bytes)
    }

    fn drop_until_it_fits(&mut self, len: u64, bodies: &mut Bodies, effects: &mut Effects) -> bool {
        if self.limits.max_bytes != 0 && len > self.limits.max_bytes {
            return false;
        }
        while !self.fits(len) {
            let Some(position) = self.oldest_to_drop() else { return false };
            self.leave(position, bodies, &mut effects.freed);
            self.count_dropped(1, effects);
        }
        true
    }

    /// Rather one that was never sent. A received one is the client's already: what waits is the rest of its handshake.
    fn oldest_to_drop(&self) -> Option<u64> {
        let mut unsent = self.queue.range_from(Bound::Excluded(&self.sent)).filter(|(_, queued)| !queued.received);
        let mut any = self.queue.iter().filter(|(_, queued)| !queued.received);
        unsent.next().or_else(|| any.next()).map(|(position, _)| *position)
    }

    fn count_dropped(&mut self, messages: u64, effects: &mut Effects) {
        self.dropped += messages;
        effects.dropped += messages;
    }

    /// Whether there was such a position.
    pub(super) fn leave(&mut self, position: u64, bodies: &mut Bodies, freed: &mut Vec<u64>) -> bool {
        let Some(queued) = self.queue.remove(&position) else { return false };
        self.let_go(position, queued.body, bodies, freed);
        true
    }

    /// Only a QoS 2 message is received.
    pub(super) fn receive(&mut self, position: u64, bodies: &mut Bodies, freed: &mut Vec<u64>) {
        if !self.queue.get(&position).is_some_and(|queued| queued.qos == QoS::ExactlyOnce && !queued.received) {
            return;
        }
        let Some(queued) = self.queue.get_mut(&position) else { return };
        queued.received = true;
        let body = std::mem::take(&mut queued.body);
        self.let_go(position, body, bodies, freed);
    }

    fn let_go(&mut self, position: u64, id: u64, bodies: &mut Bodies, freed: &mut Vec<u64>) {
        let Some(body) = bodies.get(id) else { return };
        self.bytes -= u64::from(body.len);
        if body.expires_at != 0 {
            self.expiring.remove(body.expires_at, position);
        }
        bodies.release(id, freed);
    }

    /// Messages up to this position may have been sent; nothing that is not there yet can have been.
    pub(super) fn note_sent(&mut self, position: u64, bodies: &Bodies) {
        let sent = self.sent.max(position.min(self.next_position - 1));
        if self.expiring.0.is_some() {
            let newly = self.queue.range_from(Bound::Excluded(&self.sent)).take_while(|(at, _)| **at <= sent);
            for (position, queued) in newly {
                if let Some(body) = bodies.get(queued.body) {
                    self.expiring.remove(body.expires_at, *position);
                }
            }
        }
        self.sent = sent;
    }

    /// How many there were. What is received has nothing left that could expire.
    pub(super) fn drop_expired(&mut self, now: u64, bodies: &mut Bodies, freed: &mut Vec<u64>) -> u64 {
        let mut expired = 0;
        while let Some((expires_at, position)) = self.expiring.first()
            && expires_at <= now
        {
            self.leave(position, bodies, freed);
            expired += 1;
        }
        expired
    }

    /// Before it goes, or is emptied.
    pub(super) fn release_all(&self, bodies: &mut Bodies, freed: &mut Vec<u64>) {
        for (_, queued) in self.queue.iter().filter(|(_, queued)| queued.body != 0) {
            bodies.release(queued.body, freed);
        }
    }

    fn overflow(&mut self, bodies: &mut Bodies, freed: &mut Vec<u64>) {
        self.release_all(bodies, freed);
        self.overflowed = true;
        self.queue.clear();
        self.bytes = 0;
        self.expiring = Expiring::default();
    }

    pub fn has_expired(&self, now: u64) -> bool {
        self.expiring.first().is_some_and(|(expires_at, _)| expires_at <= now)
    }

    /// The epoch at which the session began.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Of the connection that opened it last: only that one may acknowledge and publish.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Of the roster, as the node that opened it last had applied it.
    pub fn roster_index(&self) -> u64 {
        self.roster_index
    }

    pub fn limits(&self) -> InboxLimits {
        self.limits
    }

    /// Of the next message; the first has 1.
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Messages up to this position may have been sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that are not done with.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Of the messages that wait, received ones left out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packet ids of the client's own QoS 2 messages that are not complete; sorted.
    pub fn held(&self) -> &[u16] {
        &self.held
    }

    /// Number of its last QoS 2 message.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// `seq` of the last lifecycle event that the client is done with.
    pub fn events(&self) -> Option<u64> {
        self.events
    }

    /// Events up to this one may have been sent.
    pub fn events_sent(&self) -> u64 {
        self.events_sent
    }

    /// Whether the connection before the present one may have sent more than is known here: then everything counts as
    /// sent that was there when it was opened.
    pub fn is_unclean(&self) -> bool {
        self.unclean
    }

    /// Messages that the overflow policy has dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// It has overflowed and is to end: it takes nothing more.
    pub fn is_overflowed(&self) -> bool {
        self.overflowed
    }
}

impl Expiring {
    fn insert(&mut self, expires_at: u64, position: u64) {
        self.0.get_or_insert_default().insert((expires_at, position), ());
    }

    fn remove(&mut self, expires_at: u64, position: u64) {
        let Some(known) = &mut self.0 else { return };
        known.remove(&(expires_at, position));
        if known.is_empty() {
            self.0 = None;
        }
    }

    fn first(&self) -> Option<(u64, u64)> {
        self.0.as_ref()?.first().map(|(key, _)| *key)
    }
}
