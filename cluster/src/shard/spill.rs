//! The bodies of all shards of this node that are spilled, and how many may stay in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_storage::Bodies;

pub(crate) struct Spill {
    bodies: Arc<Bodies>,
    /// Bytes that the bodies of one shard may take in memory.
    budget: u64,
    later: Arc<Mutex<Later>>,
}

/// What is freed while a snapshot may still have to read it.
#[derive(Default)]
struct Later {
    snapshots: usize,
    freed: Vec<(u32, u64)>,
}

/// As long as there is one, nothing that is freed is removed.
pub(crate) struct Kept {
    bodies: Arc<Bodies>,
    later: Arc<Mutex<Later>>,
}

impl Spill {
    pub(crate) fn new(bodies: Bodies, budget: u64) -> Arc<Self> {
        Arc::new(Spill { bodies: Arc::new(bodies), budget, later: Arc::default() })
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn put(&self, shard: u32, bodies: &[(u64, Bytes)]) -> io::Result<()> {
        metrics::counter!("rollcall_inbox_spilled_total").increment(bodies.len() as u64);
        self.bodies.put(shard, bodies)
    }

    pub(crate) fn get(&self, shard: u32, id: u64) -> io::Result<Bytes> {
        self.bodies.get(shard, id)
    }

    /// Nobody holds them any more.
    pub(crate) fn release(&self, shard: u32, ids: &[u64]) {
        if ids.is_empty() {
            return;
        }
        let mut later = self.later.lock();
        if later.snapshots > 0 {
            later.freed.extend(ids.iter().map(|id| (shard, *id)));
        } else {
            self.bodies.remove(shard, ids.iter().copied());
        }
    }

    /// Everything of that shard goes: another state takes its place.
    pub(crate) fn forget(&self, shard: u32) {
        let mut later = self.later.lock();
        later.freed.retain(|(of, _)| *of != shard);
        self.bodies.forget_group(shard);
    }

    pub(crate) fn keep(&self) -> Kept {
        self.later.lock().snapshots += 1;
        Kept { bodies: self.bodies.clone(), later: self.later.clone() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut later = self.later.lock();
        later.snapshots -= 1;
        if later.snapshots == 0 {
            for (shard, id) in std::mem::take(&mut later.freed) {
                self.bodies.remove(shard, [id]);
            }
        }
    }
}
