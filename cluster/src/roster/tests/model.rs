//! Any commands in any order: what the roster promises must hold after each batch.

mod watcher;
mod wills;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use rollcall_proto::schema::roster::{
    Claim, DropWills, Expire, FireWills, Kick, Limits, MatchWills, NodeDown, NodeDraining, NodeStopped, Overflowed,
    Reap, Unsubscribe, Will,
};

use super::*;
use crate::roster::Owner;
use watcher::Watcher;
use wills::Estate;

const NODES: [NodeId; 3] = [A, B, C];
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const FILTERS: [&str; 5] = ["s/1", "s/2", "s/+", "#", "$events/#"];
/// One less than there are.
const MAX_FILTERS: u32 = 4;
const TOPICS: [&str; 3] = ["s/1", "s/2", "t"];

/// What one node may ask for; ids, filters and nodes by their place in the lists above.
#[derive(Debug, Clone)]
enum Wish {
    Claim { id: usize, clean_start: bool, expiry: u32, will: Option<(u32, bool)> },
    Release { id: usize, behind: u64, expiry: Option<u32>, without_will: bool },
    Subscribe { id: usize, behind: u64, filters: Vec<(usize, u32)> },
    Unsubscribe { id: usize, behind: u64, filters: Vec<usize> },
    Kick { id: usize, purge: bool },
    ExpireAll,
    Draining,
    Stopped,
    Down { node: usize },
    Reap { limit: u32 },
    Overflowed { id: usize, behind: u64 },
    FireAll,
    MatchAll,
    DropFirst,
}

#[derive(Debug, Clone)]
enum Step {
    Batch {
        node: usize,
        wishes: Vec<Wish>,
    },
    /// A batch that was logged before is logged again.
    Again {
        back: usize,
    },
    Up {
        node: usize,
        boot: u64,
    },
    Limits {
        all: Option<u64>,
        node: Option<u64>,
    },
    Wait {
        millis: u64,
    },
}

fn wish() -> impl Strategy<Value = Wish> {
    let id = || 0..IDS.len();
    // Mostly the session's present epoch.
    let behind = || prop_oneof![6 => Just(0_u64), 1 => 1..3_u64];
    let expiry = || prop_oneof![Just(0), Just(10), Just(u32::MAX)];
    let will = || (prop_oneof![Just(0), Just(5), Just(60)], any::<bool>());
    prop_oneof![
        12 => (id(), any::<bool>(), expiry(), proptest::option::of(will()))
            .prop_map(|(id, clean_start, expiry, will)| Wish::Claim { id, clean_start, expiry, will }),
        5 => (id(), behind(), proptest::option::of(expiry()), any::<bool>())
            .prop_map(|(id, behind, expiry, without_will)| Wish::Release { id, behind, expiry, without_will }),
        6 => (id(), behind(), vec((0..FILTERS.len(), 0..3_u32), 0..4))
            .prop_map(|(id, behind, filters)| Wish::Subscribe { id, behind, filters }),
        4 => (id(), behind(), vec(0..FILTERS.len(), 0..4))
            .prop_map(|(id, behind, filters)| Wish::Unsubscribe { id, behind, filters }),
        3 => (id(), any::<bool>()).prop_map(|(id, purge)| Wish::Kick { id, purge }),
        2 => Just(Wish::ExpireAll),
        1 => Just(Wish::Draining),
        1 => Just(Wish::Stopped),
        2 => (0..NODES.len()).prop_map(|node| Wish::Down { node }),
        2 => (1..4_u32).prop_map(|limit| Wish::Reap { limit }),
        1 => (id(), behind()).prop_map(|(id, behind)| Wish::Overflowed { id, behind }),
        3 => Just(Wish::FireAll),
        2 => Just(Wish::MatchAll),
        1 => Just(Wish::DropFirst),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES.len();
    let limit = || proptest::option::of(0..6_u64);
    prop_oneof![
        16 => (node(), vec(wish(), 1..6)).prop_map(|(node, wishes)| Step::Batch { node, wishes }),
        3 => (1..4_usize).prop_map(|back| Step::Again { back }),
        4 => (node(), 1..4_u64).prop_map(|(node, boot)| Step::Up { node, boot }),
        1 => (limit(), limit()).prop_map(|(all, node)| Step::Limits { all, node }),
        2 => (0..20_000_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// The counts against the sessions themselves.
fn counts_hold(roster: &Roster) {
    let owners: Vec<Owner> = IDS.iter().filter_map(|id| roster.session(id)?.owner).collect();
    assert_eq!(roster.connections(), owners.len() as u64);
    assert_eq!(roster.session_count(), IDS.iter().filter(|id| roster.session(id).is_some()).count());
    let mut held: BTreeMap<(NodeId, u64), u64> = BTreeMap::new();
    for owner in owners {
        *held.entry((owner.node, owner.node_epoch)).or_default() += 1;
    }
    for node in roster.nodes() {
        let current = roster.is_current(node.id, node.epoch);
        let count = if current { held.remove(&(node.id, node.epoch)).unwrap_or(0) } else { 0 };
        assert_eq!(node.connections, count, "of node {}", node.id);
    }
    let orphans: BTreeMap<_, _> = roster.orphans().map(|left| ((left.node, left.epoch), left.remaining)).collect();
    assert_eq!(held, orphans, "whoever is held by no living epoch is waiting for its reaper");
}

fn limits_hold(before: &Roster, after: &Roster) {
    let limits = after.limits();
    if after.connections() > before.connections() {
        assert!(limits.max_connections.is_none_or(|most| after.connections() <= most));
    }
    for node in after.nodes() {
        let earlier = before.node(node.id).filter(|earlier| earlier.epoch == node.epoch);
        if node.connections > earlier.map_or(0, |earlier| earlier.connections) {
            assert!(limits.max_connections_per_node.is_none_or(|most| node.connections <= most));
        }
    }
}

/// Turns wishes into batches as the nodes would make them, and keeps the log.
struct Author {
    log: Vec<(u64, Batch)>,
    now: u64,
    numbers: BTreeMap<(NodeId, u64), u64>,
}

impl Author {
    fn write(&mut self, roster: &Roster, step: &Step) -> Option<Batch> {
        match step {
            Step::Batch { node, wishes } => {
                let node = roster.node(NODES[*node])?;
                let kinds: Vec<_> = wishes.iter().map(|wish| to_command(roster, wish)).collect();
                Some(self.number(node.id, node.epoch, kinds))
            }
            Step::Again { back } => self.log.iter().rev().nth(*back).map(|(_, batch)| batch.clone()),
            Step::Up { node, boot } => {
                let kind = command::Kind::NodeUp(arrival(NODES[*node], *boot));
                Some(batch(NODES[*node], 0, *boot, [kind]))
            }
            Step::Limits { all, node } => {
                let limits = Limits { max_connections: *all, max_connections_per_node: *node };
                let proposer = roster.nodes().find(|node| roster.is_current(node.id, node.epoch))?;
                Some(self.number(proposer.id, proposer.epoch, [command::Kind::SetLimits(limits)]))
            }
            Step::Wait { millis } => {
                self.now += millis;
                None
            }
        }
    }

    fn number(&mut self, node: NodeId, epoch: u64, kinds: impl IntoIterator<Item = command::Kind>) -> Batch {
        let number = self.numbers.entry((node, epoch)).or_default();
        *number += 1;
        batch(node, epoch, *number, kinds)
    }
}

fn to_command(roster: &Roster, wish: &Wish) -> command::Kind {
    let epoch =
        |id: &usize, behind: &u64| roster.session(IDS[*id]).map_or(1, |session| session.epoch).saturating_sub(*behind);
    match wish {
        Wish::Claim { id, clean_start, expiry, will } => command::Kind::Claim(Claim {
            clean_start: *clean_start,
            session_expiry: *expiry,
            will: will.map(|(delay, retain)| Will { delay, retain, ..Will::default() }),
            ..clean(IDS[*id])
        }),
        Wish::Release { id, behind, expiry, without_will } => command::Kind::Release(Release {
            session_expiry: *expiry,
            without_will: *without_will,
            ..release(IDS[*id], epoch(id, behind))
        }),
        Wish::Subscribe { id, behind, filters } => command::Kind::Subscribe(Subscribe {
            client_id: IDS[*id].into(),
            epoch: epoch(id, behind),
            subscriptions: filters.iter().map(|(filter, qos)| subscription(FILTERS[*filter], *qos)).collect(),
            max_filters: MAX_FILTERS,
        }),
        Wish::Unsubscribe { id, behind, filters } => command::Kind::Unsubscribe(Unsubscribe {
            client_id: IDS[*id].into(),
            epoch: epoch(id, behind),
            filters: filters.iter().map(|filter| FILTERS[*filter].into()).collect(),
        }),
        Wish::Kick { id, purge } => command::Kind::Kick(Kick { client_id: IDS[*id].into(), purge: *purge }),
        Wish::ExpireAll => command::Kind::Expire(Expire { client_ids: IDS.map(String::from).to_vec() }),
        Wish::Draining => command::Kind::NodeDraining(NodeDraining {}),
        Wish::Stopped => command::Kind::NodeStopped(NodeStopped {}),
        Wish::Down { node } => {
            let node = NODES[*node];
            command::Kind::NodeDown(NodeDown { node, epoch: roster.node(node).map_or(0, |node| node.epoch) })
        }
        Wish::Reap { limit } => {
            let of = roster.orphans().next();
            let (node, epoch) = of.map_or((A, 1), |orphans| (orphans.node, orphans.epoch));
            command::Kind::Reap(Reap { node, epoch, limit: *limit })
        }
        Wish::Overflowed { id, behind } => {
            let incarnation = roster.session(IDS[*id]).map_or(1, |session| session.incarnation);
            let incarnation = incarnation.saturating_sub(*behind);
            command::Kind::Overflowed(Overflowed { client_id: IDS[*id].into(), incarnation })
        }
        Wish::FireAll => command::Kind::FireWills(FireWills { wills: roster.due_wills(u64::MAX, usize::MAX) }),
        Wish::MatchAll => {
            command::Kind::MatchWills(MatchWills { wills: roster.firing().map(|will| will.id()).collect() })
        }
        Wish::DropFirst => {
            let first = roster.matched_after(0).next();
            command::Kind::DropWills(DropWills { numbers: first.map(|will| will.number).into_iter().collect() })
        }
    }
}

fn bytes(roster: &Roster) -> Vec<u8> {
    let mut bytes = Vec::new();
    roster.write_to(&mut bytes).unwrap();
    bytes
}

/// All three up, then the steps; the copy made of a snapshot halfway must go on exactly as the original.
fn live_through(steps: &[Step]) {
    let mut roster = Roster::default();
    let mut copy: Option<Roster> = None;
    let mut watcher = Watcher::new();
    let mut estate = Estate::default();
    let mut author = Author { log: Vec::new(), now: 1_000, numbers: BTreeMap::new() };
    let ups = (0..NODES.len()).map(|node| Step::Up { node, boot: 1 }).collect::<Vec<_>>();
    for (at, step) in ups.iter().chain(steps).enumerate() {
        if at == ups.len() + steps.len() / 2 {
            copy = Some(Roster::read_from(&mut bytes(&roster).as_slice()).unwrap());
        }
        let Some(batch) = author.write(&roster, step) else { continue };
        author.log.push((author.now, batch.clone()));
        let before = roster.clone();
        let effects = roster.apply(author.now, &batch);
        watcher.follow(&effects);
        watcher.agrees_with(&roster);
        estate.follow(&batch, &effects, &roster);
        counts_hold(&roster);
        limits_hold(&before, &roster);
        if let Some(copy) = &mut copy {
            assert_eq!(format!("{:?}", copy.apply(author.now, &batch)), format!("{effects:?}"));
        }
    }
    watcher.routes_are_those_of(&roster);
    assert_eq!(copy.map(|copy| bytes(&copy)), Some(bytes(&roster)), "a snapshot carries everything");
    let mut replayed = Roster::default();
    for (time, batch) in &author.log {
        replayed.apply(*time, batch);
    }
    assert_eq!(bytes(&replayed), bytes(&roster), "the same log, the same state");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_nodes_ask_for_the_roster_keeps_its_promises(steps in vec(step(), 1..80)) {
        live_through(&steps);
    }
}
