//! An inbox from its opening to its end: open, enqueue, acknowledge, sweep, close.

use rollcall_proto::schema::shard::{Acknowledge, Close, Enqueue, Open, Opened, Sweep, Target, outcome};

use super::bodies::Parcel;
use super::origins::Use;
use super::queue::{Inbox, Queued};
use super::{Effects, Shard, done, stale};

impl Shard {
    pub(super) fn open(&mut self, open: &Open, effects: &mut Effects) -> outcome::Kind {
        let known = self.inboxes.get(&open.client_id).map(|inbox| (inbox.incarnation, inbox.epoch));
        if known.is_some_and(|(incarnation, epoch)| open.incarnation < incarnation || open.epoch < epoch) {
            return stale();
        }
        let existed = known.is_some_and(|(incarnation, _)| incarnation == open.incarnation);
        if !existed {
            self.free(&open.client_id, effects);
            self.inboxes.insert(&open.client_id, Inbox::new(open.incarnation));
        }
        if let Some(inbox) = self.inboxes.get_mut(&open.client_id) {
            inbox.unclean = inbox.in_use;
            inbox.in_use = true;
            if inbox.unclean {
                inbox.note_sent(u64::MAX, &self.bodies);
            }
            inbox.epoch = open.epoch;
            inbox.roster_index = inbox.roster_index.max(open.roster_index);
            inbox.limits = open.limits.unwrap_or_default();
        }
        outcome::Kind::Opened(Opened { existed })
    }

    pub(super) fn enqueue(&mut self, enqueue: &Enqueue, effects: &mut Effects) -> outcome::Kind {
        if !self.origins.take(enqueue.origin.as_ref(), Use::Enqueue, self.time) {
            return done(0);
        }
        let mut parcel = Parcel::new(&enqueue.message, self.expiry(enqueue.expires_in));
        let taken = self.put(&mut parcel, &enqueue.targets, effects);
        parcel.close(&mut self.bodies, effects);
        done(taken)
    }

    /// Into the inboxes of exactly these incarnations; how many took it.
    pub(super) fn put(&mut self, parcel: &mut Parcel<'_>, targets: &[Target], effects: &mut Effects) -> u64 {
        let mut taken = 0;
        for target in targets {
            let Some((client_id, inbox)) = self.inboxes.entry(&target.client_id) else { continue };
            if inbox.incarnation != target.incarnation {
                continue;
            }
            let client_id = client_id.clone();
            let Some(inbox) = self.inboxes.get_mut(&client_id) else { continue };
            let queued = Queued::new(target, parcel.body(&mut self.bodies));
            if inbox.push(&client_id, queued, self.time, &mut self.bodies, effects) {
                effects.fill(&client_id);
                taken += 1;
            }
        }
        taken
    }

    pub(super) fn acknowledge(&mut self, acknowledge: &Acknowledge, effects: &mut Effects) -> outcome::Kind {
        if !self.is_held_by(&acknowledge.client_id, acknowledge.incarnation, acknowledge.epoch) {
            return stale();
        }
        let Some(inbox) = self.inboxes.get_mut(&acknowledge.client_id) else { return stale() };
        for position in &acknowledge.done {
            inbox.leave(*position, &mut self.bodies, &mut effects.freed);
        }
        for position in &acknowledge.received {
            inbox.receive(*position, &mut self.bodies, &mut effects.freed);
        }
        inbox.note_sent(acknowledge.sent, &self.bodies);
        inbox.events = inbox.events.max(acknowledge.events);
        inbox.events_sent = inbox.events_sent.max(acknowledge.events_sent);
        if acknowledge.closed {
            inbox.in_use = false;
        }
        done(0)
    }

    /// Whether that connection is the one that opened the inbox last.
    pub(super) fn is_held_by(&self, client_id: &str, incarnation: u64, epoch: u64) -> bool {
        self.inboxes.get(client_id).is_some_and(|inbox| inbox.incarnation == incarnation && inbox.epoch == epoch)
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep, effects: &mut Effects) -> outcome::Kind {
        let now = self.time;
        let mut expired = 0;
        for client_id in &sweep.client_ids {
            // Asked first, so that no page is copied for nothing.
            if !self.inboxes.get(client_id).is_some_and(|inbox| inbox.has_expired(now)) {
                continue;
            }
            if let Some(inbox) = self.inboxes.get_mut(client_id) {
                expired += inbox.drop_expired(now, &mut self.bodies, &mut effects.freed);
            }
        }
        for topic in &sweep.topics {
            expired += u64::from(self.drop_if_expired(topic, effects));
        }
        done(expired)
    }

    pub(super) fn close(&mut self, close: &Close, effects: &mut Effects) -> outcome::Kind {
        let ended = self
            .inboxes
            .get(&close.client_id)
            .is_some_and(|inbox| inbox.incarnation == close.incarnation && inbox.roster_index <= close.roster_index);
        if ended {
            self.free(&close.client_id, effects);
        }
        done(ended.into())
    }

    /// The inbox with all that waits in it. What it has received from its client is still handed on.
    fn free(&mut self, client_id: &str, effects: &mut Effects) {
        if let Some(inbox) = self.inboxes.remove(client_id) {
            inbox.release_all(&mut self.bodies, &mut effects.freed);
        }
    }
}
