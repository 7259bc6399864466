//! Which records are live, and in which generation: in memory, so that neither giving up a record nor a failing disk
//! needs sled.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes of disk a record takes besides its body, about.
const OVERHEAD: u64 = 64;

/// What records cost on disk.
pub(super) fn cost(bytes: u64, records: u64) -> u64 {
    bytes + records * OVERHEAD
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) len: u32,
}

/// A record by group and id.
pub(super) type Name = (u32, u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

/// All live records.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: BTreeMap<u32, BTreeMap<u64, Slot>>,
    /// What lives in each generation; one in which nothing does is not here.
    live: BTreeMap<u32, Live>,
}

impl Index {
    pub(super) fn get(&self, (group, id): Name) -> Option<Slot> {
        self.groups.get(&group)?.get(&id).copied()
    }

    pub(super) fn insert(&mut self, (group, id): Name, slot: Slot) {
        let live = self.live.entry(slot.generation).or_default();
        live.bytes += u64::from(slot.len);
        live.records += 1;
        if let Some(old) = self.groups.entry(group).or_default().insert(id, slot) {
            self.bury(old);
        }
    }

    pub(super) fn remove(&mut self, (group, id): Name) {
        let Some(records) = self.groups.get_mut(&group) else { return };
        let removed = records.remove(&id);
        if records.is_empty() {
            self.groups.remove(&group);
        }
        removed.into_iter().for_each(|slot| self.bury(slot));
    }

    pub(super) fn forget_group(&mut self, group: u32) {
        let records = self.groups.remove(&group).unwrap_or_default();
        records.into_values().for_each(|slot| self.bury(slot));
    }

    fn bury(&mut self, slot: Slot) {
        if let Some(live) = self.live.get_mut(&slot.generation) {
            live.bytes -= u64::from(slot.len);
            live.records -= 1;
            if live.records == 0 {
                self.live.remove(&slot.generation);
            }
        }
    }

    /// What lives in the generation.
    pub(super) fn live_in(&self, generation: u32) -> Live {
        self.live.get(&generation).copied().unwrap_or_default()
    }

    /// What lives in all generations.
    pub(super) fn live(&self) -> Live {
        self.live.values().fold(Live::default(), |sum, live| Live {
            bytes: sum.bytes + live.bytes,
            records: sum.records + live.records,
        })
    }

    /// The first records after `after` that live in `generation`: some `max_bytes` of them, found among so many that
    /// looking takes bounded time. With them the last record looked at; `None` if there is no record after it.
    pub(super) fn page(&self, generation: u32, after: Option<Name>, max_bytes: u64) -> (Vec<Name>, Option<Name>) {
        const MOST_LOOKED_AT: usize = 10_000;
        let (mut found, mut bytes, mut looked_at, mut last) = (Vec::new(), 0, 0, None);
        let from = after.map_or(0, |after| after.0);
        for (&group, records) in self.groups.range(from..) {
            let beyond =
                after.filter(|after| after.0 == group).map_or(Bound::Unbounded, |after| Bound::Excluded(after.1));
            for (&id, slot) in records.range((beyond, Bound::Unbounded)) {
                if bytes >= max_bytes || looked_at == MOST_LOOKED_AT {
                    return (found, last);
                }
                looked_at += 1;
                last = Some((group, id));
                if slot.generation == generation {
                    bytes += cost(u64::from(slot.len), 1);
                    found.push((group, id));
                }
            }
        }
        (found, None)
    }
}
