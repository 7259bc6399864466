//! The bodies of all shards of this node that are spilled, and how many may stay in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_storage::{Bodies, RaftLog};

pub(crate) struct Spill {
    bodies: Arc<Bodies>,
    /// Bytes that the bodies of one shard may take in memory.
    budget: u64,
    /// Fails when a spilled body cannot be read back: only a new start makes it again.
    log: RaftLog,
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
    pub(crate) fn new(bodies: Bodies, budget: u64, log: RaftLog) -> Arc<Self> {
        Arc::new(Spill { bodies: Arc::new(bodies), budget, log, later: Arc::default() })
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn put(&self, shard: u32, bodies: &[(u64, Bytes)]) -> io::Result<()> {
        metrics::counter!("rollcall_inbox_spilled_total").increment(bodies.len() as u64);
        self.bodies.put(shard, bodies)
    }

    /// # Errors
    /// `NotFound` if it has gone since it was looked up. Anything else means that this node has lost it: its log is
    /// condemned.
    pub(crate) fn get(&self, shard: u32, id: u64) -> io::Result<Bytes> {
        self.bodies.get(shard, id).inspect_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                self.log.condemn("reading a spilled message", error);
            }
        })
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

#[cfg(test)]
mod tests {
    use rollcall_storage::{BodiesOptions, RaftLogOptions};

    use super::*;

    #[test]
    fn a_body_that_cannot_be_read_back_condemns_the_log_and_one_that_has_gone_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let log = RaftLog::open(&dir.path().join("log"), RaftLogOptions::default()).unwrap();
        let bodies = Bodies::open(&dir.path().join("bodies"), BodiesOptions::default()).unwrap();
        let spill = Spill::new(bodies, 0, log.clone());
        // More than sled keeps in memory of it.
        let many: Vec<_> = (0..40).map(|id| (id, Bytes::from(vec![id as u8; 4 << 20]))).collect();
        spill.put(1, &many).unwrap();
        spill.release(1, &[0]);
        assert_eq!(spill.get(1, 0).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!((spill.get(1, 1).unwrap(), log.failed()), (many[1].1.clone(), None));
        empty_all(&dir.path().join("bodies"));
        assert!(many[1..].iter().any(|(id, _)| spill.get(1, *id).is_err()), "sled needs no files");
        let why = log.failed().unwrap();
        assert!(why.contains("while reading a spilled message"), "{why}");
    }

    fn empty_all(dir: &std::path::Path) {
        for item in std::fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                empty_all(&path);
            } else {
                std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
            }
        }
    }
}
