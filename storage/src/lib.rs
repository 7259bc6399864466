//! Everything that must be on disk. Bytes in, bytes out: this crate knows no protocol, no Raft and no runtime.
//!
//! - [`DataDir`]: whose data this is, and that one process alone works on it
//! - [`RaftLog`]: one write-ahead log for all Raft groups of the node, durable before it is acknowledged
//! - [`Snapshots`]: whole states as files
//! - [`EventLog`]: the numbered lifecycle events, read by many
//! - [`Bodies`]: message bodies that no longer fit in memory; what is written nowhere else does not belong there

mod bodies;
mod data_dir;
mod disk;
mod event_log;
mod failure;
#[cfg(test)]
mod fault;
mod raft_log;
mod snapshot;

pub use bodies::{Bodies, BodiesError, BodiesOptions, BodiesStats};
pub use data_dir::{DataDir, DataDirError, Identity};
pub use event_log::{EventLog, EventLogError, EventLogOptions};
pub use raft_log::{GroupState, LogError, LogStats, MAX_PAYLOAD, Pen, Pin, RaftLog, RaftLogOptions};
pub use snapshot::{Snapshot, SnapshotError, SnapshotReader, SnapshotWriter, Snapshots};
