//! What clients and faults leave behind, in the terms of the checkers that judge real clusters.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_chaos::history::History;
use tokio::sync::watch;

/// Where everybody in a simulation writes down what happens.
#[derive(Clone)]
pub(super) struct Record {
    history: Arc<Mutex<History>>,
    pub phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Faults come and go.
    Working,
    /// They are over, and clients come to their end.
    Finishing,
    /// All have, but for those who hear what the others leave behind.
    Closing,
}

impl Record {
    pub(super) fn new(limit: u64) -> Self {
        let history = History { limit, ..History::default() };
        Record { history: Arc::new(Mutex::new(history)), phase: watch::Sender::new(Phase::Working) }
    }

    /// Since the simulation began; only within it.
    pub(super) fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }

    pub(super) fn add(&self, write: impl FnOnce(&mut History)) {
        write(&mut self.history.lock());
    }

    pub(super) fn is_working(&self) -> bool {
        *self.phase.borrow() == Phase::Working
    }

    pub(super) fn take(&self) -> History {
        std::mem::take(&mut self.history.lock())
    }
}
