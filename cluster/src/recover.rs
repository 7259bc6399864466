//! A cluster whose quorum is lost for good, made anew from what one node has on its disk. The node must not run.
//!
//! Every group on the disk gets one more membership, of that node alone, under another identity: whatever may still come
//! back of the old cluster then takes it for a stranger, and it them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use openraft::storage::RaftLogStorage as _;
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, Membership, RaftLogReader as _};
use prost::Message as _;
use rollcall_proto::schema::roster::{Batch, Command, Recovered, command};
use rollcall_storage::{
    DataDir, DataDirError, GroupState, Identity, LogError, RaftLog, RaftLogOptions, SnapshotError, Snapshots,
};

use crate::clock::wall_ms;
use crate::raft::log::LogStore;
use crate::raft::machine::SnapshotFile;
use crate::raft::wire::from_entry;
use crate::raft::{Entry, LogId, Member, ROSTER, Stamped, Vote};
use crate::roster::{NodeId, SLOTS};

type LeaderId = openraft::type_config::alias::LeaderIdOf<crate::raft::TypeConfig>;

/// Whose disk it is, and how the node is reached.
#[derive(Debug, Clone)]
pub struct Survivor {
    pub data_dir: PathBuf,
    pub cluster_name: String,
    pub node_name: String,
    pub rpc_address: String,
}

/// One group as the disk has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// 0 is the roster.
    pub group: u32,
    /// Term and index of the last entry.
    pub last: (u64, u64),
    /// Names of the voters.
    pub voters: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("what is on the disk cannot be read, or nothing can be written to it: {0}")]
    Disk(#[from] io::Error),
    #[error("{0} holds no cluster: an empty node is simply started")]
    Empty(PathBuf),
}

/// What the disk holds of each group; nothing is changed.
///
/// # Errors
/// [`RecoverError`]
pub async fn remains(survivor: &Survivor) -> Result<Vec<Remains>, RecoverError> {
    Disk::open(survivor)?.remains().await
}

/// Makes the disk that of a cluster of one new node.
///
/// # Errors
/// [`RecoverError`]; the node can be recovered again then.
pub async fn recover(survivor: &Survivor) -> Result<(), RecoverError> {
    let mut disk = Disk::open(survivor)?;
    let groups = disk.groups()?;
    let me = rand::random::<u64>() >> 1 | 1;
    for group in &groups {
        disk.take_over(*group, me, &groups, survivor).await?;
    }
    // The last: until then it is the old node's disk, and that one has no vote any more.
    disk.dir.change_node_id(&identity(survivor), me)?;
    Ok(())
}

fn identity(survivor: &Survivor) -> Identity {
    Identity { cluster: survivor.cluster_name.clone(), node: survivor.node_name.clone() }
}

struct Disk {
    dir: DataDir,
    log: RaftLog,
}

impl Disk {
    fn open(survivor: &Survivor) -> Result<Self, RecoverError> {
        let dir = DataDir::open_existing(&survivor.data_dir, &identity(survivor))?;
        let log = RaftLog::open(&dir.raft_log(), RaftLogOptions::default())?;
        Ok(Disk { dir, log })
    }

    /// The roster and the shards that are here.
    fn groups(&self) -> Result<Vec<u32>, RecoverError> {
        let mut groups = Vec::new();
        for group in ROSTER..=SLOTS {
            if self.log.state(group) != GroupState::default() || self.snapshot(group)?.is_some() {
                groups.push(group);
            }
        }
        if groups.first() == Some(&ROSTER) { Ok(groups) } else { Err(RecoverError::Empty(self.dir.path().into())) }
    }

    fn snapshot(&self, group: u32) -> Result<Option<SnapshotFile>, RecoverError> {
        Ok(Snapshots::open(&self.dir.snapshots(), group)?.latest().map(SnapshotFile::new))
    }

    async fn remains(&self) -> Result<Vec<Remains>, RecoverError> {
        let mut found = Vec::new();
        for group in self.groups()? {
            let (last, membership) = (self.last(group).await?, self.membership(group).await?);
            let voters = membership.iter().flat_map(|membership| {
                let name = |id: NodeId| membership.get_node(&id).map_or_else(|| format!("{id:x}"), |m| m.name.clone());
                membership.voter_ids().map(name).collect::<Vec<_>>()
            });
            let last = last.map_or((0, 0), |id| (id.leader_id.term, id.index));
            let mut voters: Vec<String> = voters.collect();
            voters.sort();
            found.push(Remains { group, last, voters });
        }
        Ok(found)
    }

    async fn last(&self, group: u32) -> Result<Option<LogId>, RecoverError> {
        let logged = LogStore::new(self.log.clone(), group).get_log_state().await?.last_log_id;
        let snapshot = self.snapshot(group)?.map(|file| file.meta()).transpose()?.and_then(|meta| meta.last_log_id);
        Ok(logged.max(snapshot))
    }

    /// The newest, committed or not.
    async fn membership(&self, group: u32) -> Result<Option<Membership<u64, Member>>, RecoverError> {
        let state = self.log.state(group);
        let mut store = LogStore::new(self.log.clone(), group);
        let mut index = state.last_index.map_or(0, |last| last + 1);
        while index > 0 {
            let from = index.saturating_sub(READ);
            let entries = store.try_get_log_entries(from..index).await?;
            if entries.is_empty() {
                break;
            }
            for entry in entries.into_iter().rev() {
                if let EntryPayload::Membership(membership) = entry.payload {
                    return Ok(Some(membership));
                }
            }
            index = from;
        }
        let meta = self.snapshot(group)?.map(|file| file.meta()).transpose()?;
        Ok(meta.map(|meta| meta.last_membership.membership().clone()))
    }

    /// Behind all that is there: a term of the new node's own, in which it is the only member.
    async fn take_over(&self, group: u32, me: NodeId, held: &[u32], survivor: &Survivor) -> Result<(), RecoverError> {
        let mut store = LogStore::new(self.log.clone(), group);
        let last = self.last(group).await?;
        let voted = store.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
        let term = voted.max(last.map_or(0, |id| id.leader_id.term)) + 1;
        let leader_id = LeaderId { term, node_id: me };
        store.save_vote(&Vote { leader_id, committed: true }).await?;
        let member = Member { rpc_address: survivor.rpc_address.clone(), name: survivor.node_name.clone() };
        let (voters, members) = (BTreeSet::from([me]), BTreeMap::from([(me, member)]));
        let alone = Membership::new(vec![voters], members).map_err(io::Error::other)?;
        let mut payloads = vec![EntryPayload::Membership(alone)];
        if group == ROSTER {
            let shards = held.iter().copied().filter(|group| *group != ROSTER).collect();
            let kind = command::Kind::Recovered(Recovered { node: me, shards });
            let batch = Batch { node: me, node_epoch: 0, number: 1, commands: vec![Command { kind: Some(kind) }] };
            payloads.push(EntryPayload::Normal(Stamped { time: wall_ms(), batch: batch.encode_to_vec().into() }));
        }
        let next = last.map_or(0, |id| id.index + 1);
        let log_id = |index| LogId { leader_id: leader_id.to_committed(), index };
        let entries = (next..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(index), payload });
        let encoded = entries.map(|entry| (entry.log_id.index, from_entry(&entry).encode_to_vec().into())).collect();
        let (done, durable) = tokio::sync::oneshot::channel();
        // Whoever no longer waits has an error already.
        self.log.append(group, encoded, move |result| drop(done.send(result)));
        durable.await.map_err(io::Error::other)??;
        Ok(())
    }
}

/// Entries read at once.
const READ: u64 = 1_000;
