//! This node's copy of the roster and all that follows from it while entries are applied: events, routes, answers.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockReadGuard};
use prost::Message as _;
use rollcall_proto::message::Message;
use rollcall_proto::schema::roster::{Batch, Outcome, outcome};
use tokio::sync::watch;

use crate::clock::boottime;
use crate::feed::EventFeed;
use crate::forward::Parcel;
use crate::message::from_body;
use crate::pending::Pending;
use crate::raft::replicated::{Frozen, Replicated};
use crate::roster::level::LEVEL;
use crate::roster::{Effects, Lost, NodeId, PendingWill, Roster};
use crate::routes::Routes;

/// What the program around the cluster is told. Called while an entry is applied: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A connection of this node no longer owns its session.
    fn lost(&self, lost: &Lost);
    /// This node has lost its lease: every connection must be closed at once.
    fn fenced(&self);
    /// The roster has been replaced by a snapshot: connections that it does not know are lost.
    fn replaced(&self, roster: &Roster);
    /// A publish of another node, for the sessions of this one.
    fn forwarded(&self, parcel: Parcel);
    /// So many clients of this node are to go to each of these addresses, at the pace of a drain.
    fn send_away(&self, destinations: Vec<(String, u64)>);
    /// A will, for the live sessions of this node: every node is told at the same entry.
    fn will(&self, message: Arc<Message>);
}

pub struct Replica {
    me: NodeId,
    roster: RwLock<Roster>,
    /// Index of the last entry that the roster has seen; stored under its lock.
    seen: AtomicU64,
    routes: RwLock<Routes>,
    /// Rises whenever the routes change: what was matched under another generation must be matched again.
    generation: AtomicU64,
    feed: EventFeed,
    /// Index of the last applied entry.
    applied: watch::Sender<u64>,
    /// Index of the last applied entry that changed routes.
    route_index: AtomicU64,
    /// Number of the last will that this node's sessions were given.
    last_will: AtomicU64,
    /// This node's epoch; 0 while it is not up.
    epoch: watch::Sender<u64>,
    pub(crate) pending: Pending,
    observer: Arc<dyn Observer>,
}

impl Replica {
    pub(crate) fn new(me: NodeId, feed: EventFeed, observer: Arc<dyn Observer>) -> Self {
        Replica {
            me,
            roster: RwLock::default(),
            seen: AtomicU64::new(0),
            routes: RwLock::new(Routes::new(me)),
            generation: AtomicU64::new(1),
            feed,
            applied: watch::Sender::new(0),
            route_index: AtomicU64::new(0),
            last_will: AtomicU64::new(0),
            epoch: watch::Sender::new(0),
            pending: Pending::default(),
            observer,
        }
    }

    pub fn me(&self) -> NodeId {
        self.me
    }

    pub fn roster(&self) -> RwLockReadGuard<'_, Roster> {
        self.roster.read()
    }

    /// A copy, which shares all pages with the original, and the index it is exactly the state of; `None` while an entry is
    /// being applied.
    pub(crate) fn exactly(&self) -> Option<(u64, Roster)> {
        let applied = *self.applied.borrow();
        let roster = self.roster.read();
        (self.seen.load(Ordering::Acquire) <= applied).then(|| (applied, roster.clone()))
    }

    pub fn routes(&self) -> RwLockReadGuard<'_, Routes> {
        self.routes.read()
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn feed(&self) -> &EventFeed {
        &self.feed
    }

    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn route_index(&self) -> u64 {
        self.route_index.load(Ordering::Acquire)
    }

    pub fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    pub(crate) fn observer(&self) -> &Arc<dyn Observer> {
        &self.observer
    }

    fn apply_batch(&self, index: u64, time: u64, batch: &Batch) -> io::Result<()> {
        let effects = {
            let mut roster = self.roster.write();
            self.seen.store(index, Ordering::Release);
            let effects = roster.apply(time, batch);
            check_level(&roster)?;
            effects
        };
        self.change_routes(index, &effects);
        let epoch = *self.epoch.borrow();
        for lost in effects.lost.iter().filter(|lost| (lost.owner.node, lost.owner.node_epoch) == (self.me, epoch)) {
            self.observer.lost(lost);
        }
        self.end_epochs(&effects);
        for will in &effects.wills {
            self.deliver_will(will, will.matched_at);
        }
        self.feed.append(effects.events)?;
        if batch.node == self.me {
            self.notice_arrival(batch, &effects.outcomes);
            self.pending.settle(batch.node_epoch, batch.number, index, &effects.outcomes);
        }
        Ok(())
    }

    fn change_routes(&self, index: u64, effects: &Effects) {
        if effects.routes.is_empty() {
            return;
        }
        let mut routes = self.routes.write();
        for change in &effects.routes {
            routes.change(change);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.route_index.store(index, Ordering::Release);
    }

    /// `now` is the time of the log.
    fn deliver_will(&self, pending: &PendingWill, now: u64) {
        self.last_will.store(pending.number, Ordering::Release);
        // A node that is not up, or reads its log again after a start, holds no session.
        if *self.epoch.borrow() == 0 {
            return;
        }
        let age = now.saturating_sub(pending.matched_at);
        let left = pending.will.expires_in.map(|lives| lives.saturating_sub(age));
        let expires_at = left.map(|left| boottime().as_millis() as u64 + left);
        match from_body(pending.will.message.clone(), expires_at) {
            Some(message) => self.observer.will(Arc::new(message)),
            None => tracing::error!(client_id = &*pending.client_id, "a will in the log cannot be read"),
        }
    }

    fn end_epochs(&self, effects: &Effects) {
        for (node, epoch) in &effects.fenced {
            if *node == self.me && *self.epoch.borrow() == *epoch {
                tracing::warn!(epoch, "the cluster has declared this node down: closing its connections");
                self.stand_down();
            }
        }
    }

    /// Forgets this node's epoch: nothing more is done in its name.
    pub(crate) fn stand_down(&self) {
        self.epoch.send_replace(0);
        self.pending.abandon();
        self.observer.fenced();
    }

    /// At the very entry: one right behind it may end the epoch again.
    fn notice_arrival(&self, batch: &Batch, outcomes: &[Outcome]) {
        if batch.node_epoch != 0 || !self.pending.is_for(0, batch.number) {
            return;
        }
        for outcome in outcomes {
            if let Some(outcome::Kind::NodeEpoch(granted)) = &outcome.kind {
                self.epoch.send_replace(granted.epoch);
            }
        }
    }

    /// A snapshot takes the place of everything applied so far.
    fn replace(&self, roster: Roster, index: u64) {
        {
            let mut current = self.roster.write();
            self.seen.store(index, Ordering::Release);
            *current = roster;
        }
        let roster = self.roster.read();
        let mut routes = self.routes.write();
        *routes = Routes::new(self.me);
        for change in roster.routes() {
            routes.change(&change);
        }
        drop(routes);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.route_index.store(index, Ordering::Release);
        let epoch = *self.epoch.borrow();
        if epoch != 0 {
            match roster.node(self.me) {
                Some(node) if roster.is_current(self.me, epoch) => {
                    self.pending.settle(epoch, node.last_number, index, &node.last_outcomes);
                    self.observer.replaced(&roster);
                    for will in roster.matched_after(self.last_will.load(Ordering::Acquire)) {
                        self.deliver_will(will, roster.time());
                    }
                }
                Some(_) | None => self.stand_down(),
            }
        }
        self.last_will.store(roster.will_number(), Ordering::Release);
        drop(roster);
        self.advance(index);
    }
}

impl Replicated for Replica {
    fn apply(&self, index: u64, time: u64, batch: &Bytes) -> io::Result<()> {
        let batch = Batch::decode(batch.clone()).map_err(io::Error::other)?;
        self.apply_batch(index, time, &batch)
    }

    fn advance(&self, index: u64) {
        self.applied.send_replace(index);
    }

    fn time(&self) -> u64 {
        self.roster().time()
    }

    fn weight(&self) -> u64 {
        /// Of a session with a few subscriptions.
        const SESSION: u64 = 256;
        self.roster().session_count() as u64 * SESSION
    }

    fn freeze(self: Arc<Self>) -> Box<dyn Frozen> {
        let roster = self.roster().clone();
        Box::new(FrozenRoster { roster, replica: self })
    }

    fn restore(&self, mut reader: &mut dyn Read, index: u64) -> io::Result<()> {
        let roster = Roster::read_from(&mut reader).map_err(io::Error::other)?;
        check_level(&roster)?;
        io::copy(reader, &mut io::sink())?;
        self.replace(roster, index);
        Ok(())
    }
}

/// What comes behind a level that this version does not know it would apply in another way than the others.
fn check_level(roster: &Roster) -> io::Result<()> {
    if roster.level() > LEVEL {
        let (level, known) = (roster.level(), LEVEL);
        return Err(io::Error::other(format!(
            "the cluster is at feature level {level}, this version knows {known}: start a newer version of the program"
        )));
    }
    Ok(())
}

struct FrozenRoster {
    roster: Roster,
    replica: Arc<Replica>,
}

impl Frozen for FrozenRoster {
    fn seq(&self) -> u64 {
        self.roster.seq()
    }

    /// The log behind the snapshot will be freed, and with it what the events could be made from again.
    fn write_to(&self, mut out: &mut dyn Write) -> io::Result<()> {
        self.replica.feed().sync()?;
        self.roster.write_to(&mut out)
    }
}

#[cfg(test)]
mod tests;
