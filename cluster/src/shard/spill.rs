//! The bodies of all shards of this node that are spilled, and how many may stay in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_storage::{Bodies, RaftLog};

pub(crate) struct Spill {
    bodies: Arc<Bodies>,
    /// Bytes that the bodies of one shard may take in memory.
    budget: u64,
    /// Fails when a spilled body cannot be read back: only a new start makes it again.
    log: RaftLog,
    spaces: AtomicU32,
    later: Arc<Mutex<Later>>,
}

/// The spilled bodies of one state of one shard: another state that takes its place gets another space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space(u32);

/// What is freed while a snapshot may still have to read it.
#[derive(Default)]
struct Later {
    snapshots: usize,
    freed: Vec<(Space, u64)>,
    forgotten: Vec<Space>,
}

/// As long as there is one, nothing that is freed is removed.
pub(crate) struct Kept {
    bodies: Arc<Bodies>,
    later: Arc<Mutex<Later>>,
}

impl Spill {
    pub(crate) fn new(bodies: Bodies, budget: u64, log: RaftLog) -> Arc<Self> {
        Arc::new(Spill { bodies: Arc::new(bodies), budget, log, spaces: AtomicU32::new(1), later: Arc::default() })
    }

    /// A new one, with nothing in it.
    pub(crate) fn space(&self) -> Space {
        Space(self.spaces.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn put(&self, space: Space, bodies: &[(u64, Bytes)]) -> io::Result<()> {
        self.bodies.put(space.0, bodies)?;
        metrics::counter!("rollcall_inbox_spilled_total").increment(bodies.len() as u64);
        Ok(())
    }

    /// # Errors
    /// `NotFound` if it has gone since it was looked up. Anything else means that this node has lost it: its log is
    /// condemned.
    pub(crate) fn get(&self, space: Space, id: u64) -> io::Result<Bytes> {
        self.bodies.get(space.0, id).inspect_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                self.log.condemn("reading a spilled message", error);
            }
        })
    }

    /// Nobody holds them any more.
    pub(crate) fn release(&self, space: Space, ids: &[u64]) {
        if ids.is_empty() {
            return;
        }
        let mut later = self.later.lock();
        if later.snapshots > 0 {
            later.freed.extend(ids.iter().map(|id| (space, *id)));
        } else {
            self.bodies.remove(space.0, ids.iter().copied());
        }
    }

    /// Nobody will put anything there again.
    pub(crate) fn forget(&self, space: Space) {
        let mut later = self.later.lock();
        if later.snapshots > 0 {
            later.forgotten.push(space);
        } else {
            self.bodies.forget_group(space.0);
        }
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
            for (space, id) in std::mem::take(&mut later.freed) {
                self.bodies.remove(space.0, [id]);
            }
            for space in std::mem::take(&mut later.forgotten) {
                self.bodies.forget_group(space.0);
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
        let space = spill.space();
        spill.put(space, &many).unwrap();
        spill.release(space, &[0]);
        assert_eq!(spill.get(space, 0).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!((spill.get(space, 1).unwrap(), log.failed()), (many[1].1.clone(), None));
        empty_all(&dir.path().join("bodies"));
        assert!(many[1..].iter().any(|(id, _)| spill.get(space, *id).is_err()), "sled needs no files");
        let why = log.failed().unwrap();
        assert!(why.contains("while reading a spilled message"), "{why}");
    }

    #[test]
    fn what_a_snapshot_may_still_read_stays_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = RaftLog::open(&dir.path().join("log"), RaftLogOptions::default()).unwrap();
        let bodies = Bodies::open(&dir.path().join("bodies"), BodiesOptions::default()).unwrap();
        let spill = Spill::new(bodies, 0, log);
        let (old, new) = (spill.space(), spill.space());
        let all = [(1, Bytes::from_static(b"one")), (2, Bytes::from_static(b"two"))];
        spill.put(old, &all).unwrap();
        let (kept, also_kept) = (spill.keep(), spill.keep());
        spill.release(old, &[1]);
        spill.forget(old);
        spill.put(new, &all).unwrap();
        drop(kept);
        assert_eq!((spill.get(old, 1).unwrap(), spill.get(old, 2).unwrap()), (all[0].1.clone(), all[1].1.clone()));
        drop(also_kept);
        assert!([1, 2].iter().all(|id| spill.get(old, *id).is_err()));
        assert_eq!(spill.get(new, 1).unwrap(), all[0].1);
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
