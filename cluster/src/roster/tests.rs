//! The roster, command by command; `model` holds it against what it promises under any commands.

mod batches;
mod claims;
mod durable;
mod level;
mod limits;
mod model;
mod nodes;
mod overflow;
mod placement;
mod plan;
mod releases;
mod subscriptions;
mod wills;

use std::collections::BTreeMap;

use rollcall_proto::schema::roster::{
    Batch, Claim, Command, Event, Found, Granted, Limits, NodeUp, Reason, Release, Subscribe, Subscription,
    SubscriptionOptions, command, event, outcome,
};

use super::{Effects, NodeId, Roster, RouteChange};

pub(super) const A: NodeId = 1;
pub(super) const B: NodeId = 2;
pub(super) const C: NodeId = 3;

/// A roster, and the batch numbers of the nodes that speak to it.
#[derive(Default)]
pub(super) struct Bench {
    pub roster: Roster,
    pub now: u64,
    numbers: BTreeMap<(NodeId, u64), u64>,
}

impl Bench {
    /// Nodes A, B and C are up, all with epoch 1.
    pub fn new() -> Self {
        let mut bench = Bench { now: 1_000_000, ..Bench::default() };
        for node in [A, B, C] {
            assert_eq!(bench.up(node, 77).0, 1);
        }
        bench
    }

    pub fn with_limits(limits: Limits) -> Self {
        let mut bench = Bench::new();
        bench.run(A, command::Kind::SetLimits(limits));
        bench
    }

    /// The epoch granted.
    pub fn up(&mut self, node: NodeId, boot: u64) -> (u64, Effects) {
        let kinds = [
            command::Kind::Found(Found { cluster_id: 9, ..Found::default() }),
            command::Kind::NodeUp(arrival(node, boot)),
        ];
        let mut effects = self.apply(&batch(node, 0, boot, kinds));
        match effects.outcomes.pop().and_then(|outcome| outcome.kind) {
            Some(outcome::Kind::NodeEpoch(granted)) => (granted.epoch, effects),
            other => panic!("not up: {other:?}"),
        }
    }

    pub fn epoch_of(&self, node: NodeId) -> u64 {
        self.roster.node(node).unwrap().epoch
    }

    pub fn apply(&mut self, batch: &Batch) -> Effects {
        self.roster.apply(self.now, batch)
    }

    /// The next batch of a node's current epoch.
    pub fn next(&mut self, node: NodeId, kinds: impl IntoIterator<Item = command::Kind>) -> Batch {
        let epoch = self.epoch_of(node);
        let number = self.numbers.entry((node, epoch)).or_default();
        *number += 1;
        batch(node, epoch, *number, kinds)
    }

    /// One command of a node, in a batch of its own.
    pub fn run(&mut self, node: NodeId, kind: command::Kind) -> (outcome::Kind, Effects) {
        let batch = self.next(node, [kind]);
        let effects = self.apply(&batch);
        assert_eq!(effects.outcomes.len(), 1);
        (effects.outcomes[0].kind.clone().unwrap(), effects)
    }

    pub fn claim(&mut self, node: NodeId, claim: Claim) -> (outcome::Kind, Effects) {
        self.run(node, command::Kind::Claim(claim))
    }

    /// A claim that must succeed; its epoch.
    pub fn granted(&mut self, node: NodeId, claim: Claim) -> u64 {
        match self.claim(node, claim).0 {
            outcome::Kind::Granted(Granted { epoch, .. }) => epoch,
            other => panic!("not granted: {other:?}"),
        }
    }

    pub fn release(&mut self, node: NodeId, client_id: &str, epoch: u64) -> (outcome::Kind, Effects) {
        self.run(node, command::Kind::Release(release(client_id, epoch)))
    }

    pub fn subscribe(
        &mut self,
        node: NodeId,
        client_id: &str,
        epoch: u64,
        filters: &[&str],
    ) -> (outcome::Kind, Effects) {
        let subscriptions = filters.iter().map(|filter| subscription(filter, 1)).collect();
        let client_id = client_id.into();
        self.run(node, command::Kind::Subscribe(Subscribe { client_id, epoch, subscriptions, max_filters: 0 }))
    }

    pub fn is_online(&self, client_id: &str) -> bool {
        self.roster.session(client_id).is_some_and(|session| session.owner.is_some())
    }
}

/// What a claim is answered.
pub(super) fn grant(epoch: u64, session_present: bool, incarnation: u64, durable: bool) -> outcome::Kind {
    outcome::Kind::Granted(Granted { epoch, session_present, incarnation, durable })
}

/// The roster of a snapshot.
pub(super) fn restored(roster: &Roster) -> Roster {
    let mut bytes = Vec::new();
    roster.write_to(&mut bytes).unwrap();
    Roster::read_from(&mut bytes.as_slice()).unwrap()
}

pub(super) fn batch(node: NodeId, epoch: u64, number: u64, kinds: impl IntoIterator<Item = command::Kind>) -> Batch {
    let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
    Batch { node, node_epoch: epoch, number, commands }
}

pub(super) fn arrival(node: NodeId, boot: u64) -> NodeUp {
    NodeUp {
        boot,
        name: format!("node-{node}"),
        mqtt_address: format!("10.0.0.{node}:1883"),
        rpc_address: format!("10.0.0.{node}:7000"),
        http_address: format!("10.0.0.{node}:8080"),
        version: "0.1.0".into(),
    }
}

pub(super) fn address(node: NodeId) -> String {
    arrival(node, 0).mqtt_address
}

/// Clean start, expiry 0.
pub(super) fn clean(client_id: &str) -> Claim {
    Claim {
        client_id: client_id.into(),
        connection: 5,
        protocol_level: 5,
        clean_start: true,
        keep_alive: 60,
        session_expiry: 0,
        username: Some("ann".into()),
        peername: "192.0.2.7:50000".into(),
        sockname: "192.0.2.1:1883".into(),
        ..Claim::default()
    }
}

/// Resumes; expires an hour after the disconnect.
pub(super) fn lasting(client_id: &str) -> Claim {
    Claim { clean_start: false, session_expiry: 3600, ..clean(client_id) }
}

pub(super) fn release(client_id: &str, epoch: u64) -> Release {
    Release { client_id: client_id.into(), epoch, reason: Reason::Normal.into(), ..Release::default() }
}

pub(super) fn subscription(filter: &str, qos: u32) -> Subscription {
    Subscription { filter: filter.into(), options: Some(SubscriptionOptions { qos, ..SubscriptionOptions::default() }) }
}

/// Each event in a word or two.
pub(super) fn told(effects: &Effects) -> Vec<String> {
    effects.events.iter().map(tell).collect()
}

fn tell(event: &Event) -> String {
    let what = match event.body.as_ref().unwrap() {
        event::Body::Connected(_) => "connected".into(),
        event::Body::Disconnected(end) => format!("disconnected {:?}", end.reason()),
        event::Body::Subscribed(to) => format!("subscribed {}", to.filter),
        event::Body::Unsubscribed(from) => format!("unsubscribed {}", from.filter),
    };
    format!("{} {} {what} on {}", event.client_id, event.epoch, event.node_name)
}

/// The changes of routes in a word or two: the filter, and for live ones the node.
pub(super) fn routed(changes: &[RouteChange]) -> Vec<String> {
    let tell = |change: &RouteChange| match change {
        RouteChange::Add { filter, owner, .. } => format!("add {filter} {}", owner.node),
        RouteChange::Remove { filter, owner, .. } => format!("remove {filter} {}", owner.node),
        RouteChange::Keep { filter, incarnation, .. } => format!("keep {filter} of {incarnation}"),
        RouteChange::Unkeep { filter, .. } => format!("unkeep {filter}"),
    };
    changes.iter().map(tell).collect()
}
