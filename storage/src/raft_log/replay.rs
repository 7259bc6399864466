//! Reading the segments back when the log is opened.
//!
//! The oldest segments may be gone, so what is found is the end of a longer story: a group's first entry may have any
//! index, and entries missing before it must be covered by a purge, wherever in the rest that stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::LogError;
use super::group::Group;
use super::ledger::Ledger;
use super::options::RaftLogOptions;
use super::record::{Found, Kind};
use super::segment::{SEGMENT_HEADER, SUFFIX, Segment, was_durable};
use crate::disk::numbered_files;

/// The last segment, ready to be written at `end`.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: u64,
    /// Its size on disk.
    pub(crate) capacity: u64,
}

/// Everything found on disk.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) segments: BTreeMap<u64, Arc<Segment>>,
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) ledger: Ledger,
    /// Sizes of all segments but the last.
    pub(crate) sealed: BTreeMap<u64, u64>,
    seen: BTreeSet<u32>,
}

impl Replay {
    /// Reads all segments in `dir`, cuts a torn tail and makes what remains durable.
    pub(crate) fn run(dir: &Path, options: &RaftLogOptions) -> Result<(Replay, Tail), LogError> {
        let mut replay = Replay::default();
        let files = numbered_files(dir, SUFFIX).map_err(io_error(dir))?;
        let mut opened: Option<(Arc<Segment>, Vec<u8>)> = None;
        for (number, path) in files {
            let (segment, bytes) = Segment::open(&path, number, options)?;
            if let Some((previous, bytes)) = opened.take() {
                if number != previous.number + 1 {
                    return Err(LogError::SegmentMissing { path: Segment::path_of(dir, previous.number + 1) });
                }
                replay.sealed(previous, &bytes, segment.previous_end)?;
            }
            opened = Some((Arc::new(segment), bytes));
        }
        let tail = match opened {
            Some((segment, bytes)) => replay.last(segment, &bytes, options)?,
            None => create_first(dir, options)?,
        };
        replay.segments.insert(tail.segment.number, tail.segment.clone());
        replay.check_purged(dir)?;
        Ok((replay, tail))
    }

    /// A segment that has a successor: all its bytes up to `end` had been durable.
    fn sealed(&mut self, segment: Arc<Segment>, bytes: &[u8], end: u64) -> Result<(), LogError> {
        let sealed = bytes.get(..end as usize).unwrap_or(bytes);
        let valid = self.records(&segment, sealed)?;
        if valid as u64 != end {
            return Err(corrupt(&segment, valid));
        }
        self.sealed.insert(segment.number, end);
        self.segments.insert(segment.number, segment);
        Ok(())
    }

    fn last(&mut self, segment: Arc<Segment>, bytes: &[u8], options: &RaftLogOptions) -> Result<Tail, LogError> {
        let valid = self.records(&segment, bytes)?;
        if was_durable(bytes, segment.salt, valid) {
            return Err(corrupt(&segment, valid));
        }
        let failed = io_error(segment.file.path());
        let end = valid as u64;
        let capacity = options.segment_size.max(end);
        if bytes[valid..].iter().any(|&byte| byte != 0) {
            tracing::warn!(path = %segment.file.path().display(), offset = valid, "cut a write that was never finished");
            segment.cut(end, capacity).map_err(failed)?;
        } else {
            segment.file.preallocate(capacity).map_err(&failed)?;
            // A process that was killed leaves records in the page cache that no sync has covered.
            segment.file.sync_all().map_err(failed)?;
        }
        Ok(Tail { segment, end, capacity })
    }

    /// Takes in all valid records; returns the offset behind the last.
    fn records(&mut self, segment: &Segment, bytes: &[u8]) -> Result<usize, LogError> {
        let mut offset = SEGMENT_HEADER;
        while let Some(found) = bytes.get(offset..).and_then(|rest| Found::decode(rest, segment.salt, offset as u32)) {
            self.take_in(segment, offset, &found)?;
            offset += found.size();
        }
        Ok(offset)
    }

    fn take_in(&mut self, segment: &Segment, offset: usize, found: &Found<'_>) -> Result<(), LogError> {
        let group = self.groups.entry(found.group).or_default();
        match found.kind {
            Kind::Entry => {
                if self.seen.insert(found.group) {
                    group.restart_at(found.index);
                }
                let expected = group.next().unwrap_or(found.index);
                if found.index != expected {
                    return Err(LogError::Gap {
                        path: segment.file.path().to_path_buf(),
                        offset: offset as u64,
                        group: found.group,
                        expected,
                        found: found.index,
                    });
                }
                group.push_found(found.index, segment.number, offset as u32, found.payload.len() as u32);
            }
            Kind::Vote => group.vote = Some(Bytes::copy_from_slice(found.payload)),
            Kind::Committed => group.committed = Some(Bytes::copy_from_slice(found.payload)),
            Kind::Truncate => group.truncate(found.index),
            Kind::Purge => group.purge(found.index, Bytes::copy_from_slice(found.payload)),
            Kind::Forget => {
                self.groups.remove(&found.group);
                self.seen.remove(&found.group);
            }
        }
        let payload = || Bytes::copy_from_slice(found.payload);
        self.ledger.note(segment.number, found.kind, found.group, found.index, payload);
        Ok(())
    }

    fn check_purged(&self, dir: &Path) -> Result<(), LogError> {
        for (&number, group) in &self.groups {
            if let (Some(purged), Some(first)) = (group.purged(), group.first_entry())
                && first != purged + 1
            {
                return Err(LogError::EntriesMissing { path: dir.to_path_buf(), group: number, purged, first });
            }
        }
        Ok(())
    }
}

fn create_first(dir: &Path, options: &RaftLogOptions) -> Result<Tail, LogError> {
    let segment = Segment::create(dir, 1, 0, options.segment_size, options).map_err(io_error(dir))?;
    Ok(Tail { segment: Arc::new(segment), end: SEGMENT_HEADER as u64, capacity: options.segment_size })
}

fn corrupt(segment: &Segment, offset: usize) -> LogError {
    LogError::Corrupt { path: segment.file.path().to_path_buf(), offset: offset as u64 }
}

fn io_error(path: &Path) -> impl Fn(std::io::Error) -> LogError + use<> {
    let path: PathBuf = path.to_path_buf();
    move |source| LogError::Io { path: path.clone(), source }
}
