//! The keep alive clock of one connection.

/// Milliseconds throughout. Touching it is one store; the deadline is worked out when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    last_seen: u64,
    /// Silence allowed; `None` is without end.
    limit: Option<u64>,
    held_since: Option<u64>,
}

impl Clock {
    pub(super) fn new(now: u64, limit: Option<u64>) -> Self {
        Clock { last_seen: now, limit, held_since: None }
    }

    pub(super) fn touch(&mut self, now: u64) {
        self.last_seen = self.last_seen.max(now);
    }

    /// The clock stands still from `now`, because it is us who do not read.
    pub(super) fn hold(&mut self, now: u64) {
        self.held_since.get_or_insert(now);
    }

    pub(super) fn release(&mut self, now: u64) {
        if let Some(since) = self.held_since.take() {
            // A packet handled while held moved `last_seen`: only what was held after it counts.
            self.last_seen = self.last_seen.saturating_add(now.saturating_sub(since.max(self.last_seen)));
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        match self.held_since {
            Some(_) => None,
            None => self.limit.map(|limit| self.last_seen.saturating_add(limit)),
        }
    }
}
