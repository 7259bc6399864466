//! openraft's state machine: it applies entries to what the group replicates, and makes and takes snapshots.

use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use prost::Message as _;
use rollcall_proto::schema::node as wire;
use rollcall_storage::{Snapshot as StoredSnapshot, Snapshots};

use super::replicated::{Frozen, Replicated};
use super::wire::{from_snapshot_meta, to_snapshot_meta};
use super::{LogId, Snapshot, SnapshotMeta, Stamped, StoredMembership, TypeConfig};
use crate::blocking::blocking;

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

    pub(crate) fn open(&self) -> io::Result<impl Read + use<>> {
        self.stored.open()
    }

    /// What it says of itself.
    pub(crate) fn description(&self) -> io::Result<wire::SnapshotMeta> {
        wire::SnapshotMeta::decode(self.stored.meta.clone()).map_err(io::Error::other)
    }

    pub(crate) fn meta(&self) -> io::Result<SnapshotMeta> {
        to_snapshot_meta(&self.description()?).map_err(io::Error::other)
    }

    fn restore(&self, replicated: &dyn Replicated, index: u64) -> io::Result<()> {
        replicated.restore(&mut BufReader::with_capacity(1 << 20, self.open()?), index)
    }
}

pub(crate) struct Machine {
    group: u32,
    replicated: Arc<dyn Replicated>,
    snapshots: Snapshots,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// From the latest snapshot, if there is one; Raft replays the log behind it. It reads files.
    pub(crate) fn open(group: u32, replicated: Arc<dyn Replicated>, snapshots: Snapshots) -> io::Result<Self> {
        let membership = StoredMembership::default();
        let mut machine = Machine { group, replicated, snapshots, applied: None, membership };
        if let Some(file) = machine.latest() {
            let meta = file.meta()?;
            file.restore(&*machine.replicated, index_of(&meta))?;
            machine.stand_at(&meta);
        }
        Ok(machine)
    }

    fn latest(&self) -> Option<SnapshotFile> {
        self.snapshots.latest().map(SnapshotFile::new)
    }

    fn stand_at(&mut self, meta: &SnapshotMeta) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
    }

    /// A panic is an error like any other: the group stops on this node, and says so.
    fn apply_batch(&self, index: u64, stamped: &Stamped) -> io::Result<()> {
        let applying = AssertUnwindSafe(|| self.replicated.apply(index, stamped.time, &stamped.batch));
        let applied = catch_unwind(applying).unwrap_or_else(|_| Err(io::Error::other("the state machine panicked")));
        applied.inspect_err(|error| {
            tracing::error!(group = self.group, index, %error, "an entry could not be applied: the group stops here");
        })
    }
}

fn index_of(meta: &SnapshotMeta) -> u64 {
    meta.last_log_id.map_or(0, |id| id.index)
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
                EntryPayload::Normal(stamped) => self.apply_batch(index, stamped)?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                }
            }
            self.applied = Some(entry.log_id);
            self.replicated.advance(index);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            frozen: Arc::from(self.replicated.clone().freeze()),
            snapshots: self.snapshots.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let (replicated, index) = (self.replicated.clone(), index_of(meta));
        blocking(move || snapshot.restore(&*replicated, index)).await??;
        self.stand_at(meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let Some(file) = self.latest() else { return Ok(None) };
        Ok(Some(Snapshot { meta: file.meta()?, snapshot: file }))
    }
}

/// The state of one moment, to be written while entries go on being applied.
pub(crate) struct Builder {
    frozen: Arc<dyn Frozen>,
    snapshots: Snapshots,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (frozen, snapshots, meta) = (self.frozen.clone(), self.snapshots.clone(), self.meta.clone());
        let described = from_snapshot_meta(&meta, frozen.seq()).encode_to_vec();
        let index = index_of(&meta);
        let write = move || {
            let mut writer = snapshots.begin()?;
            frozen.write_to(&mut writer)?;
            writer.finish(index, &described)
        };
        let stored = blocking(write).await??;
        Ok(Snapshot { meta, snapshot: SnapshotFile::new(stored) })
    }
}
