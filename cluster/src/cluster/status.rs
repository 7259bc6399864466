//! What the groups are doing, and handing them over.

use std::io;
use std::sync::Arc;

use openraft::ServerState;
use rollcall_proto::schema::roster::NodeState;

use super::Cluster;
use crate::groups::Group;
use crate::raft::ROSTER;
use crate::roster::NodeId;

/// What this node knows of one Raft group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// 0 is the roster, the others are shards.
    pub number: u32,
    /// Whether this node runs a replica; without one it knows only the members.
    pub held: bool,
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Of the last entry in this node's log.
    pub last_index: u64,
    pub applied_index: u64,
    pub voters: Vec<NodeId>,
    /// Members that do not vote (yet).
    pub learners: Vec<NodeId>,
}

impl GroupStatus {
    /// `roster`, or `shard-` and the number.
    pub fn name(&self) -> String {
        if self.number == ROSTER { "roster".into() } else { format!("shard-{}", self.number) }
    }

    fn of(group: &Group) -> GroupStatus {
        let metrics = group.metrics();
        let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
        let nodes = metrics.membership_config.membership().nodes().map(|(id, _)| *id);
        GroupStatus {
            number: group.number,
            held: true,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            learners: nodes.filter(|id| !voters.contains(id)).collect(),
            voters,
        }
    }
}

/// Between an entry's effects and its index there are moments.
fn settled<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        match look() {
            Some(found) => return found,
            None => std::thread::yield_now(),
        }
    }
}

impl Cluster {
    /// The roster, then the shards by number.
    pub fn groups(&self) -> Vec<GroupStatus> {
        let running = self.inner.groups.all();
        let mut groups: Vec<GroupStatus> = running.iter().map(|group| GroupStatus::of(group)).collect();
        for placement in self.roster().placements() {
            if groups.iter().all(|group| group.number != placement.shard) {
                let voters = placement.members.clone();
                groups.push(GroupStatus { number: placement.shard, voters, ..GroupStatus::default() });
            }
        }
        groups.sort_by_key(|group| group.number);
        groups
    }

    /// What tells the applied states of a group's replicas apart, to be hashed, and the index it is the state of; `None`
    /// where there is no replica. It may take long, where it may block.
    pub fn outline(&self, group: u32, out: &mut impl io::Write) -> Option<io::Result<u64>> {
        if group == ROSTER {
            let (index, copy) = settled(|| self.inner.replica.exactly());
            return Some(copy.write_to(out).map(|()| index));
        }
        let replica = self.inner.groups.shard(group)?;
        let (index, copy) = settled(|| replica.exactly());
        Some(copy.write_outline_to(out).map(|()| index))
    }

    /// Lets others lead what this node leads.
    pub(super) async fn hand_over(&self) {
        for group in self.inner.groups.all() {
            if group.leading().is_none() {
                continue;
            }
            let next = if group.number == ROSTER { self.inner.desk.successor() } else { self.successor(&group) };
            if let Some(next) = next
                && let Err(error) = group.raft.trigger().transfer_leader(next).await
            {
                tracing::warn!(group = group.number, %error, "leadership could not be handed over");
            }
        }
    }

    /// The other voter that is up and has the most of the shard's log.
    fn successor(&self, group: &Arc<Group>) -> Option<NodeId> {
        let metrics = group.metrics();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let roster = self.roster();
        let up = |id: &NodeId| roster.node(*id).is_some_and(|node| node.state() == NodeState::Up);
        let matched = metrics.replication?;
        let others = metrics.membership_config.voter_ids().filter(|id| *id != self.me() && up(id));
        others.max_by_key(|id| matched.get(id).copied().flatten().map(|matched| matched.index))
    }
}
