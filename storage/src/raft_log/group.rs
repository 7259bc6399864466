//! What the log knows in memory of one Raft group.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

/// What a group's log holds; returned by [`RaftLog::state`](super::RaftLog::state).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last saved vote.
    pub vote: Option<Bytes>,
    /// The last saved committed position; after a crash it may be an older one.
    pub committed: Option<Bytes>,
    /// The highest purged index and the bytes given with it.
    pub purged: Option<(u64, Bytes)>,
    /// The index of the last entry; that of the purge point if all entries are purged.
    pub last_index: Option<u64>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Waiting to be written, by the queued operation of this number; its bytes are in memory.
    Queued {
        op: u64,
    },
    Disk {
        segment: u64,
        offset: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    place: Place,
    len: u32,
}

/// An entry to be read: from memory, or from disk.
#[derive(Debug)]
pub(crate) enum Source {
    Memory(Bytes),
    Disk { segment: u64, offset: u32, len: u32 },
}

/// One group's vote, positions and entries. Indexes are contiguous.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
    /// Index of the first slot; while there is none, of the next entry if `started`.
    first: u64,
    /// Whether the next index is settled. A group that never had an entry or a purge starts anywhere.
    started: bool,
    slots: VecDeque<Slot>,
    /// The bytes of the last `cached.len()` slots; always including those that are queued.
    cached: VecDeque<Bytes>,
    cached_bytes: u64,
    bytes: u64,
}

impl Group {
    pub(crate) fn state(&self) -> GroupState {
        let last_index = match self.slots.len() {
            0 => self.purged.as_ref().map(|purged| purged.0),
            len => Some(self.first + len as u64 - 1),
        };
        GroupState {
            vote: self.vote.clone(),
            committed: self.committed.clone(),
            purged: self.purged.clone(),
            last_index,
        }
    }

    /// The index an appended entry must have; `None` if it may have any.
    pub(crate) fn next(&self) -> Option<u64> {
        self.started.then_some(self.first + self.slots.len() as u64)
    }

    /// The lowest index that is not purged.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The first entry's index, if there is one.
    pub(crate) fn first_entry(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    pub(crate) fn purged(&self) -> Option<u64> {
        self.purged.as_ref().map(|purged| purged.0)
    }

    /// Payload bytes of the entries that are not purged.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    /// Adds a queued entry; the caller has checked that `index` is the next.
    pub(crate) fn push(&mut self, index: u64, payload: Bytes, op: u64) {
        let len = payload.len() as u32;
        self.cached_bytes += u64::from(len);
        self.cached.push_back(payload);
        self.push_slot(index, Slot { place: Place::Queued { op }, len });
    }

    /// Adds an entry found on disk.
    pub(crate) fn push_found(&mut self, index: u64, segment: u64, offset: u32, len: u32) {
        self.push_slot(index, Slot { place: Place::Disk { segment, offset }, len });
    }

    fn push_slot(&mut self, index: u64, slot: Slot) {
        if !self.started {
            self.first = index;
            self.started = true;
        }
        self.bytes += u64::from(slot.len);
        self.slots.push_back(slot);
    }

    /// Lets the entries begin at `index`, whatever is missing before it.
    pub(crate) fn restart_at(&mut self, index: u64) {
        if self.slots.is_empty() {
            self.first = index;
            self.started = true;
        }
    }

    /// Notes where an entry was written; ignored if the entry is gone or was replaced since.
    pub(crate) fn written(&mut self, index: u64, op: u64, segment: u64, offset: u32) {
        let slot = index.checked_sub(self.first).and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = slot.filter(|slot| slot.place == Place::Queued { op }) {
            slot.place = Place::Disk { segment, offset };
        }
    }

    /// Drops entries from `from` on.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.slots.len() as u64 > from.saturating_sub(self.first) {
            if let Some(slot) = self.slots.pop_back() {
                self.bytes -= u64::from(slot.len);
            }
            if let Some(payload) = self.cached.pop_back() {
                self.cached_bytes -= payload.len() as u64;
            }
        }
        if self.slots.is_empty() && self.started {
            self.first = self.first.min(from);
        }
    }

    /// Drops entries up to and including `index`.
    pub(crate) fn purge(&mut self, index: u64, meta: Bytes) {
        while self.first <= index {
            let Some(slot) = self.slots.pop_front() else { break };
            self.first += 1;
            self.bytes -= u64::from(slot.len);
            if self.cached.len() > self.slots.len() {
                self.pop_cached();
            }
        }
        if self.slots.is_empty() && self.first <= index || !self.started {
            self.first = index + 1;
            self.started = true;
        }
        if self.purged.as_ref().is_none_or(|purged| purged.0 <= index) {
            self.purged = Some((index, meta));
        }
    }

    fn pop_cached(&mut self) -> u64 {
        let len = self.cached.pop_front().map_or(0, |payload| payload.len() as u64);
        self.cached_bytes -= len;
        len
    }

    /// Forgets the oldest written entries' bytes, at least `wanted` of them if there are so many; returns how many.
    pub(crate) fn evict(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        while freed < wanted && !self.cached.is_empty() {
            match self.slots.get(self.slots.len() - self.cached.len()) {
                Some(Slot { place: Place::Disk { .. }, .. }) => freed += self.pop_cached(),
                Some(Slot { place: Place::Queued { .. }, .. }) | None => break,
            }
        }
        freed
    }

    /// The entries within `range`, at most `max_bytes` of them but at least one.
    pub(crate) fn sources(&self, range: Range<u64>, max_bytes: u64) -> Vec<(u64, Source)> {
        let uncached = self.slots.len() - self.cached.len();
        let mut total = 0;
        let mut found = Vec::new();
        for index in range.start.max(self.first)..range.end.min(self.first + self.slots.len() as u64) {
            let at = (index - self.first) as usize;
            let Some(slot) = self.slots.get(at) else { break };
            total += u64::from(slot.len);
            if total > max_bytes && !found.is_empty() {
                break;
            }
            let cached = at.checked_sub(uncached).and_then(|at| self.cached.get(at));
            match (cached, slot.place) {
                (Some(payload), _) => found.push((index, Source::Memory(payload.clone()))),
                (None, Place::Disk { segment, offset }) => {
                    found.push((index, Source::Disk { segment, offset, len: slot.len }));
                }
                (None, Place::Queued { .. }) => break,
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_not_taken_for_the_truncated_one_whose_index_it_has() {
        let mut group = Group::default();
        group.push(5, Bytes::from_static(b"void"), 1);
        group.truncate(5);
        group.push(5, Bytes::from_static(b"valid"), 2);
        // The writer only now comes to say where the first one went.
        group.written(5, 1, 1, 40);
        assert_eq!(group.evict(100), 0);
        assert!(matches!(&group.sources(5..6, 100)[..], [(5, Source::Memory(payload))] if payload == "valid"));
        group.written(5, 2, 1, 80);
        assert_eq!(group.evict(100), 5);
        assert!(matches!(group.sources(5..6, 100)[..], [(5, Source::Disk { offset: 80, .. })]));
    }
}
