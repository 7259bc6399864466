//! The Raft groups that run on this node: the roster, and the shards it holds. They share the log on disk and the
//! connections to the others, and start and stop at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use parking_lot::RwLock;
use rollcall_storage::{GroupState, RaftLog, SnapshotError, Snapshots};
use tokio::sync::{oneshot, watch};

use crate::blocking::blocking;
use crate::raft::log::LogStore;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::peers::Peers;
use crate::raft::replicated::Replicated;
use crate::raft::{Member, Metrics, ROSTER, Raft};
use crate::roster::NodeId;
use crate::scribe::Scribe;
use crate::shard::ShardReplica;

/// Why a group cannot start, or its files cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the node's state cannot be read: {0}")]
    State(io::Error),
    #[error("Raft cannot start: {0}")]
    Raft(String),
    #[error("its files cannot be removed: {0}")]
    Remove(io::Error),
    #[error("this node is stopping")]
    Stopping,
}

/// One group as it runs on this node.
pub(crate) struct Group {
    pub number: u32,
    pub raft: Raft,
    pub scribe: Scribe,
    pub snapshots: Snapshots,
    pub replicated: Arc<dyn Replicated>,
    /// The term this node leads in; 0 while it does not.
    leading: watch::Receiver<u64>,
}

impl Group {
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The term this node leads in.
    pub(crate) fn leading(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader && metrics.running_state.is_ok()).then_some(metrics.current_term)
    }

    /// Of the last entry in this node's log. A new leader may not know yet all that was committed before it: none of that
    /// is behind this one.
    pub(crate) fn last_index(&self) -> u64 {
        self.raft.metrics().borrow_watched().last_log_index.unwrap_or(0)
    }

    /// Changes when this node begins or ceases to lead; 0 while it does not.
    pub(crate) fn watch_leading(&self) -> watch::Receiver<u64> {
        self.leading.clone()
    }

    /// Nobody, once the group has stopped here: what it knew last would mislead for ever.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_leader.filter(|_| metrics.running_state.is_ok())
    }

    /// Voters and learners.
    pub(crate) fn members(&self) -> BTreeMap<NodeId, Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.raft.metrics().borrow_watched().membership_config.membership().get_node(&id).cloned()
    }

    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.raft.metrics().borrow_watched().membership_config.voter_ids().collect()
    }

    /// The voters, if no change of members is under way and nobody is still learning.
    pub(crate) fn settled_members(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let settled = metrics.membership_config == metrics.committed_membership_config
            && membership.get_joint_config().len() == 1
            && membership.nodes().count() == voters.len();
        if settled { voters } else { BTreeSet::new() }
    }

    /// Its log is neither empty nor behind a snapshot of nothing: it knows of members.
    pub(crate) async fn is_formed_here(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(false)
    }

    async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(group = self.number, %error, "Raft did not stop cleanly");
        }
    }
}

/// What the groups stand on.
pub(crate) struct Ground {
    pub me: NodeId,
    pub log: RaftLog,
    /// Of all groups' snapshots.
    pub snapshots: PathBuf,
    pub peers: Peers,
    pub rpc_address: String,
    pub raft_config: Arc<openraft::Config>,
}

#[derive(Default)]
struct Running {
    groups: BTreeMap<u32, Arc<Group>>,
    shards: BTreeMap<u32, Arc<ShardReplica>>,
    stopping: bool,
}

pub(crate) struct Groups {
    ground: Ground,
    running: RwLock<Running>,
}

impl Groups {
    pub(crate) fn new(ground: Ground) -> Arc<Self> {
        Arc::new(Groups { ground, running: RwLock::default() })
    }

    pub(crate) fn get(&self, number: u32) -> Option<Arc<Group>> {
        self.running.read().groups.get(&number).cloned()
    }

    pub(crate) fn shard(&self, number: u32) -> Option<Arc<ShardReplica>> {
        self.running.read().shards.get(&number).cloned()
    }

    /// In the order of their numbers.
    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        self.running.read().groups.values().cloned().collect()
    }

    pub(crate) fn me(&self) -> NodeId {
        self.ground.me
    }

    pub(crate) fn log(&self) -> &RaftLog {
        &self.ground.log
    }

    pub(crate) async fn start_roster(&self, replicated: Arc<dyn Replicated>) -> Result<Arc<Group>, GroupError> {
        let group = self.open(ROSTER, replicated).await?;
        self.running.write().groups.insert(ROSTER, group.clone());
        Ok(group)
    }

    /// From what the disk holds of it, which may be nothing. Only one task starts and stops shards.
    pub(crate) async fn start_shard(&self, replica: Arc<ShardReplica>) -> Result<Arc<Group>, GroupError> {
        let number = replica.number();
        let group = self.open(number, replica.clone()).await?;
        let stopping = {
            let mut running = self.running.write();
            if !running.stopping {
                running.groups.insert(number, group.clone());
                running.shards.insert(number, replica);
            }
            running.stopping
        };
        if stopping {
            group.stop().await;
            return Err(GroupError::Stopping);
        }
        Ok(group)
    }

    /// Whether the disk holds anything of it. It reads files.
    pub(crate) fn has_files(&self, number: u32) -> bool {
        let snapshot = || Snapshots::open(&self.ground.snapshots, number).is_ok_and(|found| found.latest().is_some());
        self.ground.log.state(number) != GroupState::default() || snapshot()
    }

    async fn open(&self, number: u32, replicated: Arc<dyn Replicated>) -> Result<Arc<Group>, GroupError> {
        let (dir, copy) = (self.ground.snapshots.clone(), replicated.clone());
        let opening = blocking(move || {
            let snapshots = Snapshots::open(&dir, number)?;
            let machine = Machine::open(number, copy, snapshots.clone()).map_err(GroupError::State)?;
            Ok::<_, GroupError>((snapshots, machine))
        });
        let (snapshots, machine) = opening.await.map_err(GroupError::State)??;
        let network =
            Network { group: number, peers: self.ground.peers.clone(), rpc_address: self.ground.rpc_address.clone() };
        let store = LogStore::new(self.ground.log.clone(), number);
        let raft = Raft::new(self.ground.me, self.ground.raft_config.clone(), network, store, machine)
            .await
            .map_err(|error| GroupError::Raft(error.to_string()))?;
        let (leads, leading) = watch::channel(0);
        let log = self.ground.log.clone();
        let until_stopped = tell_leading(raft.clone(), leads);
        tokio::spawn(async move {
            if let Some(why) = until_stopped.await {
                log.condemn(&format!("running Raft group {number}"), &io::Error::other(why));
            }
        });
        let scribe = Scribe::new(raft.clone(), replicated.clone());
        Ok(Arc::new(Group { number, raft, scribe, snapshots, replicated, leading }))
    }

    /// Stops a shard on this node and removes what the disk holds of it.
    pub(crate) async fn remove_shard(&self, number: u32) -> Result<(), GroupError> {
        let (group, replica) = {
            let mut running = self.running.write();
            let replica = running.shards.remove(&number);
            (running.groups.remove(&number), replica)
        };
        if let Some(group) = group {
            group.stop().await;
        }
        if let Some(replica) = replica {
            replica.end();
        }
        // The log first: a snapshot without a log is a beginning, a log without what came before it is none.
        let (done, forgotten) = oneshot::channel();
        self.ground.log.forget(number, move |result| drop(done.send(result)));
        forgotten.await.map_err(io::Error::other).flatten().map_err(GroupError::Remove)?;
        let dir = self.ground.snapshots.clone();
        let removing = blocking(move || Snapshots::open(&dir, number)?.remove());
        removing.await.map_err(GroupError::Remove)??;
        Ok(())
    }

    /// Stops all; none is started after it, and nobody finds them any more.
    pub(crate) async fn shutdown(&self) {
        let groups = {
            let mut running = self.running.write();
            running.stopping = true;
            running.shards.clear();
            std::mem::take(&mut running.groups)
        };
        for group in groups.into_values() {
            group.stop().await;
        }
    }
}

/// Until the group stops; why, if nobody has asked it to. A group that could not write a snapshot, or apply an entry, is
/// no part of its group any more, and a node must not go on as if it were.
async fn tell_leading(raft: Raft, leads: watch::Sender<u64>) -> Option<String> {
    let mut metrics = raft.server_metrics();
    let state = raft.metrics();
    drop(raft);
    loop {
        let term = {
            let now = metrics.borrow_watched();
            if now.state == ServerState::Leader { now.vote.leader_id.term } else { 0 }
        };
        leads.send_if_modified(|last| std::mem::replace(last, term) != term);
        if metrics.changed().await.is_err() {
            leads.send_replace(0);
            return match &state.borrow_watched().running_state {
                Ok(()) | Err(Fatal::Stopped) => None,
                Err(fatal) => Some(fatal.to_string()),
            };
        }
    }
}
