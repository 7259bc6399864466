//! What leaders do for the others: they log their batches and confirm positions; the roster's grants leases and
//! announces the barrier. Every node has a desk; only that of a group's leader answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use prost::Message as _;
use rollcall_proto::schema::roster::{Batch, NodeState, command};
use rollcall_proto::schema::shard;
use tokio::sync::{Notify, watch};

use crate::clock::boottime;
use crate::division::Divisions;
use crate::groups::{Group, Groups};
use crate::lease::LeaseTable;
use crate::raft::ROSTER;
use crate::replica::Replica;
use crate::roster::NodeId;
use crate::scribe::NotLeader;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logged {
    /// At which the leader has applied it.
    pub index: u64,
    /// Of a shard's batch.
    pub outcomes: Vec<shard::Outcome>,
}

pub(crate) struct Desk {
    groups: Arc<Groups>,
    /// The roster's.
    group: Arc<Group>,
    replica: Arc<Replica>,
    table: Mutex<LeaseTable>,
    /// Locked after the table, and before the roster.
    divisions: Mutex<Divisions>,
    barrier: watch::Sender<u64>,
    changed: Notify,
}

impl Desk {
    pub(crate) fn new(groups: Arc<Groups>, group: Arc<Group>, replica: Arc<Replica>, route_lease: Duration) -> Self {
        Desk {
            groups,
            group,
            replica,
            table: Mutex::new(LeaseTable::new(route_lease)),
            divisions: Mutex::default(),
            barrier: watch::Sender::new(0),
            changed: Notify::new(),
        }
    }

    /// Logs a batch in a group that this node leads.
    pub(crate) async fn log(&self, number: u32, batch: Bytes) -> Result<Logged, NotLeader> {
        let group = self.groups.get(number).ok_or(NotLeader(None))?;
        let Some(term) = group.leading() else { return Err(NotLeader(group.leader())) };
        if number == ROSTER {
            let index = group.scribe.log(term, self.admit(term, batch)?).await?;
            return Ok(Logged { index, outcomes: Vec::new() });
        }
        let shard = self.groups.shard(number).ok_or(NotLeader(None))?;
        let told = shard::Batch::decode(batch.clone()).map_err(|error| unreadable(&error))?;
        let index = group.scribe.log(term, batch).await?;
        Ok(Logged { index, outcomes: shard.outcomes_of(&told) })
    }

    /// An index behind which nothing is that was committed in the group before, and its members.
    pub(crate) async fn confirm(&self, number: u32) -> Result<(u64, Vec<NodeId>), NotLeader> {
        let group = self.groups.get(number).ok_or(NotLeader(None))?;
        let last = group.last_index();
        let read = group.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let (read, _) = read.map_err(|_| NotLeader(group.leader()))?;
        Ok((read.log_id().index.max(last), group.settled_members().into_iter().collect()))
    }

    /// What every node would fail to apply is never logged. Nor is a node's death that another leader has found: leases
    /// may have been given to that node since, so whoever leads now must find it dead anew.
    fn admit(&self, term: u64, bytes: Bytes) -> Result<Bytes, NotLeader> {
        let mut batch = Batch::decode(bytes.clone()).map_err(|error| unreadable(&error))?;
        self.notice_election(term);
        let table = self.table.lock();
        let mut changed = false;
        for command in &mut batch.commands {
            if let Some(command::Kind::NodeDown(down)) = &command.kind
                && !table.is_blocked(down.node, down.epoch)
            {
                command.kind = None;
                changed = true;
            }
        }
        Ok(if changed { batch.encode_to_vec().into() } else { bytes })
    }

    /// The index that the asking node must have applied before its lease counts. `apart` are the nodes that it does not
    /// reach.
    pub(crate) async fn ask(&self, node: NodeId, epoch: u64, applied: u64, apart: &[NodeId]) -> Result<u64, NotLeader> {
        let last = self.group.last_index();
        let read = self.group.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let (read, _) = read.map_err(|_| NotLeader(self.leader()))?;
        let read = read.log_id();
        self.notice_election(read.leader_id.term);
        let index = {
            let mut table = self.table.lock();
            table.report(node, applied);
            let current = self.replica.roster().is_current(node, epoch);
            let mut divisions = self.divisions.lock();
            divisions.report(node, apart, boottime());
            if current && !divisions.is_set_apart(node) {
                table.grant(node, epoch, read.index.max(last), boottime())
            } else {
                None
            }
        };
        self.changed.notify_one();
        index.ok_or(NotLeader(None))
    }

    pub(crate) fn report(&self, node: NodeId, applied: u64) {
        self.table.lock().report(node, applied);
        self.changed.notify_one();
    }

    pub(crate) fn barrier(&self) -> watch::Receiver<u64> {
        self.barrier.subscribe()
    }

    /// The term this node leads the roster in.
    pub(crate) fn leading(&self) -> Option<u64> {
        self.group.leading()
    }

    /// Of the roster.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.group.leader()
    }

    /// Where a member of the cluster is reached.
    pub(crate) fn address_of(&self, member: NodeId) -> Option<String> {
        self.group.member(member).map(|member| member.rpc_address)
    }

    fn notice_election(&self, term: u64) {
        let mut table = self.table.lock();
        if table.term() < term {
            let members: Vec<NodeId> = self.group.members().into_keys().collect();
            table.elected(term, members, boottime());
            self.divisions.lock().clear();
        }
    }

    /// Sets apart one of each two nodes that are in touch with this one, which leads, but have not reached each other for
    /// `patience`.
    pub(crate) fn judge_divisions(&self, patience: Duration) {
        let now = boottime();
        let table = self.table.lock();
        let mut divisions = self.divisions.lock();
        let living: BTreeMap<NodeId, u64> = {
            let roster = self.replica.roster();
            let current = roster.nodes().filter(|node| roster.is_current(node.id, node.epoch));
            let heard = current.filter(|node| table.is_in_touch(node.id, now) || divisions.is_set_apart(node.id));
            heard.map(|node| (node.id, node.connections)).collect()
        };
        let found = divisions.judge(self.replica.me(), &living, patience, now);
        drop((table, divisions));
        for node in found {
            tracing::warn!(
                node = format!("{node:x}"),
                "this node and another do not reach each other: it gets no lease until they do"
            );
        }
    }

    /// Announces the barrier while this node leads.
    pub(crate) async fn run(&self) {
        let mut applied = self.replica.applied();
        let mut metrics = self.group.raft.server_metrics();
        loop {
            let mut next_end = None;
            if let Some(term) = self.leading() {
                self.notice_election(term);
                let now = boottime();
                let mut table = self.table.lock();
                // Before the roster is looked at: a node that the roster takes for stopped and that has come up again has
                // applied more than this.
                let index = *applied.borrow_and_update();
                let roster = self.replica.roster();
                let has_stopped = |id| roster.node(id).is_some_and(|node| node.state() == NodeState::Stopped);
                let index = table.barrier(index, has_stopped, now);
                drop(roster);
                next_end = table.next_end(now).map(|end| end - now);
                drop(table);
                self.barrier.send_if_modified(|last| std::mem::replace(last, index) != index);
            }
            tokio::select! {
                closed = applied.changed() => if closed.is_err() { return },
                closed = metrics.changed() => if closed.is_err() { return },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(next_end.unwrap_or(IDLE)) => {}
            }
        }
    }

    /// Who is in touch, and so could take over the lead.
    pub(crate) fn successor(&self) -> Option<NodeId> {
        let voters = self.group.voters();
        self.table.lock().successor(self.replica.me(), &voters, boottime())
    }

    /// Whether that node has a lease: this node, which leads the roster, has heard from it just now.
    pub(crate) fn is_in_touch(&self, node: NodeId) -> bool {
        self.table.lock().is_in_touch(node, boottime())
    }

    /// Nodes that are up by the roster, but have had no lease for `node_timeout`. From now on they get none.
    pub(crate) fn overdue(&self, node_timeout: Duration) -> Vec<(NodeId, u64)> {
        let Some(term) = self.leading() else { return Vec::new() };
        self.notice_election(term);
        // In this order, as everywhere: a reader behind a waiting writer must not hold up who holds the other.
        let mut table = self.table.lock();
        let divisions = self.divisions.lock();
        let roster = self.replica.roster();
        let now = boottime();
        if !table.may_judge(self.replica.me(), now) {
            return Vec::new();
        }
        let overdue: Vec<_> = roster
            .nodes()
            // Who is set apart and holds nothing would only come up again, and be overdue again.
            .filter(|node| node.connections > 0 || !divisions.is_set_apart(node.id))
            .map(|node| (node.id, node.epoch))
            .filter(|(id, epoch)| roster.is_current(*id, *epoch))
            .filter(|(id, epoch)| table.is_overdue(*id, *epoch, node_timeout, now))
            .collect();
        for (id, epoch) in &overdue {
            table.block(*id, *epoch);
        }
        overdue
    }
}

/// Looks again at the latest after this time when no lease runs.
const IDLE: Duration = Duration::from_secs(1);

fn unreadable(error: &prost::DecodeError) -> NotLeader {
    tracing::error!(%error, "a batch that cannot be read was refused");
    NotLeader(None)
}
