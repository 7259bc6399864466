//! What becomes of each will, told from commands, outcomes and effects alone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Seconds: the shortest expiry, besides none, that a session here may have.
const SHORTEST_EXPIRY: u32 = 10;

type Id = (String, u64);

#[derive(Debug)]
struct Fate {
    delay: u32,
    /// Milliseconds.
    ended_at: Option<u64>,
    /// Taken back by its client, or by a resumption in time.
    void: bool,
    fired: bool,
    published: bool,
}

/// The wills of all connections there ever were.
#[derive(Default)]
pub(super) struct Estate {
    granted: BTreeSet<Id>,
    fates: BTreeMap<Id, Fate>,
    /// Of the last published one.
    number: u64,
    dropped: u64,
}

impl Estate {
    pub(super) fn follow(&mut self, batch: &Batch, effects: &Effects, roster: &Roster) {
        let answered: Vec<_> = batch.commands.iter().zip(&effects.outcomes).collect();
        let mut grants = Vec::new();
        for (command, outcome) in &answered {
            if let (Some(command::Kind::Claim(claim)), Some(outcome::Kind::Granted(granted))) =
                (&command.kind, &outcome.kind)
            {
                grants.extend(self.grant(claim, granted));
            }
        }
        self.end(effects);
        self.publish(effects);
        let firing: BTreeSet<Id> = roster.firing().map(|will| (will.client_id.to_string(), will.epoch)).collect();
        for (id, fate) in &mut self.fates {
            if !fate.fired && (fate.published || firing.contains(id)) {
                assert!(may_fire(id, fate, roster), "{id:?} {fate:?} has fired too early");
                fate.fired = true;
            }
        }
        for (client_id, epoch) in grants {
            self.resume(&client_id, epoch);
        }
        for (command, outcome) in answered {
            if let (Some(command::Kind::Release(release)), Some(outcome::Kind::Done(_))) =
                (&command.kind, &outcome.kind)
                && release.without_will
                && let Some(fate) = self.fates.get_mut(&(release.client_id.clone(), release.epoch))
            {
                fate.void = true;
            }
        }
        self.agrees_with(roster, &firing);
    }

    /// The client id and epoch, if it resumes a session; nothing for the repetition of an answer.
    fn grant(&mut self, claim: &Claim, granted: &Granted) -> Option<Id> {
        let id = (claim.client_id.clone(), granted.epoch);
        if !self.granted.insert(id.clone()) {
            return None;
        }
        if let Some(will) = &claim.will {
            let fate = Fate { delay: will.delay, ended_at: None, void: false, fired: false, published: false };
            self.fates.insert(id.clone(), fate);
        }
        granted.session_present.then_some(id)
    }

    fn end(&mut self, effects: &Effects) {
        for event in &effects.events {
            if let Some(event::Body::Disconnected(_)) = event.body
                && let Some(fate) = self.fates.get_mut(&(event.client_id.clone(), event.epoch))
            {
                fate.ended_at = Some(event.time);
            }
        }
    }

    fn publish(&mut self, effects: &Effects) {
        for will in &effects.wills {
            self.number += 1;
            assert_eq!(will.number, self.number, "a gap");
            let fate = self.fates.get_mut(&(will.client_id.to_string(), will.epoch)).unwrap();
            assert!(!fate.published && !fate.void && fate.ended_at.is_some(), "{will:?} {fate:?}");
            fate.published = true;
        }
    }

    /// What was left with a delay, and has not fired, is taken back.
    fn resume(&mut self, client_id: &str, epoch: u64) {
        for ((of, left_by), fate) in &mut self.fates {
            if of == client_id && *left_by < epoch && !fate.fired && fate.delay > 0 {
                fate.void = true;
            }
        }
    }

    fn agrees_with(&mut self, roster: &Roster, firing: &BTreeSet<Id>) {
        let waiting = roster.due_wills(u64::MAX, usize::MAX);
        let waiting: BTreeSet<Id> = waiting.into_iter().map(|id| (id.client_id, id.epoch)).collect();
        assert_eq!(roster.waiting_wills(), waiting.len());
        for (id, fate) in &self.fates {
            let session = roster.session(&id.0).filter(|session| session.epoch == id.1);
            let is_online = session.is_some_and(|session| session.owner.is_some());
            let places = [waiting.contains(id), firing.contains(id), fate.published].map(usize::from);
            let expected = usize::from(!fate.void && !is_online);
            assert_eq!(places.iter().sum::<usize>(), expected, "{id:?} {fate:?} is {places:?}");
            assert!(!waiting.contains(id) || session.is_some(), "{id:?} waits longer than its session");
        }
        let known = |id: &Id| self.fates.contains_key(id);
        assert!(waiting.iter().all(known) && firing.iter().all(known));
        let matched: Vec<u64> = roster.matched_after(0).map(|will| will.number).collect();
        self.dropped = matched.first().map_or(self.number, |first| first - 1);
        assert_eq!(matched, (self.dropped + 1..=self.number).collect::<Vec<_>>());
    }
}

/// It had no delay, or that has passed, or the session has ended.
fn may_fire((client_id, epoch): &Id, fate: &Fate, roster: &Roster) -> bool {
    let goes_on = roster.session(client_id).is_some_and(|session| session.incarnation <= *epoch);
    let longest = u64::from(fate.delay.min(SHORTEST_EXPIRY)) * 1000;
    !goes_on || fate.ended_at.is_some_and(|at| at + longest <= roster.time())
}
