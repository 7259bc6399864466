//! Message bodies that no longer fit in memory, spilled to sled.
//!
//! A record is written once, given up once, and never the only copy: the Raft log and the snapshots have it too. So
//! nothing here is synced and nothing outlives the process; a failure is an error to whoever asked, who then builds
//! anew what was spilled.
//!
//! sled never gives disk back, so records live in generations, each a sled in a directory of its own. Giving up a
//! record touches memory alone. A thread deletes generations in which nothing lives, and when what lives has become a
//! small part of what was written it moves the rest into a new generation.

mod index;
mod keeper;
#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};

use index::{Slot, cost};
use keeper::Keeper;

/// While sled has more than this in its buffers, a put waits until they are written.
const UNWRITTEN_BYTES: u64 = 4 << 20;
/// A body is cut into values of this size. sled keeps some sixteen values on a page, and a page of more than 128 KiB in
/// a file of its own; should making that file fail, sled waits for ever.
const CHUNK: usize = 4 << 10;
/// Bytes before the chunk in a value: its checksum.
const VALUE_HEADER: usize = 4;

/// Sizes of [`Bodies`], in bytes.
#[derive(Clone, Debug)]
pub struct BodiesOptions {
    /// What sled keeps in memory for reading; 8 MiB by default.
    pub cache_bytes: u64,
    /// Up to this much written, nothing is moved to give disk back; 64 MiB by default.
    pub compact_above: u64,
}

impl Default for BodiesOptions {
    fn default() -> Self {
        BodiesOptions { cache_bytes: 8 << 20, compact_above: 64 << 20 }
    }
}

/// Why no bodies can be spilled.
#[derive(Debug, thiserror::Error)]
pub enum BodiesError {
    #[error("{path}: {source}; check that the disk is there, writable and not full", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What is spilled, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodiesStats {
    /// Bytes of the bodies that are live.
    pub live_bytes: u64,
    /// Records that are live; each takes about 20 bytes of memory.
    pub live_records: u64,
    /// Bytes the files take on disk.
    pub disk_bytes: u64,
}

/// The spilled bodies of all groups of a node.
#[derive(Debug)]
pub struct Bodies {
    keeper: Arc<Keeper>,
    thread: Option<JoinHandle<()>>,
}

impl Bodies {
    /// Begins with nothing in `dir`, creating it if need be: what an earlier run has left is discarded unread.
    ///
    /// # Errors
    /// [`BodiesError`] if that cannot be removed or the directory not be made.
    pub fn open(dir: &Path, options: BodiesOptions) -> Result<Bodies, BodiesError> {
        let failed = |source| BodiesError::Io { path: dir.to_path_buf(), source };
        discard(dir).map_err(failed)?;
        let keeper = Arc::new(Keeper::new(dir, options));
        let working = keeper.clone();
        let thread = std::thread::Builder::new().name("bodies".into()).spawn(move || working.run()).map_err(failed)?;
        Ok(Bodies { keeper, thread: Some(thread) })
    }

    /// Spills bodies, all or none; one that is there already is replaced.
    ///
    /// # Errors
    /// If the disk or sled fails. The bodies are then not here, those spilled before may be lost, and what is spilled
    /// next goes to a new generation.
    pub fn put(&self, group: u32, records: &[(u64, Bytes)]) -> io::Result<()> {
        self.keeper.put(group, records)
    }

    /// A spilled body.
    ///
    /// # Errors
    /// `NotFound` if it is not here; anything else if the disk or sled fails or what they hold is damaged: the owner
    /// then builds its state anew.
    pub fn get(&self, group: u32, id: u64) -> io::Result<Bytes> {
        self.keeper.get(group, id)
    }

    /// Gives bodies up; those that are not here are passed over.
    pub fn remove(&self, group: u32, ids: impl IntoIterator<Item = u64>) {
        self.keeper.remove(group, ids);
    }

    /// Gives up all bodies of the group.
    pub fn forget_group(&self, group: u32) {
        self.keeper.forget_group(group);
    }

    /// What is live, and what it takes on disk; looks at the files.
    pub fn stats(&self) -> BodiesStats {
        self.keeper.stats()
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        self.keeper.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps spilled bodies panicked");
        }
    }
}

/// Empties `dir`, or makes it.
fn discard(dir: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(dir) {
        Ok(found) if found.is_dir() => match empty(dir) {
            Ok(0) => return Ok(()),
            Ok(left) => {
                tracing::debug!(dir = %dir.display(), left, "discarded the spilled bodies of an earlier run");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "spilled bodies cannot be read, their directory is made anew");
                std::fs::remove_dir_all(dir)?;
            }
        },
        Ok(_) => {
            tracing::warn!(path = %dir.display(), "a file stands where spilled bodies belong, and is removed");
            std::fs::remove_file(dir)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::create_dir_all(dir)
}

/// Removes what is in `dir`; returns how much it was.
fn empty(dir: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        if item.file_type()?.is_dir() {
            std::fs::remove_dir_all(item.path())?;
        } else {
            std::fs::remove_file(item.path())?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// One generation: a sled, and how much was ever written to it. Its directory goes with it.
#[derive(Debug)]
struct Generation {
    number: u32,
    dir: PathBuf,
    /// None once it is being dropped.
    sled: Option<sled::Db>,
    held: AtomicU64,
    unwritten: AtomicU64,
    broken: AtomicBool,
}

impl Generation {
    fn open(parent: &Path, number: u32, options: &BodiesOptions) -> io::Result<Generation> {
        // sled may hold on to a generation for a moment after it was dropped and then remove its directory, so that no
        // two of one process may have the same.
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let dir = parent.join(format!("{:08}", NAMES.fetch_add(1, Ordering::Relaxed)));
        // A temporary sled syncs nothing.
        let config = sled::Config::new()
            .path(&dir)
            .temporary(true)
            .cache_capacity(options.cache_bytes.max(1 << 20))
            .flush_every_ms(None);
        let sled = guarded("opening", || config.open())?;
        let (held, unwritten) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Generation { number, dir, sled: Some(sled), held, unwritten, broken: AtomicBool::new(false) })
    }

    fn sled(&self) -> io::Result<&sled::Db> {
        self.sled.as_ref().ok_or_else(|| io::Error::other("this generation of spilled bodies is closed"))
    }

    fn put<'a>(&self, records: impl Iterator<Item = (u32, u64, &'a Bytes)>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        let mut size = 0;
        for (group, id, body) in records {
            for (number, chunk) in chunks(body) {
                let key = key(group, id, number);
                let mut value = Vec::with_capacity(VALUE_HEADER + chunk.len());
                value.extend_from_slice(&checksum(&key, chunk).to_le_bytes());
                value.extend_from_slice(chunk);
                batch.insert(&key, value);
            }
            size += cost(body.len() as u64, 1);
        }
        let sled = self.sled()?;
        self.held.fetch_add(size, Ordering::Relaxed);
        guarded("writing", || sled.apply_batch(batch))?;
        if self.unwritten.fetch_add(size, Ordering::Relaxed) + size > UNWRITTEN_BYTES {
            self.unwritten.store(0, Ordering::Relaxed);
            guarded("writing", || sled.flush())?;
        }
        Ok(())
    }

    fn get(&self, group: u32, id: u64, slot: Slot) -> io::Result<Bytes> {
        let sled = self.sled()?;
        let mut body = BytesMut::zeroed(slot.len as usize);
        for (number, chunk) in (0..).zip(body.chunks_mut(CHUNK)) {
            let key = key(group, id, number);
            let value = guarded("reading", || sled.get(key))?;
            let found = value.as_deref().and_then(|value| value.split_first_chunk()).filter(|(crc, found)| {
                found.len() == chunk.len() && u32::from_le_bytes(**crc) == checksum(&key, found)
            });
            let Some((_, found)) = found else {
                let text = format!("the spilled body {id} of group {group} in {} is damaged", self.dir.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            };
            chunk.copy_from_slice(found);
        }
        Ok(body.freeze())
    }

    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Nothing is written to it or moved out of it any more; what it holds is read as far as that still goes.
    fn give_up(&self, error: &io::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(dir = %self.dir.display(), %error, "spilling bodies failed, what comes next gets a new directory");
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let sled = self.sled.take();
        if catch_unwind(AssertUnwindSafe(|| drop(sled))).is_err() {
            tracing::warn!(dir = %self.dir.display(), "sled panicked while it was closed");
        }
        match std::fs::remove_dir_all(&self.dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(dir = %self.dir.display(), %error, "spilled bodies stay until the next start"),
        }
    }
}

fn key(group: u32, id: u64, chunk: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&group.to_be_bytes());
    key[4..12].copy_from_slice(&id.to_be_bytes());
    key[12..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// An empty body has none.
fn chunks(body: &Bytes) -> impl Iterator<Item = (u32, &[u8])> {
    (0..).zip(body.chunks(CHUNK))
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(body);
    crc.finalize()
}

/// Lets sled work; whatever it meets there, also a panic on damaged files, comes back as an error.
fn guarded<T>(what: &str, work: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let error = io::Error::from(error);
            Err(io::Error::new(error.kind(), format!("{what} spilled bodies: {error}")))
        }
        Err(_) => Err(io::Error::other(format!("{what} spilled bodies: sled panicked"))),
    }
}
