//! openraft's own suite for storage, on a real disk.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use futures_util::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use prost::Message as _;
use rollcall_storage::{EventLog, EventLogOptions, RaftLog, RaftLogOptions, Snapshots};
use tempfile::TempDir;

use super::log::LogStore;
use super::machine::{Builder, Machine, SnapshotFile};
use super::{LogId, ROSTER, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::feed::EventFeed;
use crate::replica::Replica;
use crate::testing::Nobody;

/// The machine behind what the server does before Raft hears of a snapshot: the bytes are brought to this disk.
struct Receiving {
    machine: Machine,
    snapshots: Snapshots,
}

impl RaftStateMachine<TypeConfig> for Receiving {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> Result<(), io::Error> {
        let mut bytes = Vec::new();
        snapshot.open()?.read_to_end(&mut bytes)?;
        let mut writer = self.snapshots.begin()?;
        writer.write_all(&bytes)?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let stored = writer.finish(index, &snapshot.description()?.encode_to_vec())?;
        self.machine.install_snapshot(meta, SnapshotFile::new(stored)).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.machine.get_current_snapshot().await
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Receiving, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Receiving), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let log = RaftLog::open(&dir.path().join("raft"), RaftLogOptions::default()).unwrap();
        let snapshots = Snapshots::open(&dir.path().join("snapshots"), ROSTER).unwrap();
        let events = EventLog::open(&dir.path().join("events"), EventLogOptions::default()).unwrap();
        let replica = Arc::new(Replica::new(1, EventFeed::new(events, 100, 100), Arc::new(Nobody)));
        let machine = Machine::open(ROSTER, replica, snapshots.clone()).unwrap();
        Ok((dir, LogStore::new(log, ROSTER), Receiving { machine, snapshots }))
    }
}

#[test]
fn log_and_machine_pass_the_suite_of_openraft_on_a_real_disk() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Suite::<TypeConfig, LogStore, Receiving, OnDisk, TempDir>::test_all(OnDisk)).unwrap();
}
