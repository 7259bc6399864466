//! Why an event log cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why an [`EventLog`](super::EventLog) cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    #[error("{path}: {source}; check that the disk is there, writable and not full", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is damaged at byte {offset}, where it had been durable; restore this node from a backup, or let it join \
         anew with an empty data directory",
        path = .path.display()
    )]
    Corrupt { path: PathBuf, offset: u64 },
    #[error(
        "{path}: event {found} stands where {expected} is due; restore this node from a backup, or let it join anew with \
         an empty data directory",
        path = .path.display()
    )]
    Gap { path: PathBuf, expected: u64, found: u64 },
    #[error("{path} has format {found}, this program knows formats up to {known}; start the newer program", path = .path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("the segment size is {found} bytes; allowed are 4096 to 1073741824")]
    SegmentSize { found: u64 },
}
