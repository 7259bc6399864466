//! What callers and the writer thread share.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::group::Group;
use super::ledger::Pin;
use super::record::RECORD_HEADER;
use super::segment::Segment;
use crate::failure::Failure;

/// Told once the operation is durable, or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;
/// Told why the log has failed.
pub(crate) type Watcher = Box<dyn FnOnce(String) + Send>;

/// What the log has done since it was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// `fdatasync` calls for records.
    pub syncs: u64,
    /// Bytes of records written, their headers included.
    pub written_bytes: u64,
    /// How long the last `fdatasync` took.
    pub last_sync: Duration,
    /// Segment files.
    pub segments: u64,
    /// Bytes the segment files take on disk.
    pub disk_bytes: u64,
    /// Bytes of entries kept in memory.
    pub cached_bytes: u64,
    /// Bytes waiting to become durable.
    pub queued_bytes: u64,
}

/// An operation waiting for the writer.
pub(crate) enum Op {
    Append { number: u64, group: u32, entries: Vec<(u64, Bytes)>, done: Done },
    Vote { group: u32, vote: Bytes, done: Done },
    Truncate { group: u32, from: u64 },
    Purge { group: u32, index: u64, meta: Bytes },
    Forget { group: u32, done: Done },
}

/// Operations, and what is committed in each group.
pub(crate) type Work = (Vec<Op>, BTreeMap<u32, Bytes>);

impl Op {
    pub(crate) fn size(&self) -> u64 {
        let (records, payload) = match self {
            Op::Append { entries, .. } => (entries.len(), entries.iter().map(|entry| entry.1.len()).sum()),
            Op::Vote { vote, .. } => (1, vote.len()),
            Op::Truncate { .. } | Op::Forget { .. } => (1, 0),
            Op::Purge { meta, .. } => (1, meta.len()),
        };
        (records * RECORD_HEADER + payload) as u64
    }

    pub(crate) fn into_done(self) -> Option<Done> {
        match self {
            Op::Append { done, .. } | Op::Vote { done, .. } | Op::Forget { done, .. } => Some(done),
            Op::Truncate { .. } | Op::Purge { .. } => None,
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) queue: Vec<Op>,
    /// Committed positions wait here for the next write.
    pub(crate) committed: BTreeMap<u32, Bytes>,
    pub(crate) segments: BTreeMap<u64, Arc<Segment>>,
    pub(crate) failed: Option<Failure>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) closing: bool,
    pub(crate) writer: Option<ThreadId>,
    pub(crate) stats: LogStats,
    pub(crate) pin: Option<Pin>,
    next_op: u64,
}

impl State {
    pub(crate) fn new(groups: BTreeMap<u32, Group>, segments: BTreeMap<u64, Arc<Segment>>) -> State {
        State { groups, segments, ..State::default() }
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |failure| Err(failure.to_error()))
    }

    pub(crate) fn op_number(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    fn take_all(&mut self) -> Work {
        (std::mem::take(&mut self.queue), std::mem::take(&mut self.committed))
    }

    /// Brings the cached entries down to `limit` bytes, as far as they are written: those of the group with most first.
    pub(crate) fn evict(&mut self, limit: u64) {
        let mut total: u64 = self.groups.values().map(Group::cached_bytes).sum();
        // A little more than needed, so that not every batch evicts.
        let slack = limit / 16;
        while total > limit {
            let Some(group) = self.groups.values_mut().max_by_key(|group| group.cached_bytes()) else { break };
            let freed = group.evict(total - limit + slack);
            if freed == 0 {
                break;
            }
            total -= freed;
        }
        self.stats.cached_bytes = total;
    }
}

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

impl Shared {
    pub(crate) fn new(state: State) -> Shared {
        Shared { state: Mutex::new(state), ..Shared::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state, once less than `limit` bytes are queued. A callback runs on the writer thread, which must not wait
    /// for itself.
    pub(crate) fn lock_with_room(&self, limit: u64) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.stats.queued_bytes >= limit
            && state.failed.is_none()
            && state.writer != Some(std::thread::current().id())
        {
            self.room.wait(&mut state);
        }
        state
    }

    pub(crate) fn enqueue(&self, state: &mut State, op: Op) {
        state.stats.queued_bytes += op.size();
        state.queue.push(op);
        self.work.notify_one();
    }

    /// Lets the writer finish what waits, and end.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    /// What waits now, unless nothing does or the log has failed.
    pub(crate) fn waiting(&self) -> Option<Work> {
        let mut state = self.state.lock();
        (state.failed.is_none() && !state.queue.is_empty()).then(|| state.take_all())
    }

    /// Waits for work; `None` when the log is closed and all is done, or when it has failed.
    pub(crate) fn take_work(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if !state.queue.is_empty() || state.closing && !state.committed.is_empty() {
                return Some(state.take_all());
            }
            if state.closing {
                return None;
            }
            self.work.wait(&mut state);
        }
    }

    pub(crate) fn made_room(&self) {
        self.room.notify_all();
    }

    /// From now on every operation fails, and those who watch are told. What is queued is left to the writer, which
    /// answers in the order of the calls.
    pub(crate) fn fail(&self, failure: Failure) {
        let mut state = self.state.lock();
        let failure = state.failed.get_or_insert(failure).clone();
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        self.work.notify_one();
        self.made_room();
        for watcher in watchers {
            watcher(failure.text().to_owned());
        }
    }

    /// Tells those being written and those queued why the log has failed, if it has.
    pub(crate) fn answer_failed(&self, writing: Vec<Op>) {
        let mut state = self.state.lock();
        let Some(failure) = state.failed.clone() else { return };
        let queue = std::mem::take(&mut state.queue);
        state.committed.clear();
        state.stats.queued_bytes = 0;
        drop(state);
        for done in writing.into_iter().chain(queue).filter_map(Op::into_done) {
            done(Err(failure.to_error()));
        }
    }
}
