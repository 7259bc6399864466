//! The roster: the replicated state machine of nodes, sessions, subscriptions, limits, wills and placements.
//!
//! `apply` is a pure function of the log: same entries, same state, same events, on every node. It reads no clock (time
//! comes with the entry), no random number and no hash order.

mod event;
pub mod level;
mod list;
mod node;
mod placement;
mod plan;
mod session;
mod snapshot;
mod subscription;
#[cfg(test)]
mod tests;
mod will;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_proto::schema::roster::{
    Batch, Command, Conflict, Done, Event, Found, Limits, Node, NodeState, Orphans, Outcome, Placement, Reason, Stale,
    SubscriptionOptions, command, outcome,
};

pub use list::{SessionFilter, SessionPage};
pub use placement::{SLOTS, slot_of};
pub use plan::plan;
pub use session::{Owner, Session};
pub use subscription::EVENTS_PREFIX;
pub use will::PendingWill;

use crate::pages::PageMap;
use will::Wills;

/// A node's random identity, kept on its disk.
pub type NodeId = u64;

/// Never expires [MQTT 5.0 §3.1.2.11.2].
pub const NEVER: u32 = u32::MAX;

#[derive(Debug, Clone, Default)]
pub struct Roster {
    cluster_id: u64,
    limits: Limits,
    /// Of the last entry; milliseconds since 1970.
    time: u64,
    /// Of the last event.
    seq: u64,
    /// No forgotten client id ever had a higher epoch: an unknown one starts above it.
    forgotten_epoch: u64,
    /// Sessions with an owner, of living and of ended node epochs: what the limit counts.
    connections: u64,
    nodes: BTreeMap<NodeId, Node>,
    /// By node and ended epoch: what still has to be released.
    orphans: BTreeMap<(NodeId, u64), Orphans>,
    sessions: PageMap<Session>,
    /// Of connections that have ended.
    wills: Wills,
    /// By shard number, which begins at 1.
    placements: Vec<Placement>,
    replicas: u32,
    /// Nodes that are members no more.
    removed: BTreeSet<NodeId>,
    /// How often the feature level was raised.
    raised: u32,
}

/// A connection that no longer owns its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub client_id: Arc<str>,
    pub owner: Owner,
    pub epoch: u64,
    pub reason: Reason,
}

/// How the tables of live and of kept subscriptions changed.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteChange {
    /// A live session's was added, or given other options.
    Add {
        filter: Arc<str>,
        client_id: Arc<str>,
        owner: Owner,
        options: SubscriptionOptions,
        /// The session has an inbox for what comes at QoS 1 and 2.
        durable: bool,
        /// Where a subscription of this owner was there and only its options changed.
        before: Option<SubscriptionOptions>,
    },
    Remove {
        filter: Arc<str>,
        client_id: Arc<str>,
        owner: Owner,
        options: SubscriptionOptions,
        durable: bool,
    },
    /// A durable session's was added, or given other options: it is there whether or not anyone owns the session.
    Keep {
        filter: Arc<str>,
        client_id: Arc<str>,
        incarnation: u64,
        options: SubscriptionOptions,
    },
    Unkeep {
        filter: Arc<str>,
        client_id: Arc<str>,
    },
}

/// What applying one batch brought about, for the shell to carry out.
#[derive(Debug, Default)]
pub struct Effects {
    pub events: Vec<Event>,
    pub routes: Vec<RouteChange>,
    pub lost: Vec<Lost>,
    /// Node epochs that ended by this batch, through no wish of their node.
    pub fenced: Vec<(NodeId, u64)>,
    /// Published by this batch, in order: every node gives them to its live sessions.
    pub wills: Vec<Arc<PendingWill>>,
    /// Placements have changed.
    pub placed: bool,
    /// One per command.
    pub outcomes: Vec<Outcome>,
}

/// Who proposed the batch: the owner it speaks for, and the name its events bear when it speaks for the dead.
#[derive(Debug, Clone)]
struct Proposer {
    node: NodeId,
    epoch: u64,
    address: String,
    name: String,
}

impl Roster {
    /// `time` is the leader's stamp; the roster's own time never goes back.
    pub fn apply(&mut self, time: u64, batch: &Batch) -> Effects {
        self.time = self.time.max(time);
        let mut effects = Effects::default();
        if batch.node_epoch == 0 {
            self.apply_arrival(batch, &mut effects);
            return effects;
        }
        let Some(node) = self.nodes.get(&batch.node).filter(|_| self.is_current(batch.node, batch.node_epoch)) else {
            effects.outcomes = batch.commands.iter().map(|_| outcome_of(outcome::Kind::Stale(Stale {}))).collect();
            return effects;
        };
        if batch.number <= node.last_number {
            if batch.number == node.last_number {
                effects.outcomes.clone_from(&node.last_outcomes);
            }
            return effects;
        }
        let proposer = Proposer {
            node: batch.node,
            epoch: batch.node_epoch,
            address: node.mqtt_address.clone(),
            name: node.name.clone(),
        };
        for command in &batch.commands {
            // An earlier command of this very batch may have ended the proposer's epoch.
            let living = self.is_current(batch.node, batch.node_epoch);
            let kind = if living { self.apply_command(&proposer, command, &mut effects) } else { stale() };
            effects.outcomes.push(outcome_of(kind));
        }
        if let Some(node) = self.nodes.get_mut(&batch.node) {
            node.last_number = batch.number;
            node.last_outcomes.clone_from(&effects.outcomes);
        }
        effects
    }

    /// The batch of a node that has no epoch yet.
    fn apply_arrival(&mut self, batch: &Batch, effects: &mut Effects) {
        for command in &batch.commands {
            let kind = match &command.kind {
                Some(command::Kind::Found(found)) => self.found(found, effects),
                Some(command::Kind::NodeUp(up)) => self.node_up(batch.node, up, effects),
                Some(command::Kind::Recovered(recovered)) => self.recovered(recovered, effects),
                Some(_) | None => outcome::Kind::Stale(Stale {}),
            };
            effects.outcomes.push(outcome_of(kind));
        }
    }

    fn apply_command(&mut self, proposer: &Proposer, command: &Command, effects: &mut Effects) -> outcome::Kind {
        use command::Kind;
        match &command.kind {
            Some(Kind::Claim(claim)) => self.claim(proposer, claim, effects),
            Some(Kind::Release(release)) => self.release(proposer, release, effects),
            Some(Kind::Subscribe(subscribe)) => self.subscribe(proposer, subscribe, effects),
            Some(Kind::Unsubscribe(unsubscribe)) => self.unsubscribe(proposer, unsubscribe, effects),
            Some(Kind::Kick(kick)) => self.kick(proposer, kick, effects),
            Some(Kind::Expire(expire)) => self.expire(expire, effects),
            Some(Kind::TurnedAway(turned_away)) => self.turned_away(proposer, turned_away, effects),
            Some(Kind::Overflowed(overflowed)) => self.overflowed(proposer, overflowed, effects),
            Some(Kind::FireWills(fire)) => self.fire_wills(fire, effects),
            Some(Kind::MatchWills(committed)) => self.match_wills(committed, effects),
            Some(Kind::DropWills(everywhere)) => self.drop_wills(everywhere),
            Some(Kind::Place(place)) => self.place(place, effects),
            Some(Kind::SetLimits(limits)) => {
                self.limits = *limits;
                done()
            }
            Some(Kind::NodeDraining(_)) => self.node_draining(proposer),
            Some(Kind::NodeStopped(_)) => self.node_stopped(proposer),
            Some(Kind::NodeDown(down)) => self.node_down(down, effects),
            Some(Kind::NodeLeaving(leaving)) => self.node_leaving(leaving.node),
            Some(Kind::NodeRemoved(removed)) => self.node_removed(removed.node, effects),
            Some(Kind::Reap(reap)) => self.reap(proposer, reap, effects),
            Some(Kind::Found(found)) => self.found(found, effects),
            Some(Kind::RaiseLevel(raise)) => self.raise_level(raise),
            Some(Kind::NodeUp(_)) => conflict("a node that is up cannot come up"),
            Some(Kind::Recovered(_)) => conflict("a cluster that is at work is not recovered"),
            None => unknown(),
        }
    }

    fn found(&mut self, found: &Found, effects: &mut Effects) -> outcome::Kind {
        if self.cluster_id == 0 {
            self.cluster_id = found.cluster_id;
            self.limits = found.limits.unwrap_or_default();
            self.found_shards(found, effects);
        }
        done()
    }

    /// Whether that epoch of that node may still act.
    pub fn is_current(&self, node: NodeId, epoch: u64) -> bool {
        self.nodes.get(&node).is_some_and(|record| {
            record.epoch == epoch && matches!(record.state(), NodeState::Up | NodeState::Draining)
        })
    }

    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Milliseconds since 1970, as of the last entry.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// `seq` of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Connections that the limit counts.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// While a node is replaced there are two of its name: the newer one counts.
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        self.nodes.values().filter(|node| node.name == name).min_by_key(|node| node.leaving)
    }

    pub fn was_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    /// The node that is on its way out of the cluster.
    pub fn leaving(&self) -> Option<&Node> {
        self.nodes.values().find(|node| node.leaving)
    }

    /// Ended node epochs whose sessions still have to be released.
    pub fn orphans(&self) -> impl Iterator<Item = &Orphans> {
        self.orphans.values()
    }

    pub fn session(&self, client_id: &str) -> Option<&Session> {
        self.sessions.get(client_id)
    }

    /// Sessions, online and offline.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Of every session that is online.
    pub fn owners(&self) -> impl Iterator<Item = Owner> + '_ {
        self.sessions.iter().filter_map(|(_, session)| session.owner)
    }

    /// All live and all kept subscriptions, to build a route table from.
    pub fn routes(&self) -> impl Iterator<Item = RouteChange> + '_ {
        self.sessions.iter().flat_map(|(id, session)| {
            let client_id: Arc<str> = id.into();
            let live = session.owner.map(|owner| session.live_routes(client_id.clone(), owner));
            let kept = session.durable.then(|| session.kept_routes(client_id));
            live.into_iter().flatten().chain(kept.into_iter().flatten())
        })
    }
}

fn outcome_of(kind: outcome::Kind) -> Outcome {
    Outcome { kind: Some(kind) }
}

fn done() -> outcome::Kind {
    outcome::Kind::Done(Done {})
}

fn stale() -> outcome::Kind {
    outcome::Kind::Stale(Stale {})
}

/// As of a command that is not there in every version.
fn unknown() -> outcome::Kind {
    conflict("a command that this version does not know")
}

fn conflict(why: &str) -> outcome::Kind {
    outcome::Kind::Conflict(Conflict { why: why.into() })
}
