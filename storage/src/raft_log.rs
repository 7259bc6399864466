//! One write-ahead log for all Raft groups of a node.
//!
//! Callers queue operations; one thread writes whatever waits with one `fdatasync` and then answers all of it. What is
//! queued can be read at once. After any failed write or sync nothing more is written: what the disk holds is then
//! unknown, and only a restart finds out. A record that reads back damaged, or not at all, fails the log as well: a
//! replica that cannot show what it has acknowledged must not vote or lead on the strength of it.

mod error;
mod group;
mod ledger;
mod options;
mod record;
mod replay;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

pub use error::LogError;
pub use group::GroupState;
pub use ledger::Pin;
pub use options::RaftLogOptions;
pub use shared::LogStats;

use crate::disk::create_dir;
use crate::failure::{Failure, misuse};
use group::{Group, Source};
use record::RECORD_HEADER;
use replay::Replay;
use segment::{SEGMENT_HEADER, Segment};
use shared::{Op, Shared, State};
use writer::Writer;

/// The most bytes one entry, vote or purge description may have: a GiB less the headers.
pub const MAX_PAYLOAD: usize = (1 << 30) - RECORD_HEADER - SEGMENT_HEADER;

/// A handle to the log; the last one dropped waits until everything queued is durable.
#[derive(Clone)]
pub struct RaftLog {
    inner: Arc<Inner>,
}

/// Writes a log that was opened by hand.
pub struct Pen(Writer);

impl Pen {
    /// Makes everything durable that waits, and answers it.
    pub fn write(&mut self) {
        let waiting = self.0.shared.waiting();
        if let Some((ops, committed)) = waiting {
            self.0.turn(ops, &committed);
        }
    }
}

struct Inner {
    shared: Arc<Shared>,
    options: RaftLogOptions,
    /// None where a [`Pen`] writes.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RaftLog {
    /// Opens the log in `dir`, creating both if need be. A torn tail is cut.
    ///
    /// # Errors
    /// [`LogError`] if the disk fails, or what is on it is damaged, incomplete or of a newer format. Nothing is changed
    /// then.
    pub fn open(dir: &Path, options: RaftLogOptions) -> Result<RaftLog, LogError> {
        let writer = Self::prepare(dir, &options)?;
        let shared = writer.shared.clone();
        let failed = |source| LogError::Io { path: dir.to_path_buf(), source };
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(|| run(writer)).map_err(failed)?;
        Ok(RaftLog { inner: Arc::new(Inner { shared, options, thread: Mutex::new(Some(thread)) }) })
    }

    /// As [`Self::open`], but nothing becomes durable unless the [`Pen`] is told to write: for simulations, which have one
    /// thread and decide themselves how long a disk takes. What is not written when the log is dropped is lost.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_by_hand(dir: &Path, options: RaftLogOptions) -> Result<(RaftLog, Pen), LogError> {
        let writer = Self::prepare(dir, &options)?;
        let shared = writer.shared.clone();
        Ok((RaftLog { inner: Arc::new(Inner { shared, options, thread: Mutex::new(None) }) }, Pen(writer)))
    }

    fn prepare(dir: &Path, options: &RaftLogOptions) -> Result<Writer, LogError> {
        options.check()?;
        create_dir(dir).map_err(|source| LogError::Io { path: dir.to_path_buf(), source })?;
        let (replay, tail) = Replay::run(dir, options)?;
        let state = State::new(replay.groups, replay.segments);
        let shared = Arc::new(Shared::new(state));
        let writer = Writer {
            shared,
            dir: dir.to_path_buf(),
            options: options.clone(),
            ledger: replay.ledger,
            active: tail.segment,
            end: tail.end,
            capacity: tail.capacity,
            sealed: replay.sealed,
            buf: Vec::new(),
            syncs: 0,
            written: 0,
            last_sync: Duration::ZERO,
        };
        writer.publish(Vec::new(), 0);
        Ok(writer)
    }

    /// Appends entries, whose indexes must follow the last one's; `done` is called on the log's thread when they are
    /// durable, in the order of the calls. They can be read at once. Waits while `queue_bytes` are queued.
    ///
    /// `done` gets an error, and nothing is appended, if an index is not the next (the very first entry of a group may
    /// have any), a payload is larger than [`MAX_PAYLOAD`], or the log has failed.
    pub fn append(&self, group: u32, entries: Vec<(u64, Bytes)>, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let mut state = self.inner.shared.lock_with_room(self.inner.options.queue_bytes);
        let checked = state.check().and_then(|()| check_entries(state.groups.get(&group), group, &entries));
        if let Err(error) = checked {
            drop(state);
            return done(Err(error));
        }
        let number = state.op_number();
        let held = state.groups.entry(group).or_default();
        for (index, payload) in &entries {
            held.push(*index, payload.clone(), number);
        }
        self.inner.shared.enqueue(&mut state, Op::Append { number, group, entries, done: Box::new(done) });
    }

    /// Saves the group's vote; `done` is called on the log's thread when it is durable, or with an error if it is
    /// larger than [`MAX_PAYLOAD`] or the log has failed.
    pub fn save_vote(&self, group: u32, vote: Bytes, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let mut state = self.inner.shared.lock_with_room(self.inner.options.queue_bytes);
        if let Err(error) = state.check().and_then(|()| check_payload(&vote)) {
            drop(state);
            return done(Err(error));
        }
        state.groups.entry(group).or_default().vote = Some(vote.clone());
        self.inner.shared.enqueue(&mut state, Op::Vote { group, vote, done: Box::new(done) });
    }

    /// Saves what is committed in the group. It is written along with the next operation, or when the log is closed: a
    /// crash may bring back an older one.
    ///
    /// # Errors
    /// If it is larger than [`MAX_PAYLOAD`], or the log has failed.
    pub fn save_committed(&self, group: u32, committed: Bytes) -> io::Result<()> {
        let mut state = self.inner.shared.lock();
        state.check()?;
        check_payload(&committed)?;
        state.groups.entry(group).or_default().committed = Some(committed.clone());
        state.committed.insert(group, committed);
        Ok(())
    }

    /// Drops the entries after `index`, all with `None`; on disk before anything that is appended later.
    ///
    /// # Errors
    /// If the log has failed.
    pub fn truncate_after(&self, group: u32, index: Option<u64>) -> io::Result<()> {
        let mut state = self.inner.shared.lock_with_room(self.inner.options.queue_bytes);
        state.check()?;
        let Some(held) = state.groups.get_mut(&group) else { return Ok(()) };
        let from = index.map_or(0, |index| index.saturating_add(1)).max(held.first());
        if held.next().is_none_or(|next| from >= next) {
            return Ok(());
        }
        held.truncate(from);
        self.inner.shared.enqueue(&mut state, Op::Truncate { group, from });
        Ok(())
    }

    /// Drops the entries up to and including `index`, which may be beyond the last; `meta` describes the entry at
    /// `index`. The next entry after an emptied log is `index + 1`. An index that is already purged changes nothing.
    /// Files of the log's front that no group needs any longer are deleted.
    ///
    /// # Errors
    /// If `meta` is larger than [`MAX_PAYLOAD`], `index` is `u64::MAX`, or the log has failed.
    pub fn purge(&self, group: u32, index: u64, meta: Bytes) -> io::Result<()> {
        let mut state = self.inner.shared.lock_with_room(self.inner.options.queue_bytes);
        state.check()?;
        check_payload(&meta)?;
        check_index(index)?;
        let held = state.groups.entry(group).or_default();
        if held.purged().is_some_and(|purged| purged >= index) {
            return Ok(());
        }
        held.purge(index, meta.clone());
        self.inner.shared.enqueue(&mut state, Op::Purge { group, index, meta });
        Ok(())
    }

    /// Drops everything of the group: it is then as if it had never been written to. `done` is called on the log's
    /// thread when that is durable, or with an error if the log has failed.
    pub fn forget(&self, group: u32, done: impl FnOnce(io::Result<()>) + Send + 'static) {
        let mut state = self.inner.shared.lock_with_room(self.inner.options.queue_bytes);
        if let Err(error) = state.check() {
            drop(state);
            return done(Err(error));
        }
        state.groups.remove(&group);
        state.committed.remove(&group);
        self.inner.shared.enqueue(&mut state, Op::Forget { group, done: Box::new(done) });
    }

    /// The entries within `range` that are there, in order: as many as fit in `max_bytes`, but at least one.
    ///
    /// # Errors
    /// If the disk fails or a record on it is damaged, which fails the whole log, or if the log has failed before.
    pub fn read(&self, group: u32, range: Range<u64>, max_bytes: u64) -> io::Result<Vec<(u64, Bytes)>> {
        let state = self.inner.shared.lock();
        state.check()?;
        let Some(held) = state.groups.get(&group) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (index, source) in held.sources(range, max_bytes) {
            let file = match &source {
                Source::Memory(_) => None,
                Source::Disk { segment, .. } => state.segments.get(segment).cloned(),
            };
            found.push((index, source, file));
        }
        drop(state);
        let read = |(index, source, file): (u64, Source, Option<Arc<Segment>>)| match (source, file) {
            (Source::Memory(payload), _) => Ok((index, payload)),
            (Source::Disk { offset, len, .. }, Some(file)) => match file.read(offset, len) {
                Ok(payload) => Ok((index, payload)),
                Err(error) => Err(self.fail_reading(index, &error)),
            },
            (Source::Disk { segment, .. }, None) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("entry {index} was in segment {segment}, which is gone"),
            )),
        };
        found.into_iter().map(read).collect()
    }

    fn fail_reading(&self, index: u64, error: &io::Error) -> io::Error {
        tracing::error!(index, %error, "the write-ahead log cannot be read back");
        let failure = Failure::new("write-ahead log", "reading an entry back", error);
        self.inner.shared.fail(failure.clone());
        failure.to_error()
    }

    /// Fails the log for what its owner has met elsewhere on the disk, `what` being what it was doing then: the log is
    /// what lets a node promise anything.
    pub fn condemn(&self, what: &str, error: &io::Error) {
        self.inner.shared.fail(Failure::new("node's disk", what, error));
    }

    /// Why the log has failed, if it has: it takes nothing more then, and the node should end.
    pub fn failed(&self) -> Option<String> {
        self.inner.shared.lock().failed.as_ref().map(|failure| failure.text().to_owned())
    }

    /// Calls `told` once with the reason when the log fails, or now if it has failed already: on the thread that met
    /// the failure, before those whose operations fail with it are answered. Never called if the log does not fail.
    pub fn on_failure(&self, told: impl FnOnce(String) + Send + 'static) {
        let mut state = self.inner.shared.lock();
        match state.failed.as_ref().map(|failure| failure.text().to_owned()) {
            Some(reason) => {
                drop(state);
                told(reason);
            }
            None => state.watchers.push(Box::new(told)),
        }
    }

    /// What the group's log holds; empty for a group that was never written.
    pub fn state(&self, group: u32) -> GroupState {
        self.inner.shared.lock().groups.get(&group).map(Group::state).unwrap_or_default()
    }

    /// Payload bytes of the group's entries since its purge point.
    pub fn size(&self, group: u32) -> u64 {
        self.inner.shared.lock().groups.get(&group).map_or(0, Group::bytes)
    }

    /// A group whose entries keep the oldest file from being deleted; `None` while there is but one file.
    pub fn oldest_pin(&self) -> Option<Pin> {
        self.inner.shared.lock().pin
    }

    /// Counters and sizes, for metrics.
    pub fn stats(&self) -> LogStats {
        self.inner.shared.lock().stats
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        let Some(thread) = self.thread.lock().take() else { return };
        // The last handle may be dropped by a callback, which runs on that very thread.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the write-ahead log's thread panicked");
        }
    }
}

fn run(writer: Writer) {
    let shared = writer.shared.clone();
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| writer.run())).is_err() {
        shared.fail(Failure::new("write-ahead log", "answering", &io::Error::other("a callback panicked")));
        shared.answer_failed(Vec::new());
    }
}

fn check_payload(payload: &Bytes) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(misuse(format!("{} bytes are more than the {MAX_PAYLOAD} one record may have", payload.len())));
    }
    Ok(())
}

fn check_index(index: u64) -> io::Result<()> {
    if index == u64::MAX {
        return Err(misuse(format!("the index {index} has no successor")));
    }
    Ok(())
}

fn check_entries(held: Option<&Group>, group: u32, entries: &[(u64, Bytes)]) -> io::Result<()> {
    let mut next = held.and_then(Group::next);
    for (index, payload) in entries {
        check_payload(payload)?;
        check_index(*index)?;
        if let Some(expected) = next.filter(|next| next != index) {
            return Err(misuse(format!("entry {index} of group {group} was appended where {expected} is due")));
        }
        next = Some(index + 1);
    }
    Ok(())
}
