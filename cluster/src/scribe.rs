//! What the leader of a group does with a batch: it stamps it and logs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use parking_lot::Mutex;

use crate::clock::{boottime, wall_ms};
use crate::raft::replicated::Replicated;
use crate::raft::{Raft, Stamped};
use crate::roster::NodeId;

/// This node does not lead; who does, if it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotLeader(pub Option<NodeId>);

/// One group's.
pub(crate) struct Scribe {
    raft: Raft,
    replicated: Arc<dyn Replicated>,
    time: Mutex<LogTime>,
}

impl Scribe {
    pub(crate) fn new(raft: Raft, replicated: Arc<dyn Replicated>) -> Self {
        Scribe { raft, replicated, time: Mutex::default() }
    }

    /// Logs a batch in that term of this node's; the index at which it has been applied here.
    pub(crate) async fn log(&self, term: u64, batch: Bytes) -> Result<u64, NotLeader> {
        let logged = self.replicated.time();
        let time = self.time.lock().stamp(term, logged, wall_ms(), boottime());
        match self.raft.client_write(Stamped { time, batch }).await {
            Ok(written) => Ok(written.log_id.index),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Err(NotLeader(to.leader_id)),
            Err(error) => {
                tracing::debug!(%error, "a batch was not logged");
                Err(NotLeader(None))
            }
        }
    }
}

/// The leader's stamp: last log time plus elapsed time, drawn towards the wall clock by at most one per cent; it jumps
/// only at an election, and never back.
#[derive(Debug, Default)]
struct LogTime {
    term: u64,
    millis: f64,
    at: Duration,
}

impl LogTime {
    fn stamp(&mut self, term: u64, logged: u64, wall: u64, now: Duration) -> u64 {
        if term != self.term {
            *self = LogTime { term, millis: logged.max(wall) as f64, at: now };
            return self.millis as u64;
        }
        let elapsed = (now - self.at).as_secs_f64() * 1000.0;
        let even = self.millis + elapsed;
        let slew = (wall as f64 - even).clamp(-elapsed / 100.0, elapsed / 100.0);
        self.millis = even + slew;
        self.at = now;
        self.millis as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_follows_elapsed_time_and_nears_the_wall_clock_by_a_hundredth() {
        let mut time = LogTime::default();
        let second = Duration::from_secs;
        assert_eq!(time.stamp(1, 500, 1_000_000, second(10)), 1_000_000);
        assert_eq!(time.stamp(1, 500, 9_000_000, second(20)), 1_010_100, "10 s later, the wall clock far ahead");
        assert_eq!(time.stamp(1, 500, 0, second(30)), 1_020_000, "set back: slower, never back");
    }

    #[test]
    fn log_time_never_falls_behind_the_log_at_an_election() {
        let mut time = LogTime::default();
        assert_eq!(time.stamp(2, 5_000, 1_000, Duration::from_secs(1)), 5_000);
    }
}
