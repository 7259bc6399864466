//! Why a log cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why a [`RaftLog`](super::RaftLog) cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{path}: {source}; check that the disk is there, writable and not full", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is damaged at byte {offset}, before records that had been durable; restore this node from a backup, or \
         let it join anew with an empty data directory",
        path = .path.display()
    )]
    Corrupt { path: PathBuf, offset: u64 },
    #[error(
        "{path}, byte {offset}: entry {found} of group {group} stands where {expected} is due; restore this node from a \
         backup, or let it join anew with an empty data directory",
        path = .path.display()
    )]
    Gap { path: PathBuf, offset: u64, group: u32, expected: u64, found: u64 },
    #[error(
        "{path}: group {group} is purged up to {purged} but its first entry is {first}; restore this node from a backup, \
         or let it join anew with an empty data directory",
        path = .path.display()
    )]
    EntriesMissing { path: PathBuf, group: u32, purged: u64, first: u64 },
    #[error(
        "{path} is missing between older and newer segments; restore this node from a backup, or let it join anew with \
         an empty data directory",
        path = .path.display()
    )]
    SegmentMissing { path: PathBuf },
    #[error("{path} has format {found}, this program knows formats up to {known}; start the newer program", path = .path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("the segment size is {found} bytes; allowed are 4096 to 1073741824")]
    SegmentSize { found: u64 },
}
