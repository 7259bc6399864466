//! The one thread that writes the log: it takes all that waits, writes it, syncs once and answers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ledger::Ledger;
use super::options::RaftLogOptions;
use super::record::{Kind, Record};
use super::segment::{SEGMENT_HEADER, Segment};
use super::shared::{Op, Shared};
use crate::disk::remove_file;
use crate::failure::Failure;

/// A buffer that grew beyond this for one large batch is given back.
const KEPT_BUFFER: usize = 4 << 20;

/// Where an appended entry went: group, index, operation, segment, offset.
type Placed = (u32, u64, u64, u64, u32);

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: PathBuf,
    pub(crate) options: RaftLogOptions,
    pub(crate) ledger: Ledger,
    pub(crate) active: Arc<Segment>,
    /// Where the active segment's synced records end.
    pub(crate) end: u64,
    pub(crate) capacity: u64,
    /// The sealed segments and their sizes, oldest first.
    pub(crate) sealed: BTreeMap<u64, u64>,
    pub(crate) buf: Vec<u8>,
    pub(crate) syncs: u64,
    pub(crate) written: u64,
    pub(crate) last_sync: Duration,
}

impl Writer {
    /// Works until the log is closed or fails.
    pub(crate) fn run(mut self) {
        self.shared.lock().writer = Some(std::thread::current().id());
        while let Some((ops, committed)) = self.shared.take_work() {
            if !self.turn(ops, &committed) {
                return;
            }
        }
        // A read may have found damage; what was queued meanwhile waits for its answer.
        self.shared.answer_failed(Vec::new());
    }

    /// Whether the log has not failed.
    pub(crate) fn turn(&mut self, ops: Vec<Op>, committed: &BTreeMap<u32, Bytes>) -> bool {
        let size = ops.iter().map(Op::size).sum();
        match self.write(&ops, committed) {
            Ok(placed) => {
                self.publish(placed, size);
                ops.into_iter().filter_map(Op::into_done).for_each(|done| done(Ok(())));
            }
            Err(error) => {
                self.give_up(ops, &error, "writing");
                return false;
            }
        }
        if let Err(error) = self.free() {
            self.give_up(Vec::new(), &error, "freeing old segments");
            return false;
        }
        true
    }

    fn give_up(&self, ops: Vec<Op>, error: &io::Error, what: &str) {
        tracing::error!(dir = %self.dir.display(), %error, "the write-ahead log failed while {what}");
        self.shared.fail(Failure::new("write-ahead log", what, error));
        self.shared.answer_failed(ops);
    }

    fn write(&mut self, ops: &[Op], committed: &BTreeMap<u32, Bytes>) -> io::Result<Vec<Placed>> {
        let mut placed = Vec::new();
        for op in ops {
            match op {
                Op::Append { number, group, entries, .. } => {
                    for (index, payload) in entries {
                        let (segment, offset) = self.put(Kind::Entry, *group, *index, payload)?;
                        placed.push((*group, *index, *number, segment, offset));
                    }
                }
                Op::Vote { group, vote, .. } => _ = self.put(Kind::Vote, *group, 0, vote)?,
                Op::Truncate { group, from } => _ = self.put(Kind::Truncate, *group, *from, &Bytes::new())?,
                Op::Forget { group, .. } => _ = self.put(Kind::Forget, *group, 0, &Bytes::new())?,
                Op::Purge { group, index, meta } => _ = self.put(Kind::Purge, *group, *index, meta)?,
            }
        }
        for (group, payload) in committed {
            self.put(Kind::Committed, *group, 0, payload)?;
        }
        self.flush()?;
        Ok(placed)
    }

    /// Adds a record to the buffer; returns where it will stand.
    fn put(&mut self, kind: Kind, group: u32, index: u64, payload: &Bytes) -> io::Result<(u64, u32)> {
        let record = Record { kind, group, index, payload: payload.clone() };
        if self.end + (self.buf.len() + record.size()) as u64 > self.capacity {
            self.flush()?;
            self.rotate(record.size())?;
        }
        // A segment is smaller than 4 GiB.
        let offset = (self.end + self.buf.len() as u64) as u32;
        record.encode(&mut self.buf, self.active.salt, self.end as u32, offset);
        self.ledger.note(self.active.number, kind, group, index, || record.payload);
        Ok((self.active.number, offset))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buf.is_empty() {
            return Ok(());
        }
        self.active.file.write_all_at(&self.buf, self.end)?;
        let start = Instant::now();
        self.active.file.sync_data()?;
        self.last_sync = start.elapsed();
        self.syncs += 1;
        self.written += self.buf.len() as u64;
        self.end += self.buf.len() as u64;
        self.buf.clear();
        self.buf.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    fn rotate(&mut self, record: usize) -> io::Result<()> {
        let capacity = self.options.capacity_for(record);
        let next = Arc::new(Segment::create(&self.dir, self.active.number + 1, self.end, capacity, &self.options)?);
        self.active.file.set_len(self.end)?;
        self.sealed.insert(self.active.number, self.end);
        self.shared.lock().segments.insert(next.number, next.clone());
        self.active = next;
        self.end = SEGMENT_HEADER as u64;
        self.capacity = capacity;
        Ok(())
    }

    /// Deletes the oldest segments that no group needs, after the votes and positions in them are durable elsewhere.
    fn free(&mut self) -> io::Result<()> {
        let needed = self.ledger.first_needed().unwrap_or(self.active.number);
        let Some(&last) = self.sealed.range(..needed).next_back().map(|(number, _)| number) else { return Ok(()) };
        for record in self.ledger.carried(last) {
            self.put(record.kind, record.group, record.index, &record.payload)?;
        }
        self.flush()?;
        while let Some(oldest) = self.sealed.first_entry().filter(|oldest| *oldest.key() <= last) {
            let number = *oldest.key();
            oldest.remove();
            self.shared.lock().segments.remove(&number);
            remove_file(&Segment::path_of(&self.dir, number))?;
        }
        self.publish(Vec::new(), 0);
        Ok(())
    }

    /// Shows callers what is durable now.
    pub(crate) fn publish(&self, placed: Vec<Placed>, size: u64) {
        let mut state = self.shared.lock();
        for (group, index, op, segment, offset) in placed {
            if let Some(group) = state.groups.get_mut(&group) {
                group.written(index, op, segment, offset);
            }
        }
        state.pin = self.sealed.first_key_value().and_then(|(&oldest, _)| self.ledger.pin(oldest));
        state.stats.syncs = self.syncs;
        state.stats.written_bytes = self.written;
        state.stats.last_sync = self.last_sync;
        state.stats.segments = self.sealed.len() as u64 + 1;
        state.stats.disk_bytes = self.sealed.values().sum::<u64>() + self.capacity;
        state.stats.queued_bytes = state.stats.queued_bytes.saturating_sub(size);
        state.evict(self.options.cache_bytes);
        drop(state);
        self.shared.made_room();
    }
}
