//! What the roster's leader decides for all: which nodes hold which shards, and who votes in the roster.

use std::collections::BTreeSet;
use std::sync::Arc;

use rollcall_proto::schema::roster::{Place, Placement, command};
use tokio::time::Instant;

use super::electorate::Electorate;
use crate::courier::{Courier, Office};
use crate::groups::Group;
use crate::propose::Proposals;
use crate::roster::{NodeId, plan};

/// Shards looked at in one go to see whether their members have settled.
const LOOKS: usize = 8;

pub(crate) struct Planner {
    office: Arc<Office>,
    group: Arc<Group>,
    proposals: Proposals,
    electorate: Electorate,
    /// The term the rest belongs to, and since when this node leads in it.
    term: u64,
    since: Instant,
    /// Shards whose members may not be yet what the roster says. While there are any, none is moved.
    unsettled: BTreeSet<u32>,
}

impl Planner {
    pub(crate) fn new(office: Arc<Office>, group: Arc<Group>, proposals: Proposals) -> Self {
        let electorate = Electorate { office: office.clone(), group: group.clone(), proposals: proposals.clone() };
        Planner { office, group, proposals, electorate, term: 0, since: Instant::now(), unsettled: BTreeSet::new() }
    }

    /// While this node leads the roster.
    pub(crate) async fn look(&mut self, term: u64) {
        if term != self.term {
            self.term = term;
            self.since = Instant::now();
            let roster = self.office.replica.roster();
            self.unsettled = roster.placements().iter().map(|placement| placement.shard).collect();
        }
        self.place().await;
        self.electorate.look(self.unsettled.is_empty()).await;
    }

    async fn place(&mut self) {
        self.see_settled().await;
        let changes = self.changes();
        if changes.is_empty() {
            return;
        }
        // Leads may pass and new shards begin all at once; what moves data moves alone.
        let (moving, light) = self.split(changes);
        let step =
            if light.is_empty() && self.unsettled.is_empty() { moving.into_iter().take(1).collect() } else { light };
        if step.is_empty() {
            return;
        }
        let shards: Vec<u32> = step.iter().map(|placement: &Placement| placement.shard).collect();
        let place = Place { placements: step };
        match self.proposals.ask(command::Kind::Place(place)).await {
            Ok(_) => self.unsettled.extend(shards),
            Err(error) => tracing::warn!(%error, "shards could not be placed"),
        }
    }

    fn changes(&self) -> Vec<Placement> {
        let members = self.group.members();
        let voters = self.group.voters();
        let roster = self.office.replica.roster();
        let stays = |id: &NodeId| roster.node(*id).is_some_and(|node| !node.leaving);
        let nodes: Vec<NodeId> = members.into_keys().filter(stays).collect();
        // The first placement is better made when all are there than mended afterwards.
        let all_there = voters.iter().all(|voter| roster.node(*voter).is_some());
        if !all_there && self.since.elapsed() < self.office.config.node_timeout {
            return Vec::new();
        }
        plan(&nodes, roster.shard_count(), roster.replicas(), roster.placements())
    }

    /// Those that change who holds a shard that is held already, and the rest.
    fn split(&self, changes: Vec<Placement>) -> (Vec<Placement>, Vec<Placement>) {
        let roster = self.office.replica.roster();
        changes.into_iter().partition(|change| {
            let held = roster.placements().get(change.shard as usize - 1).map(|placement| &placement.members);
            held.is_some_and(|held| !held.is_empty() && set(held) != set(&change.members))
        })
    }

    async fn see_settled(&mut self) {
        let looked: Vec<u32> = self.unsettled.iter().copied().take(LOOKS).collect();
        for shard in looked {
            let members = Courier::new(self.office.clone(), shard).settled_members().await;
            let roster = self.office.replica.roster();
            let placement = roster.placements().get(shard as usize - 1);
            let settled = placement.is_none_or(|placement| {
                let placed = set(&placement.members);
                placed.is_empty()
                    || placement.formed && members.as_deref().is_some_and(|members| set(members) == placed)
            });
            if settled {
                self.unsettled.remove(&shard);
            }
        }
    }
}

fn set(members: &[NodeId]) -> BTreeSet<NodeId> {
    members.iter().copied().collect()
}
