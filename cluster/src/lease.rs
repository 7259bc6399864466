//! Leases, on both sides: the right to go on without asking, and who was given it.
//!
//! A lease runs from when the question was SENT and is measured by CLOCK_BOOTTIME, so the asker's always ends before
//! the leader's record of it. It counts only once the index that came with it is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::boottime;
use crate::roster::NodeId;

/// What this node was granted.
#[derive(Debug)]
pub struct Leases {
    route_lease: Duration,
    node_lease: Duration,
    /// Boot time in nanoseconds until which publishes may be matched without asking; or [`NEVER`].
    route_until: AtomicU64,
    /// Boot time in nanoseconds until which connections may be kept; or [`NEVER`].
    node_until: watch::Sender<u64>,
}

/// No lease counts any more.
const NEVER: u64 = 0;
/// No lease counts until the next is granted.
const NOT_NOW: u64 = 1;

impl Leases {
    pub(crate) fn new(route_lease: Duration, node_lease: Duration) -> Self {
        Leases {
            route_lease,
            node_lease,
            route_until: AtomicU64::new(NOT_NOW),
            node_until: watch::Sender::new(NOT_NOW),
        }
    }

    /// Checked after a PUBLISH is read and before it is matched.
    pub fn may_route(&self) -> bool {
        nanos(boottime()) < self.route_until.load(Ordering::Acquire)
    }

    /// Waits until publishes may be matched.
    pub async fn route(&self) {
        let mut granted = self.node_until.subscribe();
        while !self.may_route() {
            // Never closed: this very struct holds the sender.
            if granted.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn may_keep_connections(&self) -> bool {
        nanos(boottime()) < *self.node_until.borrow()
    }

    /// Whether a majority answered less than a route lease ago, also where nothing is routed any more.
    pub fn is_in_touch(&self) -> bool {
        self.node_left() + self.route_lease > self.node_lease
    }

    /// How long connections may still be kept.
    pub(crate) fn node_left(&self) -> Duration {
        Duration::from_nanos(self.node_until.borrow().saturating_sub(nanos(boottime())))
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.node_until.subscribe()
    }

    /// The answer to a question sent at `asked`, its index applied.
    pub(crate) fn granted(&self, asked: Duration) {
        self.change_route(|last| later(last, asked + self.route_lease));
        self.node_until.send_modify(|last| *last = later(*last, asked + self.node_lease));
    }

    /// Nothing may be done any more, whatever leases come.
    pub(crate) fn give_up_for_good(&self) {
        self.give_up_routes_for_good();
        self.node_until.send_replace(NEVER);
    }

    /// Nothing may be matched any more, whatever leases come: nobody needs to wait for this node.
    pub(crate) fn give_up_routes_for_good(&self) {
        self.route_until.store(NEVER, Ordering::Release);
    }

    /// Nothing may be done any more until a new lease.
    pub(crate) fn give_up(&self) {
        let not_now = |last| if last == NEVER { NEVER } else { NOT_NOW };
        self.change_route(not_now);
        self.node_until.send_modify(|last| *last = not_now(*last));
    }

    fn change_route(&self, change: impl Fn(u64) -> u64) {
        // Always something: it cannot be refused.
        let _ = self.route_until.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(change(last)));
    }
}

/// Whether what is watched is a lease at all.
pub(crate) fn is_lease(until: u64) -> bool {
    until > NOT_NOW
}

fn later(last: u64, until: Duration) -> u64 {
    if last == NEVER { NEVER } else { last.max(nanos(until)) }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[derive(Debug, Clone, Copy, Default)]
struct Holder {
    epoch: u64,
    /// When its route lease ends at the latest.
    until: Duration,
    /// When it was last granted one, or first missed.
    last: Duration,
    applied: u64,
}

/// What the leader knows of the leases of all nodes; pure, the time is an argument.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    route_lease: Duration,
    term: u64,
    since: Duration,
    holders: BTreeMap<NodeId, Holder>,
    blocked: BTreeSet<(NodeId, u64)>,
    announced: u64,
}

impl LeaseTable {
    pub(crate) fn new(route_lease: Duration) -> Self {
        LeaseTable {
            route_lease,
            term: 0,
            since: Duration::ZERO,
            holders: BTreeMap::new(),
            blocked: BTreeSet::new(),
            announced: 0,
        }
    }

    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// A leader of a new term knows nothing of the leases before: it takes every member's to run for one route lease.
    pub(crate) fn elected(&mut self, term: u64, members: impl IntoIterator<Item = NodeId>, now: Duration) {
        if term <= self.term {
            return;
        }
        self.term = term;
        self.since = now;
        self.blocked.clear();
        let until = now + self.route_lease;
        self.holders =
            members.into_iter().map(|node| (node, Holder { epoch: 0, until, last: now, applied: 0 })).collect();
    }

    /// Counts the node as a holder from now on; the index that it must have applied first, or `None` if it gets nothing.
    /// `read_index` was confirmed by a quorum after the question had come.
    pub(crate) fn grant(&mut self, node: NodeId, epoch: u64, read_index: u64, now: Duration) -> Option<u64> {
        if self.is_blocked(node, epoch) {
            return None;
        }
        let until = now + self.route_lease;
        let holder = self.holders.entry(node).or_default();
        *holder = Holder { epoch, until, last: now, applied: holder.applied };
        Some(read_index.max(self.announced))
    }

    pub(crate) fn report(&mut self, node: NodeId, applied: u64) {
        if let Some(holder) = self.holders.get_mut(&node) {
            holder.applied = holder.applied.max(applied);
        }
    }

    /// The index that every node that may still match publishes has applied; never beyond our own. A node `has_stopped` that
    /// gave up its route lease before it said so.
    pub(crate) fn barrier(&mut self, own_applied: u64, has_stopped: impl Fn(NodeId) -> bool, now: Duration) -> u64 {
        let holders = self.holders.iter().filter(|(node, holder)| holder.until > now && !has_stopped(**node));
        let held_back = holders.map(|(_, holder)| holder.applied).min();
        let index = held_back.map_or(own_applied, |applied| applied.min(own_applied));
        self.announced = self.announced.max(index);
        self.announced
    }

    /// When the barrier may rise without anyone's doing.
    pub(crate) fn next_end(&self, now: Duration) -> Option<Duration> {
        self.holders.values().map(|holder| holder.until).filter(|until| *until > now).min()
    }

    /// A leader that has itself had no quorum for a while cannot tell who is gone: it counts from now.
    pub(crate) fn may_judge(&mut self, me: NodeId, now: Duration) -> bool {
        let confirmed = self.holders.get(&me).is_some_and(|holder| holder.until > now);
        if !confirmed {
            self.since = now;
        }
        confirmed
    }

    /// Whether a node that is up has had no lease for so long that it must have fenced itself.
    pub(crate) fn is_overdue(&mut self, node: NodeId, epoch: u64, node_timeout: Duration, now: Duration) -> bool {
        let holder = self.holders.entry(node).or_insert(Holder { epoch, until: now, last: now, applied: 0 });
        // Seen for the first time since it came up, or since the election.
        if holder.epoch != epoch {
            holder.epoch = epoch;
            holder.last = now;
        }
        now >= holder.last.max(self.since) + node_timeout
    }

    /// The other voter that has a lease and has applied the most: the best to lead next.
    pub(crate) fn successor(&self, me: NodeId, voters: &BTreeSet<NodeId>, now: Duration) -> Option<NodeId> {
        let others = self.holders.iter().filter(|(node, holder)| **node != me && holder.until > now);
        let others = others.filter(|(node, _)| voters.contains(node));
        others.max_by_key(|(_, holder)| holder.applied).map(|(node, _)| *node)
    }

    pub(crate) fn is_in_touch(&self, node: NodeId, now: Duration) -> bool {
        self.holders.get(&node).is_some_and(|holder| holder.until > now)
    }

    pub(crate) fn is_blocked(&self, node: NodeId, epoch: u64) -> bool {
        self.blocked.contains(&(node, epoch))
    }

    /// From the proposal that it is down until it is up anew, this epoch gets no lease.
    pub(crate) fn block(&mut self, node: NodeId, epoch: u64) {
        self.blocked.insert((node, epoch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    const NOBODY: fn(NodeId) -> bool = |_| false;

    fn at(millis: u64) -> Duration {
        Duration::from_secs(1000) + Duration::from_millis(millis)
    }

    fn elected() -> LeaseTable {
        let mut table = LeaseTable::new(LEASE);
        table.elected(5, [1, 2, 3], at(0));
        table
    }

    #[test]
    fn a_new_leader_waits_for_every_member_or_one_route_lease() {
        let mut table = elected();
        assert_eq!(table.barrier(100, NOBODY, at(1999)), 0);
        assert_eq!(table.barrier(100, NOBODY, at(2000)), 100);
        let mut table = elected();
        for node in [1, 2] {
            table.report(node, 90);
        }
        assert_eq!(table.barrier(100, NOBODY, at(10)), 0);
        table.report(3, 80);
        assert_eq!(table.barrier(100, NOBODY, at(10)), 80);
    }

    #[test]
    fn a_silent_holder_holds_the_barrier_until_its_lease_has_run_out() {
        let mut table = elected();
        for node in [1, 2, 3] {
            table.report(node, 10);
            assert_eq!(table.grant(node, 1, 10, at(2500)), Some(10));
        }
        table.report(1, 20);
        table.report(2, 20);
        assert_eq!(table.barrier(20, NOBODY, at(4499)), 10);
        assert_eq!(table.next_end(at(4499)), Some(at(4500)));
        assert_eq!(table.barrier(20, NOBODY, at(4500)), 20);
    }

    #[test]
    fn a_node_that_has_stopped_holds_up_nobody() {
        let mut table = elected();
        for node in [1, 2] {
            table.report(node, 20);
        }
        assert_eq!(table.barrier(20, NOBODY, at(10)), 0);
        assert_eq!(table.barrier(20, |node| node == 3, at(10)), 20);
    }

    #[test]
    fn who_comes_back_must_first_apply_what_was_announced_without_it() {
        let mut table = elected();
        assert_eq!(table.barrier(50, NOBODY, at(3000)), 50);
        assert_eq!(table.grant(3, 1, 40, at(3001)), Some(50));
        assert_eq!(table.barrier(60, NOBODY, at(3002)), 50, "it has reported nothing yet");
    }

    #[test]
    fn a_node_that_is_to_be_declared_down_gets_no_lease_until_it_is_up_anew() {
        let mut table = elected();
        assert!(!table.is_overdue(2, 4, Duration::from_secs(10), at(0)));
        assert!(!table.is_overdue(2, 4, Duration::from_secs(10), at(9_999)));
        assert!(table.is_overdue(2, 4, Duration::from_secs(10), at(10_000)));
        table.block(2, 4);
        assert_eq!(table.grant(2, 4, 1, at(10_001)), None);
        assert_eq!(table.grant(2, 5, 1, at(10_002)), Some(1));
        assert!(!table.is_overdue(2, 5, Duration::from_secs(10), at(20_001)));
    }

    #[test]
    fn a_node_that_was_down_at_the_election_and_comes_up_long_after_it_is_not_overdue_at_once() {
        let mut table = elected();
        assert!(!table.is_overdue(2, 5, Duration::from_secs(10), at(20_000)));
        assert!(table.is_overdue(2, 5, Duration::from_secs(10), at(30_000)));
    }

    #[test]
    fn a_lease_runs_from_when_the_question_was_sent() {
        let leases = Leases::new(Duration::from_millis(200), Duration::from_millis(700));
        assert!(!leases.may_route());
        leases.granted(boottime());
        assert!(leases.may_route() && leases.may_keep_connections());
        leases.give_up();
        leases.granted(boottime() - Duration::from_millis(300));
        assert!(!leases.may_route());
        assert!(leases.may_keep_connections());
        assert!(leases.node_left() <= Duration::from_millis(400));
    }

    #[test]
    fn what_was_given_up_for_good_is_not_granted_again() {
        let leases = Leases::new(Duration::from_secs(200), Duration::from_secs(700));
        leases.granted(boottime());
        leases.give_up();
        assert!(!leases.is_in_touch());
        leases.granted(boottime());
        assert!(leases.may_route() && leases.is_in_touch());
        leases.give_up_routes_for_good();
        leases.give_up();
        leases.granted(boottime());
        assert!(!leases.may_route() && leases.is_in_touch() && leases.may_keep_connections());
        leases.give_up_for_good();
        leases.granted(boottime());
        assert!(!leases.may_route() && !leases.is_in_touch() && !leases.may_keep_connections());
    }
}
