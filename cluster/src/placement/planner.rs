//! What the roster's leader decides for all: who votes in the roster, and which nodes hold which shards.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;
use rollcall_proto::schema::roster::{Place, Placement, command};
use tokio::time::Instant;

use crate::courier::{Courier, Office};
use crate::groups::Group;
use crate::propose::Proposals;
use crate::roster::{NodeId, plan};

/// Entries by which a learner may be behind when it becomes a voter.
const BEHIND: u64 = 100;
/// Shards looked at in one go to see whether their members have settled.
const LOOKS: usize = 8;

pub(crate) struct Planner {
    office: Arc<Office>,
    group: Arc<Group>,
    proposals: Proposals,
    /// The term the rest belongs to, and since when this node leads in it.
    term: u64,
    since: Instant,
    /// Shards whose members may not be yet what the roster says. While there are any, none is moved.
    unsettled: BTreeSet<u32>,
}

impl Planner {
    pub(crate) fn new(office: Arc<Office>, group: Arc<Group>, proposals: Proposals) -> Self {
        Planner { office, group, proposals, term: 0, since: Instant::now(), unsettled: BTreeSet::new() }
    }

    /// While this node leads the roster.
    pub(crate) async fn look(&mut self, term: u64) {
        if term != self.term {
            self.term = term;
            self.since = Instant::now();
            let roster = self.office.replica.roster();
            self.unsettled = roster.placements().iter().map(|placement| placement.shard).collect();
        }
        self.promote().await;
        self.place().await;
    }

    /// Learners that have caught up become voters, as many as leave an odd number.
    async fn promote(&self) {
        let metrics = self.group.metrics();
        if metrics.membership_config != metrics.committed_membership_config {
            return;
        }
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |id: &NodeId| metrics.replication.as_ref()?.get(id).copied().flatten();
        let ready = |id: &NodeId| {
            self.office.desk.is_in_touch(*id) && matched(id).is_some_and(|matched| matched.index + BEHIND >= last)
        };
        let learners = membership.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id));
        let candidates: Vec<NodeId> = learners.filter(ready).collect();
        let count = promotions(voters.len(), candidates.len(), self.office.config.voters);
        if count == 0 {
            return;
        }
        let promoted: BTreeSet<NodeId> = candidates.into_iter().take(count).collect();
        match self.group.raft.change_membership(ChangeMembers::AddVoterIds(promoted), true).await {
            Ok(_) => tracing::info!(voters = voters.len() + count, "the roster has more voters"),
            Err(error) => tracing::warn!(%error, "learners could not become voters"),
        }
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
        let nodes: Vec<NodeId> = members.into_keys().filter(|id| roster.node(*id).is_some()).collect();
        // The first placement is better made when all are there than mended afterwards.
        let all_there = voters.iter().all(|voter| nodes.contains(voter));
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

/// How many candidates become voters: the voters are then an odd number, and no more than may be.
fn promotions(voters: usize, candidates: usize, most: usize) -> usize {
    let reachable = (voters + candidates).min(most);
    let odd = if reachable % 2 == 1 { reachable } else { reachable.saturating_sub(1) };
    odd.saturating_sub(voters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learners_become_voters_only_in_numbers_that_leave_them_odd_and_few_enough() {
        let cases = [((1, 1, 5), 0), ((1, 2, 5), 2), ((3, 1, 5), 0), ((3, 2, 5), 2), ((3, 5, 5), 2), ((5, 4, 5), 0)];
        for ((voters, candidates, most), expected) in cases {
            assert_eq!(promotions(voters, candidates, most), expected, "{voters} voters, {candidates} candidates");
        }
        assert_eq!(promotions(2, 1, 5), 1, "an even beginning is mended");
        assert_eq!(promotions(7, 2, 5), 0, "nobody is demoted");
    }
}
