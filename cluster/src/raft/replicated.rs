//! What a group replicates, as its Raft sees it: one type of Raft serves the roster and all shards.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;

/// This node's copy of what one group replicates.
pub(crate) trait Replicated: Send + Sync + 'static {
    /// Applies one logged batch; the entry counts as applied only after [`Self::advance`]. An error stops the group on
    /// this node: what is in memory may then differ from the log.
    fn apply(&self, index: u64, time: u64, batch: &Bytes) -> io::Result<()>;

    /// Only now may anyone rely on the entry having been applied.
    fn advance(&self, index: u64);

    /// Milliseconds since 1970, as of the last entry.
    fn time(&self) -> u64;

    /// Bytes that a snapshot would have, roughly.
    fn weight(&self) -> u64;

    /// The state of this moment, to be written while entries go on being applied. It must be cheap.
    fn freeze(self: Arc<Self>) -> Box<dyn Frozen>;

    /// Takes a state in place of everything applied so far, but only if the reader's very end is met without an error:
    /// the checksum comes last. Called where it may block.
    fn restore(&self, reader: &mut dyn Read, index: u64) -> io::Result<()>;
}

/// A state that no longer changes. Called where it may block.
pub(crate) trait Frozen: Send + Sync {
    /// Of the last event before it, where the group makes events.
    fn seq(&self) -> u64;

    /// What must be durable before the log behind the state is freed is made so first.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()>;
}
