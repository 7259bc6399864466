//! What the leader of a shard does for it: says that it is formed, brings its members to what the roster says, and
//! hands over to the member that is to lead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, Instant as _};
use rollcall_proto::schema::roster::{NodeState, Place, Placement, command};
use tokio::time::{Instant, sleep, timeout};

use super::{member_of, placement_of};
use crate::courier::Office;
use crate::groups::Group;
use crate::propose::Proposals;
use crate::raft::Metrics;
use crate::roster::NodeId;

/// Between two looks of a leader.
const LOOK: Duration = Duration::from_millis(300);
/// How long a change of members may take before it is looked at anew.
const CHANGE: Duration = Duration::from_secs(10);
/// Entries by which a member may be behind when it becomes a voter, or is handed the lead.
const BEHIND: u64 = 100;
/// Since when a member must have answered to be in touch.
const TOUCH: Duration = Duration::from_secs(1);
/// How long a new shard's leader waits for members that are away before it calls the shard formed.
const FORMATION: Duration = Duration::from_secs(10);
/// Between two attempts to hand over.
const HAND_OVER: Duration = Duration::from_secs(5);

pub(super) struct Tender {
    group: Arc<Group>,
    office: Arc<Office>,
    proposals: Proposals,
    handed: Option<Instant>,
    /// Since when this node leads a shard that the roster does not know to be formed.
    unformed: Option<Instant>,
}

impl Tender {
    pub(super) fn new(group: Arc<Group>, office: Arc<Office>, proposals: Proposals) -> Self {
        Tender { group, office, proposals, handed: None, unformed: None }
    }

    /// Until the group stops.
    pub(super) async fn run(mut self) {
        let mut leading = self.group.watch_leading();
        while leading.wait_for(|term| *term != 0).await.is_ok() {
            self.look().await;
            sleep(LOOK).await;
        }
    }

    async fn look(&mut self) {
        let Some(placement) = placement_of(&self.office.replica.roster(), self.group.number).cloned() else { return };
        if !placement.formed {
            return self.tell_formed(placement).await;
        }
        if !self.office.leases.may_keep_connections() {
            return self.step_down().await;
        }
        let changing = timeout(CHANGE, self.reconcile(&placement)).await.unwrap_or(true);
        if !changing {
            self.hand_over(placement.members[0]).await;
        }
    }

    /// Once every member has the beginning of the log, so that no replica that is empty refuses to vote; a member that is
    /// away is not waited for longer than a while, but a majority is.
    async fn tell_formed(&mut self, placement: Placement) {
        let metrics = self.group.metrics();
        let begun = metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term);
        let voters: BTreeSet<NodeId> = metrics.membership_config.voter_ids().collect();
        let has_begun = |member: &NodeId| {
            metrics.replication.as_ref().and_then(|matched| matched.get(member).copied().flatten()).is_some()
        };
        let since = *self.unformed.get_or_insert_with(Instant::now);
        if !begun || !(voters.iter().all(has_begun) || since.elapsed() > FORMATION) {
            return;
        }
        let place = Place { placements: vec![Placement { formed: true, ..placement }] };
        if let Err(error) = self.proposals.ask(command::Kind::Place(place)).await {
            tracing::debug!(shard = self.group.number, %error, "the roster does not know yet that a shard is formed");
        }
    }

    /// One step; whether there was something to change, or is.
    async fn reconcile(&self, placement: &Placement) -> bool {
        let metrics = self.group.metrics();
        let membership = metrics.membership_config.membership();
        if metrics.membership_config != metrics.committed_membership_config {
            return true;
        }
        let wanted: BTreeSet<NodeId> = placement.members.iter().copied().collect();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let known: BTreeSet<NodeId> = membership.nodes().map(|(id, _)| *id).collect();
        if let Some(newcomer) = wanted.difference(&known).next() {
            let Some(member) = member_of(&self.office.replica.roster(), *newcomer) else { return true };
            tracing::info!(shard = self.group.number, node = member.name, "a shard gets another replica");
            return self.report(self.group.raft.add_learner(*newcomer, member, false).await.err());
        }
        if voters == wanted && membership.get_joint_config().len() == 1 {
            let strangers: BTreeSet<NodeId> = known.difference(&wanted).copied().collect();
            if strangers.is_empty() {
                return false;
            }
            let removing = self.group.raft.change_membership(ChangeMembers::RemoveNodes(strangers), false);
            return self.report(removing.await.err());
        }
        if !wanted.difference(&voters).all(|newcomer| is_close(&metrics, *newcomer)) {
            return true;
        }
        let me = self.office.replica.me();
        if !wanted.contains(&me)
            && let Some(next) = wanted.iter().find(|next| voters.contains(next) && is_close(&metrics, **next))
            && self.may_hand_over()
        {
            // Who leaves does not lead its own leaving, if it can be helped.
            self.transfer(*next).await;
            return true;
        }
        self.report(self.group.raft.change_membership(wanted, false).await.err())
    }

    /// True, whatever it came to: the next look sees.
    fn report(&self, error: Option<impl std::fmt::Display>) -> bool {
        if let Some(error) = error {
            tracing::debug!(shard = self.group.number, %error, "a shard's members could not be changed yet");
        }
        true
    }

    fn may_hand_over(&self) -> bool {
        self.handed.is_none_or(|last| last.elapsed() >= HAND_OVER)
    }

    /// To the member that the roster names first, so that leaders are spread.
    async fn hand_over(&mut self, first: NodeId) {
        if first == self.office.replica.me() || !self.may_hand_over() {
            return;
        }
        let up = self.office.replica.roster().node(first).is_some_and(|node| node.state() == NodeState::Up);
        let metrics = self.group.metrics();
        let answered = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&first).cloned().flatten());
        let in_touch = answered.is_some_and(|at| at.elapsed() < TOUCH);
        if up && in_touch && is_close(&metrics, first) {
            self.handed = Some(Instant::now());
            self.transfer(first).await;
        }
    }

    /// Without a lease this node may be one that others do not reach: it leads no longer than it must.
    async fn step_down(&mut self) {
        let (me, metrics) = (self.office.replica.me(), self.group.metrics());
        let next = metrics.membership_config.voter_ids().find(|voter| *voter != me && is_close(&metrics, *voter));
        if let Some(next) = next
            && self.may_hand_over()
        {
            self.handed = Some(Instant::now());
            self.transfer(next).await;
        }
    }

    async fn transfer(&self, to: NodeId) {
        tracing::debug!(shard = self.group.number, to = format!("{to:x}"), "handing over a shard");
        if let Err(error) = self.group.raft.trigger().transfer_leader(to).await {
            tracing::warn!(shard = self.group.number, %error, "leadership could not be handed over");
        }
    }
}

/// Whether the member has nearly all that this leader has.
fn is_close(metrics: &Metrics, member: NodeId) -> bool {
    let matched = metrics.replication.as_ref().and_then(|matched| matched.get(&member).copied().flatten());
    let last = metrics.last_log_index.unwrap_or(0);
    matched.is_some_and(|matched| matched.index + BEHIND >= last)
}
