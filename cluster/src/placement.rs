//! Where shards are, carried out: every node runs the shards that the roster places on it and lets go of the others;
//! each shard's leader brings the group's members to what the roster says; the roster's leader plans.

mod electorate;
mod planner;
mod tender;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::roster::Placement;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::courier::{Courier, Office};
use crate::groups::Group;
use crate::propose::Proposals;
use crate::raft::Member;
use crate::roster::{NodeId, Roster};
use crate::shard::hand_on::HandOn;
use crate::shard::janitor::Janitor;
use crate::shard::spill::Spill;
use crate::shard::{ShardReplica, Shards};

pub(crate) use planner::Planner;
use tender::Tender;

/// Between two looks at what the roster has placed here.
const LOOK: Duration = Duration::from_millis(100);
/// Before a shard that could not be started, or is still needed, is looked at again.
const AGAIN: Duration = Duration::from_secs(2);

/// What the roster says of one shard, if it has a place at all.
pub(crate) fn placement_of(roster: &Roster, shard: u32) -> Option<&Placement> {
    let at = shard.checked_sub(1)? as usize;
    roster.placements().get(at).filter(|placement| !placement.members.is_empty())
}

/// How a node is reached, by the roster.
fn member_of(roster: &Roster, node: NodeId) -> Option<Member> {
    roster.node(node).map(|node| Member { rpc_address: node.rpc_address.clone(), name: node.name.clone() })
}

/// One node's.
pub(crate) struct Steward {
    office: Arc<Office>,
    shards: Arc<Shards>,
    spill: Arc<Spill>,
    proposals: Proposals,
    /// Shards that are left alone until then.
    later: BTreeMap<u32, Instant>,
    /// Shards of which the disk holds nothing.
    absent: BTreeSet<u32>,
}

impl Steward {
    pub(crate) fn new(office: Arc<Office>, shards: Arc<Shards>, spill: Arc<Spill>, proposals: Proposals) -> Self {
        Steward { office, shards, spill, proposals, later: BTreeMap::new(), absent: BTreeSet::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let placements = self.office.replica.roster().placements().to_vec();
            let me = self.office.replica.me();
            self.later.retain(|_, until| *until > Instant::now());
            for placement in &placements {
                if self.later.contains_key(&placement.shard) {
                    continue;
                }
                let mine = placement.members.contains(&me);
                let runs = self.office.groups.get(placement.shard).is_some();
                match (mine, runs) {
                    (true, false) => self.start(placement.shard).await,
                    (true, true) if !placement.formed => self.form(placement).await,
                    (false, true) => self.let_go(placement).await,
                    // What a stop has left behind half removed: whether it is still needed its members say.
                    (false, false) if self.has_remains(placement.shard) => self.start(placement.shard).await,
                    (true, true) | (false, false) => {}
                }
            }
        }
    }

    /// Looked for once.
    fn has_remains(&mut self, shard: u32) -> bool {
        self.absent.insert(shard) && self.office.groups.has_files(shard)
    }

    async fn start(&mut self, shard: u32) {
        let lane = self.shards.lane(shard);
        let replica = ShardReplica::new(shard, self.office.replica.me(), lane, self.spill.clone());
        match self.office.groups.start_shard(replica.clone()).await {
            Ok(group) => {
                self.lead(&group, replica);
                self.absent.remove(&shard);
                let tender = Tender::new(group, self.office.clone(), self.proposals.clone());
                tokio::spawn(tender.run());
            }
            Err(error) => {
                tracing::error!(shard, %error, "a shard cannot be started on this node");
                self.later.insert(shard, Instant::now() + AGAIN);
            }
        }
    }

    /// What the node does for all while it leads the shard.
    fn lead(&self, group: &Group, replica: Arc<ShardReplica>) {
        let (shards, leading) = (self.shards.clone(), group.watch_leading());
        let hand_on = HandOn { shards: shards.clone(), replica: replica.clone(), leading: leading.clone() };
        tokio::spawn(hand_on.run());
        let (roster, proposals) = (self.office.replica.clone(), self.proposals.clone());
        tokio::spawn(Janitor { shards, roster, proposals, replica, leading }.run());
    }

    /// The first member alone begins a shard that has never had a leader: two beginnings could contradict each other.
    async fn form(&mut self, placement: &Placement) {
        let shard = placement.shard;
        let Some(group) = self.office.groups.get(shard) else { return };
        if placement.members.first() != Some(&self.office.replica.me()) || group.is_formed_here().await {
            return;
        }
        let members: Option<BTreeMap<NodeId, Member>> = {
            let roster = self.office.replica.roster();
            placement.members.iter().map(|node| Some((*node, member_of(&roster, *node)?))).collect()
        };
        let Some(members) = members else { return };
        if let Err(error) = group.raft.initialize(members).await {
            tracing::error!(shard, %error, "a shard could not be formed");
            self.later.insert(shard, Instant::now() + AGAIN);
        }
    }

    /// A replica that the roster no longer places here stays until the shard's members have been changed: until then
    /// its majority may need it.
    async fn let_go(&mut self, placement: &Placement) {
        let shard = placement.shard;
        self.later.insert(shard, Instant::now() + AGAIN);
        if placement.members.is_empty() || *self.office.replica.epoch().borrow() == 0 {
            return;
        }
        let Some(members) = Courier::elsewhere(self.office.clone(), shard).settled_members().await else { return };
        if members.is_empty() || members.contains(&self.office.replica.me()) {
            return;
        }
        match self.office.groups.remove_shard(shard).await {
            Ok(()) => {
                self.absent.insert(shard);
                tracing::info!(shard, "this node no longer holds the shard");
            }
            Err(error) => tracing::error!(shard, %error, "a shard that has moved away cannot be removed"),
        }
    }
}
