//! What the leader of the roster does for the others: stamps and logs their batches, grants leases, announces the
//! barrier. Every node has a desk; only the leader's answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver as _;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{ReadPolicy, ServerState};
use parking_lot::Mutex;
use prost::Message as _;
use rollcall_proto::schema::roster::{Batch, command};
use tokio::sync::{Notify, watch};

use crate::clock::{boottime, wall_ms};
use crate::lease::LeaseTable;
use crate::raft::{Raft, Stamped};
use crate::replica::Replica;
use crate::roster::NodeId;

/// This node does not lead; who does, if it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotLeader(pub Option<NodeId>);

pub(crate) struct Desk {
    raft: Raft,
    replica: Arc<Replica>,
    table: Mutex<LeaseTable>,
    time: Mutex<LogTime>,
    barrier: watch::Sender<u64>,
    changed: Notify,
}

impl Desk {
    pub(crate) fn new(raft: Raft, replica: Arc<Replica>, route_lease: Duration) -> Self {
        Desk {
            raft,
            replica,
            table: Mutex::new(LeaseTable::new(route_lease)),
            time: Mutex::default(),
            barrier: watch::Sender::new(0),
            changed: Notify::new(),
        }
    }

    /// Logs a batch; the index at which the leader has applied it.
    pub(crate) async fn log(&self, batch: Bytes) -> Result<u64, NotLeader> {
        let Some(term) = self.leading() else { return Err(NotLeader(self.leader())) };
        let batch = self.admit(term, batch)?;
        let time = self.time.lock().stamp(term, self.replica.roster().time(), wall_ms(), boottime());
        match self.raft.client_write(Stamped { time, batch }).await {
            Ok(written) => Ok(written.log_id.index),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(NotLeader(to.leader_id)),
            Err(error) => {
                tracing::debug!(%error, "a batch was not logged");
                Err(NotLeader(None))
            }
        }
    }

    /// What every node would fail to apply is never logged. Nor is a node's death that another leader has found: leases
    /// may have been given to that node since, so whoever leads now must find it dead anew.
    fn admit(&self, term: u64, bytes: Bytes) -> Result<Bytes, NotLeader> {
        let mut batch = Batch::decode(bytes.clone()).map_err(|error| {
            tracing::error!(%error, "a batch that cannot be read was refused");
            NotLeader(None)
        })?;
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

    /// The index that the asking node must have applied before its lease counts.
    pub(crate) async fn ask(&self, node: NodeId, epoch: u64, applied: u64) -> Result<u64, NotLeader> {
        let read = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await;
        let (read, _) = read.map_err(|_| NotLeader(self.leader()))?;
        let read = read.log_id();
        self.notice_election(read.leader_id.term);
        let index = {
            let mut table = self.table.lock();
            table.report(node, applied);
            let current = self.replica.roster().is_current(node, epoch);
            if current { table.grant(node, epoch, read.index, boottime()) } else { None }
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

    /// The term this node leads in.
    pub(crate) fn leading(&self) -> Option<u64> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader
    }

    /// Where a member is reached.
    pub(crate) fn address_of(&self, member: NodeId) -> Option<String> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        metrics.membership_config.membership().get_node(&member).map(|member| member.rpc_address.clone())
    }

    fn notice_election(&self, term: u64) {
        let mut table = self.table.lock();
        if table.term() < term {
            let members: Vec<NodeId> = self
                .raft
                .metrics()
                .borrow_watched()
                .membership_config
                .membership()
                .nodes()
                .map(|(id, _)| *id)
                .collect();
            table.elected(term, members, boottime());
        }
    }

    /// Announces the barrier while this node leads.
    pub(crate) async fn run(&self) {
        let mut applied = self.replica.applied();
        let mut metrics = self.raft.server_metrics();
        loop {
            let mut next_end = None;
            if let Some(term) = self.leading() {
                self.notice_election(term);
                let now = boottime();
                let mut table = self.table.lock();
                let index = table.barrier(*applied.borrow_and_update(), now);
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
        self.table.lock().successor(self.replica.me(), boottime())
    }

    /// Nodes that are up by the roster, but have had no lease for `node_timeout`. From now on they get none.
    pub(crate) fn overdue(&self, node_timeout: Duration) -> Vec<(NodeId, u64)> {
        let Some(term) = self.leading() else { return Vec::new() };
        self.notice_election(term);
        // In this order, as everywhere: a reader behind a waiting writer must not hold up who holds the other.
        let mut table = self.table.lock();
        let roster = self.replica.roster();
        let now = boottime();
        if !table.may_judge(self.replica.me(), now) {
            return Vec::new();
        }
        let overdue: Vec<_> = roster
            .nodes()
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

/// The leader's stamp: last log time plus elapsed time, drawn towards the wall clock by at most one per cent; it jumps
/// only at an election, and never back.
#[derive(Debug, Default)]
struct LogTime {
    term: u64,
    millis: f64,
    at: Duration,
}

impl LogTime {
    fn stamp(&mut self, term: u64, logged: u64, wall: u64, now: Duration) -> u64 {
        if term != self.term {
            *self = LogTime { term, millis: logged.max(wall) as f64, at: now };
            return self.millis as u64;
        }
        let elapsed = (now - self.at).as_secs_f64() * 1000.0;
        let even = self.millis + elapsed;
        let slew = (wall as f64 - even).clamp(-elapsed / 100.0, elapsed / 100.0);
        self.millis = even + slew;
        self.at = now;
        self.millis as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_follows_elapsed_time_and_nears_the_wall_clock_by_a_hundredth() {
        let mut time = LogTime::default();
        let second = Duration::from_secs;
        assert_eq!(time.stamp(1, 500, 1_000_000, second(10)), 1_000_000);
        assert_eq!(time.stamp(1, 500, 9_000_000, second(20)), 1_010_100, "10 s later, the wall clock far ahead");
        assert_eq!(time.stamp(1, 500, 0, second(30)), 1_020_000, "set back: slower, never back");
    }

    #[test]
    fn log_time_never_falls_behind_the_log_at_an_election() {
        let mut time = LogTime::default();
        assert_eq!(time.stamp(2, 5_000, 1_000, Duration::from_secs(1)), 5_000);
    }
}
