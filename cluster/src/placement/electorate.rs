//! Who votes in the roster, and seeing off a node that leaves the cluster. The roster's leader does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;
use rollcall_proto::schema::node::DrainRequest;
use rollcall_proto::schema::roster::{Node, NodeRemoved, command};
use tokio::time::timeout;

use crate::courier::Office;
use crate::groups::Group;
use crate::propose::Proposals;
use crate::raft::Metrics;
use crate::roster::NodeId;

/// Entries by which a learner may be behind when it becomes a voter.
const BEHIND: u64 = 100;

pub(super) struct Electorate {
    pub office: Arc<Office>,
    pub group: Arc<Group>,
    pub proposals: Proposals,
}

impl Electorate {
    /// One step. `settled`: every shard's members are what the roster says.
    pub(super) async fn look(&self, settled: bool) {
        let metrics = self.group.metrics();
        if metrics.membership_config != metrics.committed_membership_config {
            return;
        }
        let leaving = self.office.replica.roster().leaving().cloned();
        match leaving {
            Some(leaving) => self.see_off(&leaving, &metrics, settled).await,
            None => self.promote(&metrics).await,
        }
    }

    /// Learners that have caught up become voters, as many as leave an odd number.
    async fn promote(&self, metrics: &Metrics) {
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().collect();
        let candidates = self.candidates(metrics);
        let count = promotions(voters.len(), candidates.len(), self.office.config.voters);
        if count > 0 {
            let promoted: BTreeSet<NodeId> = candidates.into_iter().take(count).collect();
            self.change(ChangeMembers::AddVoterIds(promoted)).await;
        }
    }

    /// Learners that are to stay, are in touch, and have nearly everything.
    fn candidates(&self, metrics: &Metrics) -> Vec<NodeId> {
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = |id: &NodeId| metrics.replication.as_ref()?.get(id).copied().flatten();
        let has_caught_up = |id: &NodeId| matched(id).is_some_and(|matched| matched.index + BEHIND >= last);
        self.learners(metrics).into_iter().filter(has_caught_up).collect()
    }

    fn learners(&self, metrics: &Metrics) -> Vec<NodeId> {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let roster = self.office.replica.roster();
        let stays = |id: &NodeId| roster.node(*id).is_some_and(|node| !node.leaving);
        let learners = membership.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id));
        learners.filter(|id| stays(id) && self.office.desk.is_in_touch(*id)).collect()
    }

    /// First its vote goes to another, or nowhere; then its shards, which the plan sees to; then it is drained, and then
    /// it is a stranger.
    async fn see_off(&self, leaving: &Node, metrics: &Metrics, settled: bool) {
        let (id, membership) = (leaving.id, metrics.membership_config.membership());
        if membership.voter_ids().any(|voter| voter == id) {
            return self.take_vote(id, metrics).await;
        }
        let (holds, is_current, has_orphans) = {
            let roster = self.office.replica.roster();
            let holds = roster.placements().iter().any(|placement| placement.members.contains(&id));
            let has_orphans = roster.orphans().any(|orphans| orphans.node == id);
            (holds, roster.is_current(id, leaving.epoch), has_orphans)
        };
        if holds || !settled {
            return;
        }
        if is_current {
            return self.drain(leaving).await;
        }
        if has_orphans {
            return;
        }
        if membership.get_node(&id).is_some() {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        match self.proposals.ask(command::Kind::NodeRemoved(NodeRemoved { node: id })).await {
            Ok(_) => tracing::info!(node = leaving.name, "a node is no member of the cluster any more"),
            Err(error) => tracing::warn!(%error, node = leaving.name, "a node could not be removed yet"),
        }
    }

    async fn take_vote(&self, id: NodeId, metrics: &Metrics) {
        if id == self.office.replica.me() {
            // Who leaves does not lead its own leaving.
            if let Some(next) = self.office.desk.successor()
                && let Err(error) = self.group.raft.trigger().transfer_leader(next).await
            {
                tracing::warn!(%error, "leadership could not be handed over");
            }
            return;
        }
        let candidate = self.candidates(metrics).into_iter().next();
        if candidate.is_none() && !self.learners(metrics).is_empty() {
            // It takes the vote as soon as it has caught up.
            return;
        }
        let mut voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().collect();
        voters.remove(&id);
        voters.extend(candidate);
        let in_touch = voters.iter().filter(|voter| self.office.desk.is_in_touch(**voter)).count();
        if in_touch * 2 <= voters.len() {
            tracing::warn!(in_touch, voters = voters.len(), "without the node that leaves there would be no majority");
            return;
        }
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await;
    }

    /// Nothing but its clients holds it now.
    async fn drain(&self, leaving: &Node) {
        let Ok(mut client) = self.office.peers.client(&leaving.rpc_address) else { return };
        let asking = client.drain(DrainRequest { node: leaving.id });
        match timeout(self.office.config.rpc_timeout, asking).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::debug!(%status, node = leaving.name, "a node that leaves does not drain"),
            Err(_) => tracing::debug!(node = leaving.name, "a node that leaves does not answer"),
        }
    }

    async fn change(&self, change: ChangeMembers<u64, crate::raft::Member>) {
        match self.group.raft.change_membership(change, true).await {
            Ok(_) => tracing::info!(voters = self.group.voters().len(), "the roster has other members"),
            Err(error) => tracing::warn!(%error, "the roster's members could not be changed"),
        }
    }
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
