//! openraft's state machine: it applies entries to the replica, and makes and takes snapshots.

use std::io::{self, Read};
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use prost::Message as _;
use rollcall_proto::schema::node as wire;
use rollcall_storage::{Snapshot as StoredSnapshot, Snapshots};

use super::wire::{from_snapshot_meta, to_snapshot_meta};
use super::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::replica::Replica;
use crate::roster::Roster;

/// A finished snapshot on this node's disk.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    stored: StoredSnapshot,
}

impl SnapshotFile {
    pub(crate) fn new(stored: StoredSnapshot) -> Self {
        SnapshotFile { stored }
    }

    /// Bytes of the state.
    pub(crate) fn len(&self) -> u64 {
        self.stored.len
    }

    pub(crate) fn open(&self) -> io::Result<impl Read> {
        self.stored.open()
    }

    /// What it says of itself.
    pub(crate) fn description(&self) -> io::Result<wire::SnapshotMeta> {
        wire::SnapshotMeta::decode(self.stored.meta.clone()).map_err(io::Error::other)
    }

    pub(crate) fn meta(&self) -> io::Result<SnapshotMeta> {
        to_snapshot_meta(&self.description()?).map_err(io::Error::other)
    }

    pub(crate) fn read_roster(&self) -> io::Result<Roster> {
        let mut reader = io::BufReader::with_capacity(1 << 20, self.open()?);
        let roster = Roster::read_from(&mut reader).map_err(io::Error::other)?;
        // The checksum comes last: only a reader that met the end has seen it hold.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(roster)
    }
}

pub(crate) struct Machine {
    replica: Arc<Replica>,
    snapshots: Snapshots,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// From the latest snapshot, if there is one; Raft replays the log behind it.
    pub(crate) fn open(replica: Arc<Replica>, snapshots: Snapshots) -> io::Result<Self> {
        let mut machine = Machine { replica, snapshots, applied: None, membership: StoredMembership::default() };
        if let Some(file) = machine.latest() {
            machine.load(&file.meta()?, file.read_roster()?);
        }
        Ok(machine)
    }

    fn latest(&self) -> Option<SnapshotFile> {
        self.snapshots.latest().map(SnapshotFile::new)
    }

    fn load(&mut self, meta: &SnapshotMeta, roster: Roster) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.replica.replace(roster, meta.last_log_id.map_or(0, |id| id.index));
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(stamped) => self.replica.apply(index, stamped.time, &stamped.batch)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                }
            }
            self.applied = Some(entry.log_id);
            self.replica.advance(index);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            roster: self.replica.roster().clone(),
            replica: self.replica.clone(),
            snapshots: self.snapshots.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let roster = tokio::task::spawn_blocking(move || snapshot.read_roster()).await.map_err(io::Error::other)??;
        self.load(meta, roster);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some(file) = self.latest() else { return Ok(None) };
        Ok(Some(Snapshot { meta: file.meta()?, snapshot: file }))
    }
}

/// The state of one moment, to be written while entries go on being applied.
pub(crate) struct Builder {
    roster: Roster,
    replica: Arc<Replica>,
    snapshots: Snapshots,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (roster, replica, snapshots) = (self.roster.clone(), self.replica.clone(), self.snapshots.clone());
        let meta = self.meta.clone();
        let described = from_snapshot_meta(&meta, roster.seq()).encode_to_vec();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let write = move || {
            // The log behind the snapshot will be freed, and with it what the events could be made from again.
            replica.feed().sync()?;
            let mut writer = snapshots.begin()?;
            roster.write_to(&mut writer)?;
            writer.finish(index, &described)
        };
        let stored = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        Ok(Snapshot { meta, snapshot: SnapshotFile::new(stored) })
    }
}
