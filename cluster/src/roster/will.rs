//! Wills: kept with the session, and from the end of the connection on by themselves, until everyone has them.
//!
//! A will that was left waits for its delay; once it is due a retained one is *firing* until its shard has committed it;
//! *matched* it is published. It goes through these once, whatever commands are repeated.

use std::ops::Bound;
use std::sync::Arc;

use rollcall_proto::schema::roster::{
    self as wire, DropWills, FireWills, MatchWills, Will, WillId, WillState, outcome,
};

use super::{Effects, Roster, Session, done};
use crate::sorted::SortedMap;

/// What one connection left.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingWill {
    pub client_id: Arc<str>,
    /// Of the connection that left it.
    pub epoch: u64,
    pub will: Arc<Will>,
    /// Milliseconds since 1970.
    pub due: u64,
    /// Its place in the order in which wills were matched; 0 before.
    pub number: u64,
    /// Milliseconds since 1970; 0 before.
    pub matched_at: u64,
}

/// Each will is in one of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Wills {
    /// By client id: a session has at most one, while it is offline.
    waiting: SortedMap<Arc<str>, Arc<PendingWill>>,
    /// The same ones, by the time at which they are due.
    due: SortedMap<(u64, Arc<str>), ()>,
    firing: SortedMap<(Arc<str>, u64), Arc<PendingWill>>,
    /// By number.
    matched: SortedMap<u64, Arc<PendingWill>>,
    /// Of the last one that was matched.
    number: u64,
}

impl Wills {
    /// None, and the last one matched was that.
    pub fn numbered(number: u64) -> Wills {
        Wills { number, ..Wills::default() }
    }

    pub fn len(&self) -> usize {
        self.waiting.len() + self.firing.len() + self.matched.len()
    }

    fn wait(&mut self, will: Arc<PendingWill>) {
        self.due.insert((will.due, will.client_id.clone()), ());
        self.waiting.insert(will.client_id.clone(), will);
    }

    fn take_waiting(&mut self, client_id: &str) -> Option<Arc<PendingWill>> {
        let will = self.waiting.remove(client_id)?;
        self.due.remove(&(will.due, will.client_id.clone()));
        Some(will)
    }

    fn fire(&mut self, will: Arc<PendingWill>) {
        self.firing.insert((will.client_id.clone(), will.epoch), will);
    }

    /// As a snapshot holds them.
    pub fn records(&self) -> impl Iterator<Item = wire::PendingWill> {
        let waiting = self.waiting.iter().map(|(_, will)| will.to_wire(WillState::Waiting));
        let firing = self.firing.iter().map(|(_, will)| will.to_wire(WillState::Firing));
        let matched = self.matched.iter().map(|(_, will)| will.to_wire(WillState::Matched));
        waiting.chain(firing).chain(matched)
    }

    /// Takes back one of [`Self::records`].
    pub fn restore(&mut self, record: wire::PendingWill) {
        let state = record.state();
        let will = Arc::new(PendingWill::from_wire(record));
        match state {
            WillState::Waiting | WillState::Unspecified => self.wait(will),
            WillState::Firing => self.fire(will),
            WillState::Matched => {
                self.matched.insert(will.number, will);
            }
        }
    }
}

impl PendingWill {
    fn to_wire(&self, state: WillState) -> wire::PendingWill {
        wire::PendingWill {
            client_id: self.client_id.to_string(),
            epoch: self.epoch,
            will: Some((*self.will).clone()),
            state: state.into(),
            due: self.due,
            number: self.number,
            matched_at: self.matched_at,
        }
    }

    fn from_wire(record: wire::PendingWill) -> PendingWill {
        PendingWill {
            client_id: record.client_id.into(),
            epoch: record.epoch,
            will: Arc::new(record.will.unwrap_or_default()),
            due: record.due,
            number: record.number,
            matched_at: record.matched_at,
        }
    }

    pub fn id(&self) -> WillId {
        WillId { client_id: self.client_id.to_string(), epoch: self.epoch }
    }
}

impl Roster {
    /// The connection of that epoch has ended and left its will; the session goes on for `session_expiry` seconds.
    pub(super) fn bequeath(
        &mut self,
        client_id: &str,
        epoch: u64,
        will: Arc<Will>,
        session_expiry: u32,
        effects: &mut Effects,
    ) {
        let due = self.time + u64::from(will.delay.min(session_expiry)) * 1000;
        let will = Arc::new(PendingWill { client_id: client_id.into(), epoch, will, due, number: 0, matched_at: 0 });
        if due > self.time {
            self.wills.wait(will);
        } else {
            self.fire(will, effects);
        }
    }

    /// Another connection takes over, before [`Self::end_session`] where it does not resume the session: then what was
    /// left is published now, with a delay or without.
    pub(super) fn supersede_will(&mut self, client_id: &str, old: &Session, resumed: bool, effects: &mut Effects) {
        if resumed {
            // [MQTT-3.1.3-9]
            self.wills.take_waiting(client_id);
        }
        if let Some(will) = old.will.as_ref().filter(|will| !resumed || will.delay == 0) {
            self.bequeath(client_id, old.epoch, will.clone(), 0, effects);
        }
    }

    /// The session has ended: its will waits no longer.
    pub(super) fn fire_waiting(&mut self, client_id: &str, effects: &mut Effects) {
        if let Some(will) = self.wills.take_waiting(client_id) {
            self.fire(will, effects);
        }
    }

    fn fire(&mut self, will: Arc<PendingWill>, effects: &mut Effects) {
        if will.will.retain {
            self.wills.fire(will);
        } else {
            self.match_will(will, effects);
        }
    }

    fn match_will(&mut self, mut will: Arc<PendingWill>, effects: &mut Effects) {
        self.wills.number += 1;
        let matched = Arc::make_mut(&mut will);
        (matched.number, matched.matched_at) = (self.wills.number, self.time);
        self.wills.matched.insert(will.number, will.clone());
        effects.wills.push(will);
    }

    /// Those that are due by the time of the log; the others go on waiting.
    pub(super) fn fire_wills(&mut self, fire: &FireWills, effects: &mut Effects) -> outcome::Kind {
        for id in &fire.wills {
            let waiting = self.wills.waiting.get(&*id.client_id);
            if waiting.is_some_and(|will| will.epoch == id.epoch && will.due <= self.time) {
                self.fire_waiting(&id.client_id, effects);
            }
        }
        done()
    }

    pub(super) fn match_wills(&mut self, committed: &MatchWills, effects: &mut Effects) -> outcome::Kind {
        for id in &committed.wills {
            if let Some(will) = self.wills.firing.remove(&(Arc::from(&*id.client_id), id.epoch)) {
                self.match_will(will, effects);
            }
        }
        done()
    }

    pub(super) fn drop_wills(&mut self, everywhere: &DropWills) -> outcome::Kind {
        for number in &everywhere.numbers {
            self.wills.matched.remove(number);
        }
        done()
    }

    /// Wills whose delay has passed at `now`, the longest due first.
    pub fn due_wills(&self, now: u64, limit: usize) -> Vec<WillId> {
        let due = self.wills.due.iter().take_while(|((due, _), ())| *due <= now).take(limit);
        due.filter_map(|((_, client_id), ())| self.wills.waiting.get(&**client_id)).map(|will| will.id()).collect()
    }

    /// In whatever state.
    pub fn pending_wills(&self) -> impl Iterator<Item = &Arc<PendingWill>> {
        let Wills { waiting, firing, matched, .. } = &self.wills;
        let early = waiting.iter().map(|(_, will)| will).chain(firing.iter().map(|(_, will)| will));
        early.chain(matched.iter().map(|(_, will)| will))
    }

    /// Retained wills that their shards have to commit, by client id.
    pub fn firing(&self) -> impl Iterator<Item = &Arc<PendingWill>> {
        self.wills.firing.iter().map(|(_, will)| will)
    }

    /// Published wills that are not dropped yet, in order, from behind that number on.
    pub fn matched_after(&self, number: u64) -> impl Iterator<Item = &Arc<PendingWill>> {
        self.wills.matched.range_from(Bound::Excluded(&number)).map(|(_, will)| will)
    }

    /// Wills whose delay has not passed.
    pub fn waiting_wills(&self) -> usize {
        self.wills.waiting.len()
    }

    /// Number of the last will that was matched.
    pub fn will_number(&self) -> u64 {
        self.wills.number
    }
}
