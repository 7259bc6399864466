//! openraft's log on the node's write-ahead log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message as _;
use rollcall_proto::schema::node as wire;
use rollcall_storage::RaftLog;
use tokio::sync::oneshot;

use super::wire::{from_entry, from_log_id, from_vote, to_entry, to_log_id, to_vote};
use super::{Entry, LogId, TypeConfig, Vote};

/// The most bytes of entries read at once.
const READ_BYTES: u64 = 8 << 20;

/// One group's log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: RaftLog,
    group: u32,
}

impl LogStore {
    pub(crate) fn new(log: RaftLog, group: u32) -> Self {
        LogStore { log, group }
    }

    fn decode(bytes: Bytes) -> io::Result<Entry> {
        to_entry(wire::Entry::decode(bytes).map_err(damaged)?).map_err(damaged)
    }

    fn read_log_id(bytes: Bytes) -> io::Result<LogId> {
        Ok(to_log_id(&wire::LogId::decode(bytes).map_err(damaged)?))
    }
}

fn damaged(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let entries = self.log.read(self.group, start..end, u64::MAX)?;
        entries.into_iter().map(|(_, bytes)| Self::decode(bytes)).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let entries = self.log.read(self.group, start..end, READ_BYTES)?;
        entries.into_iter().map(|(_, bytes)| Self::decode(bytes)).collect()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let Some(bytes) = self.log.state(self.group).vote else { return Ok(None) };
        let vote = wire::Vote::decode(bytes).map_err(damaged)?;
        to_vote(Some(vote)).map(Some).map_err(damaged)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state(self.group);
        let last_purged_log_id = state.purged.map(|(_, meta)| Self::read_log_id(meta)).transpose()?;
        let last = state.last_index.map(|index| self.log.read(self.group, index..index + 1, u64::MAX)).transpose()?;
        let last_log_id = match last.and_then(|mut found| found.pop()) {
            Some((_, bytes)) => Some(Self::decode(bytes)?.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (tx, rx) = oneshot::channel();
        let bytes = from_vote(vote).encode_to_vec().into();
        self.log.save_vote(self.group, bytes, move |result| {
            // Nobody is left to tell only when Raft has been shut down.
            let _ = tx.send(result);
        });
        rx.await.map_err(io::Error::other)?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(id) => self.log.save_committed(self.group, from_log_id(&id).encode_to_vec().into()),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.state(self.group).committed.map(Self::read_log_id).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded = entries
            .into_iter()
            .map(|entry| (entry.log_id.index, Bytes::from(from_entry(&entry).encode_to_vec())))
            .collect();
        self.log.append(self.group, encoded, move |result| callback.io_completed(result));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(self.group, last_log_id.map(|id| id.index))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log.purge(self.group, log_id.index, from_log_id(&log_id).encode_to_vec().into())
    }
}
