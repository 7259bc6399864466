//! What a log may be told when it is opened.

use super::error::LogError;
use super::segment::SEGMENT_HEADER;
use crate::disk::DiskFile;
#[cfg(test)]
use crate::fault::Faults;

/// Sizes of a [`RaftLog`](super::RaftLog), in bytes.
#[derive(Clone, Debug)]
pub struct RaftLogOptions {
    /// Size of one segment file, reserved when it is created: 4 KiB to 1 GiB, 64 MiB by default. A record that is larger
    /// gets a segment of its own size.
    pub segment_size: u64,
    /// Entries kept in memory for reading, over all groups; 64 MiB by default. Older ones are read from disk. Entries
    /// that are not yet written are always in memory and bounded by `queue_bytes`.
    pub cache_bytes: u64,
    /// While more than this waits to be written, callers wait; 64 MiB by default.
    pub queue_bytes: u64,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

impl Default for RaftLogOptions {
    fn default() -> Self {
        RaftLogOptions {
            segment_size: 64 << 20,
            cache_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }
}

impl RaftLogOptions {
    pub(crate) fn check(&self) -> Result<(), LogError> {
        if !(4 << 10..=1 << 30).contains(&self.segment_size) {
            return Err(LogError::SegmentSize { found: self.segment_size });
        }
        Ok(())
    }

    /// The size of a segment that has room for a record of `record` bytes.
    pub(crate) fn capacity_for(&self, record: usize) -> u64 {
        self.segment_size.max((SEGMENT_HEADER + record) as u64)
    }

    #[cfg(test)]
    pub(crate) fn faulty(&self, file: DiskFile) -> DiskFile {
        file.with_faults(&self.faults)
    }

    #[cfg(not(test))]
    pub(crate) fn faulty(&self, file: DiskFile) -> DiskFile {
        file
    }
}
