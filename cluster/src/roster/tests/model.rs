//! Any commands in any order: what the roster promises must hold after each batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rollcall_proto::schema::roster::{
    Claim, Expire, Kick, Limits, NodeDown, NodeDraining, NodeStopped, Reap, Unsubscribe,
};

use super::*;
use crate::roster::{Owner, RouteChange};
use crate::routes::Routes;

const NODES: [NodeId; 3] = [A, B, C];
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const FILTERS: [&str; 5] = ["s/1", "s/2", "s/+", "#", "$events/#"];
/// One less than there are.
const MAX_FILTERS: u32 = 4;
const TOPICS: [&str; 3] = ["s/1", "s/2", "t"];

/// What one node may ask for; ids, filters and nodes by their place in the lists above.
#[derive(Debug, Clone)]
enum Wish {
    Claim { id: usize, clean_start: bool, expiry: u32 },
    Release { id: usize, behind: u64, expiry: Option<u32> },
    Subscribe { id: usize, behind: u64, filters: Vec<(usize, u32)> },
    Unsubscribe { id: usize, behind: u64, filters: Vec<usize> },
    Kick { id: usize, purge: bool },
    ExpireAll,
    Draining,
    Stopped,
    Down { node: usize },
    Reap { limit: u32 },
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
    prop_oneof![
        12 => (id(), any::<bool>(), expiry())
            .prop_map(|(id, clean_start, expiry)| Wish::Claim { id, clean_start, expiry }),
        5 => (id(), behind(), proptest::option::of(expiry()))
            .prop_map(|(id, behind, expiry)| Wish::Release { id, behind, expiry }),
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

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    online: Option<u64>,
    last: u64,
}

type Live = BTreeMap<(Arc<str>, Arc<str>), (Owner, SubscriptionOptions)>;

/// What an outsider knows who reads effects only.
struct Watcher {
    seq: u64,
    clients: BTreeMap<String, Told>,
    live: Live,
    routes: Vec<Routes>,
}

impl Watcher {
    fn new() -> Self {
        Watcher {
            seq: 0,
            clients: BTreeMap::new(),
            live: Live::new(),
            routes: NODES.iter().map(|node| Routes::new(*node)).collect(),
        }
    }

    fn follow(&mut self, effects: &Effects) {
        for event in &effects.events {
            self.hear(event);
        }
        for change in &effects.routes {
            self.route(change);
            for routes in &mut self.routes {
                routes.change(change);
            }
        }
        let ends = effects
            .events
            .iter()
            .filter(|event| event.epoch != 0 && matches!(event.body, Some(event::Body::Disconnected(_))));
        let ends: Vec<_> = ends.map(|event| (event.client_id.clone(), event.epoch)).collect();
        let lost: Vec<_> = effects.lost.iter().map(|lost| (lost.client_id.to_string(), lost.epoch)).collect();
        assert_eq!(ends, lost, "each lost connection is one event, and the other way round");
    }

    fn hear(&mut self, event: &Event) {
        assert_eq!(event.seq, self.seq + 1, "a gap");
        self.seq = event.seq;
        let client = self.clients.entry(event.client_id.clone()).or_default();
        match event.body.as_ref().unwrap() {
            event::Body::Connected(_) => {
                assert_eq!(client.online, None, "connected twice: {event:?}");
                assert!(event.epoch > client.last, "epochs rise: {event:?} after {client:?}");
                *client = Told { online: Some(event.epoch), last: event.epoch };
            }
            event::Body::Disconnected(_) if event.epoch == 0 => {}
            event::Body::Disconnected(_) => {
                assert_eq!(client.online.take(), Some(event.epoch), "{event:?}");
            }
            event::Body::Subscribed(_) | event::Body::Unsubscribed(_) => {
                assert_eq!(client.online, Some(event.epoch), "{event:?}");
            }
        }
    }

    fn route(&mut self, change: &RouteChange) {
        match change.clone() {
            RouteChange::Add { filter, client_id, owner, options, is_new } => {
                let before = self.live.insert((filter, client_id), (owner, options));
                assert_eq!(before.is_none(), is_new, "{change:?}");
                assert!(before.is_none_or(|before| before.0 == owner), "{change:?} without a removal");
            }
            RouteChange::Remove { filter, client_id, owner } => {
                let before = self.live.remove(&(filter, client_id));
                assert_eq!(before.map(|before| before.0), Some(owner), "{change:?}");
            }
        }
    }

    fn agrees_with(&self, roster: &Roster) {
        assert_eq!(roster.seq(), self.seq);
        let mut live = Live::new();
        for id in IDS {
            let session = roster.session(id);
            let online = session.filter(|session| session.owner.is_some()).map(|session| session.epoch);
            assert_eq!(self.clients.get(id).copied().unwrap_or_default().online, online, "{id}");
            assert!(session.is_none_or(|session| session.subscriptions.len() <= MAX_FILTERS as usize));
            let Some((session, owner)) = session.and_then(|session| Some((session, session.owner?))) else { continue };
            for (filter, options) in &session.subscriptions {
                live.insert((filter.clone(), id.into()), (owner, *options));
            }
        }
        assert_eq!(self.live, live);
    }

    fn routes_are_those_of(&self, roster: &Roster) {
        for (routes, node) in self.routes.iter().zip(NODES) {
            let mut rebuilt = Routes::new(node);
            for change in roster.routes() {
                rebuilt.change(&change);
            }
            for topic in TOPICS {
                assert_eq!(matched(routes, topic), matched(&rebuilt, topic), "{topic} on {node}");
            }
        }
    }
}

/// Every filter that matches; two of them may have the same subscribers.
fn matched(routes: &Routes, topic: &str) -> Vec<String> {
    let mut found = Vec::new();
    routes.for_each_match(topic, |route| found.push(format!("{route:?}")));
    found.sort();
    found
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
        Wish::Claim { id, clean_start, expiry } => {
            command::Kind::Claim(Claim { clean_start: *clean_start, session_expiry: *expiry, ..clean(IDS[*id]) })
        }
        Wish::Release { id, behind, expiry } => {
            command::Kind::Release(Release { session_expiry: *expiry, ..release(IDS[*id], epoch(id, behind)) })
        }
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
