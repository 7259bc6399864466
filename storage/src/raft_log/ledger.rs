//! What is on disk, by segment: it decides which segments may be deleted and what must be carried forward first.
//!
//! It follows the records in the order they are written, so it never runs ahead of the disk as the memory of a group
//! does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::record::{Kind, Record};

/// The group whose entries keep the oldest segment from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The group to snapshot and purge.
    pub group: u32,
    /// The last index of the group in the oldest segment: purged up to here, the group no longer needs it.
    pub up_to: u64,
}

#[derive(Debug)]
struct Run {
    segment: u64,
    first: u64,
    last: u64,
}

#[derive(Debug)]
struct Kept {
    segment: u64,
    index: u64,
    payload: Bytes,
}

#[derive(Debug, Default)]
struct Account {
    runs: VecDeque<Run>,
    vote: Option<Kept>,
    committed: Option<Kept>,
    purged: Option<Kept>,
}

/// All groups' records by segment.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    groups: BTreeMap<u32, Account>,
}

impl Ledger {
    /// Notes a record written to `segment`.
    pub(crate) fn note(&mut self, segment: u64, kind: Kind, group: u32, index: u64, payload: impl FnOnce() -> Bytes) {
        let account = self.groups.entry(group).or_default();
        match kind {
            Kind::Entry => account.extend(segment, index),
            Kind::Vote => account.vote = Some(Kept { segment, index, payload: payload() }),
            Kind::Committed => account.committed = Some(Kept { segment, index, payload: payload() }),
            Kind::Truncate => account.truncate(index),
            Kind::Purge => {
                account.purge(index);
                account.purged = Some(Kept { segment, index, payload: payload() });
            }
            Kind::Forget => *account = Account::default(),
        }
    }

    /// The oldest segment that holds an entry some group needs.
    pub(crate) fn first_needed(&self) -> Option<u64> {
        self.groups.values().filter_map(|account| account.runs.front()).map(|run| run.segment).min()
    }

    /// The group that needs `segment`, the oldest.
    pub(crate) fn pin(&self, segment: u64) -> Option<Pin> {
        self.groups.iter().find_map(|(&group, account)| {
            let run = account.runs.front().filter(|run| run.segment == segment)?;
            Some(Pin { group, up_to: run.last })
        })
    }

    /// The votes and positions that stand in `segment` or before it, as records to be written anew.
    pub(crate) fn carried(&self, segment: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for (&group, account) in &self.groups {
            let kept =
                [(Kind::Vote, &account.vote), (Kind::Committed, &account.committed), (Kind::Purge, &account.purged)];
            for (kind, kept) in kept {
                if let Some(kept) = kept.as_ref().filter(|kept| kept.segment <= segment) {
                    records.push(Record { kind, group, index: kept.index, payload: kept.payload.clone() });
                }
            }
        }
        records
    }
}

impl Account {
    fn extend(&mut self, segment: u64, index: u64) {
        match self.runs.back_mut() {
            Some(run) if run.segment == segment && run.last + 1 == index => run.last = index,
            Some(_) | None => self.runs.push_back(Run { segment, first: index, last: index }),
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
        if let Some(run) = self.runs.back_mut() {
            run.last = run.last.min(from.saturating_sub(1));
        }
    }

    fn purge(&mut self, index: u64) {
        while self.runs.front().is_some_and(|run| run.last <= index) {
            self.runs.pop_front();
        }
    }
}
