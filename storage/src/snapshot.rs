//! Snapshots: one group's whole state as a file, of which the newest is kept.
//!
//! ```text
//! magic [8] | version u32 | 0 u32 | data | meta | data length u64 | meta length u32 | data crc u32 | rest crc u32
//! ```
//!
//! A file gets its name only when it is complete and durable.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Fields, create_dir, sync_dir};

const MAGIC: [u8; 8] = *b"rollcSNP";
const VERSION: u32 = 1;
const HEADER: usize = 16;
const TRAILER: usize = 20;

/// Why the snapshots of a group cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{path}: {source}; check that the disk is there, writable and not full", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the snapshot {path} is damaged; restore this node from a backup, or let it join anew with an empty data directory",
        path = .path.display()
    )]
    Damaged { path: PathBuf },
    #[error("{path} has format {found}, this program knows formats up to {known}; start the newer program", path = .path.display())]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
}

/// The snapshots of one group; several groups can share a directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    group: u32,
    newest: Mutex<Option<Snapshot>>,
    begun: AtomicU64,
}

/// A complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The log index whose state it holds.
    pub index: u64,
    /// What was given to [`SnapshotWriter::finish`].
    pub meta: Bytes,
    /// Its file, until a newer snapshot replaces it.
    pub path: PathBuf,
    /// Bytes of data, without meta and frame.
    pub len: u64,
    data_crc: u32,
}

impl Snapshots {
    /// Opens the snapshots of `group` in `dir`, creating it if need be. Unfinished ones are removed.
    ///
    /// # Errors
    /// [`SnapshotError`] if the disk fails, or the newest snapshot's frame is damaged or of a newer format.
    pub fn open(dir: &Path, group: u32) -> Result<Snapshots, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: dir.to_path_buf(), source };
        create_dir(dir).map_err(failed)?;
        let mut found = Vec::new();
        for item in std::fs::read_dir(dir).map_err(failed)? {
            let path = item.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = name.strip_prefix(&format!("{group}-")) else { continue };
            if name.ends_with(".tmp") {
                std::fs::remove_file(&path).map_err(failed)?;
            } else if let Some(index) = name.strip_suffix(".snapshot").and_then(|index| index.parse::<u64>().ok()) {
                found.push((index, path));
            }
        }
        found.sort();
        let newest = found.pop().map(|(index, path)| Snapshot::load(&path, index)).transpose()?;
        for (_, older) in found {
            std::fs::remove_file(&older).map_err(failed)?;
        }
        let inner = Inner { dir: dir.to_path_buf(), group, newest: Mutex::new(newest), begun: AtomicU64::new(0) };
        Ok(Snapshots { inner: Arc::new(inner) })
    }

    /// Begins a snapshot. Several may be under way; one that is dropped unfinished leaves nothing.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn begin(&self) -> io::Result<SnapshotWriter> {
        let number = self.inner.begun.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.dir.join(format!("{}-{number}.tmp", self.inner.group));
        let file = BufWriter::with_capacity(256 << 10, File::create(&path)?);
        let mut writer = SnapshotWriter {
            inner: self.inner.clone(),
            file,
            path,
            crc: crc32fast::Hasher::new(),
            len: 0,
            done: false,
        };
        writer.file.write_all(&header())?;
        Ok(writer)
    }

    /// Removes all of the group's.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove(&self) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError::Io { path: self.inner.dir.clone(), source };
        let mut newest = self.inner.newest.lock();
        if let Some(snapshot) = newest.take() {
            std::fs::remove_file(&snapshot.path).map_err(failed)?;
            sync_dir(&self.inner.dir).map_err(failed)?;
        }
        Ok(())
    }

    /// The newest complete snapshot.
    pub fn latest(&self) -> Option<Snapshot> {
        self.inner.newest.lock().clone()
    }
}

/// Takes a snapshot's data.
#[derive(Debug)]
pub struct SnapshotWriter {
    inner: Arc<Inner>,
    file: BufWriter<File>,
    path: PathBuf,
    crc: crc32fast::Hasher,
    len: u64,
    done: bool,
}

impl SnapshotWriter {
    /// Makes the snapshot durable and removes the older ones. If there is already one of a higher `index`, that one
    /// stays and is returned.
    ///
    /// # Errors
    /// If the disk fails; the snapshot before this one is then still the newest. `meta` must be less than 4 GiB.
    pub fn finish(mut self, index: u64, meta: &[u8]) -> io::Result<Snapshot> {
        let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a snapshot's meta must be less than 4 GiB");
        let meta_len = u32::try_from(meta.len()).map_err(too_long)?;
        let data_crc = self.crc.clone().finalize();
        self.file.write_all(meta)?;
        self.file.write_all(&trailer(meta, self.len, meta_len, data_crc))?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;

        let mut newest = self.inner.newest.lock();
        if let Some(newer) = newest.as_ref().filter(|newest| newest.index > index) {
            return Ok(newer.clone());
        }
        let path = self.inner.dir.join(format!("{}-{index:020}.snapshot", self.inner.group));
        std::fs::rename(&self.path, &path)?;
        self.done = true;
        sync_dir(&self.inner.dir)?;
        let snapshot = Snapshot { index, meta: Bytes::copy_from_slice(meta), path, len: self.len, data_crc };
        let older = newest.replace(snapshot.clone());
        if let Some(older) = older.filter(|older| older.path != snapshot.path) {
            std::fs::remove_file(older.path)?;
        }
        Ok(snapshot)
    }
}

impl Write for SnapshotWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.crc.update(&data[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished snapshot stays until the next start");
        }
    }
}

impl Snapshot {
    fn load(path: &Path, index: u64) -> Result<Snapshot, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: path.to_path_buf(), source };
        let damaged = || SnapshotError::Damaged { path: path.to_path_buf() };
        let file = File::open(path).map_err(failed)?;
        let total = file.metadata().map_err(failed)?.len();
        let Some(trailer_at) = total.checked_sub(TRAILER as u64).filter(|&at| at >= HEADER as u64) else {
            return Err(damaged());
        };
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let version = Fields(&head[8..]).u32().ok_or_else(damaged)?;
        if head[..8] == MAGIC && version > VERSION {
            return Err(SnapshotError::NewerFormat { path: path.to_path_buf(), found: version, known: VERSION });
        }
        let mut tail = [0; TRAILER];
        file.read_exact_at(&mut tail, trailer_at).map_err(failed)?;
        let mut fields = Fields(&tail);
        let len = fields.u64().ok_or_else(damaged)?;
        let meta_len = fields.u32().ok_or_else(damaged)?;
        let data_crc = fields.u32().ok_or_else(damaged)?;
        let framed = (HEADER as u64).checked_add(len).and_then(|end| end.checked_add(u64::from(meta_len)));
        if head != header() || framed != Some(trailer_at) {
            return Err(damaged());
        }
        let mut meta = vec![0; meta_len as usize];
        file.read_exact_at(&mut meta, HEADER as u64 + len).map_err(failed)?;
        if trailer(&meta, len, meta_len, data_crc) != tail {
            return Err(damaged());
        }
        Ok(Snapshot { index, meta: meta.into(), path: path.to_path_buf(), len, data_crc })
    }

    /// Opens the data for reading; an open reader keeps it, also when a newer snapshot takes its place.
    ///
    /// # Errors
    /// `NotFound` if a newer one has replaced it, or if the disk fails.
    pub fn open(&self) -> io::Result<SnapshotReader> {
        let mut file = BufReader::with_capacity(256 << 10, File::open(&self.path)?);
        file.seek_relative(HEADER as i64)?;
        let crc = crc32fast::Hasher::new();
        Ok(SnapshotReader { file, path: self.path.clone(), left: self.len, crc, expected: self.data_crc })
    }
}

/// Reads a snapshot's data. The read that reaches its end fails if the data is damaged.
#[derive(Debug)]
pub struct SnapshotReader {
    file: BufReader<File>,
    path: PathBuf,
    left: u64,
    crc: crc32fast::Hasher,
    expected: u32,
}

impl Read for SnapshotReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buf[..wanted])?;
        self.crc.update(&buf[..read]);
        self.left -= read as u64;
        if read == 0 || self.left == 0 && self.crc.clone().finalize() != self.expected {
            let error = SnapshotError::Damaged { path: self.path.clone() };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(read)
    }
}

fn header() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

fn trailer(meta: &[u8], len: u64, meta_len: u32, data_crc: u32) -> [u8; TRAILER] {
    let mut bytes = [0; TRAILER];
    bytes[..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..12].copy_from_slice(&meta_len.to_le_bytes());
    bytes[12..16].copy_from_slice(&data_crc.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(meta);
    crc.update(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.finalize().to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(snapshots: &Snapshots, index: u64, data: &[u8]) -> Snapshot {
        let mut writer = snapshots.begin().unwrap();
        writer.write_all(data).unwrap();
        writer.finish(index, format!("meta {index}").as_bytes()).unwrap()
    }

    fn data(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        snapshot.open()?.read_to_end(&mut data)?;
        Ok(data)
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn the_newest_snapshot_comes_back_and_older_ones_are_gone() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 3).unwrap();
        assert_eq!(snapshots.latest(), None);
        let big: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        write(&snapshots, 9, b"old");
        let written = write(&snapshots, 10, &big);
        assert_eq!(files(tmp.path()), 1);
        let reopened = Snapshots::open(tmp.path(), 3).unwrap().latest().unwrap();
        assert_eq!(reopened, written);
        assert_eq!(reopened.meta, "meta 10");
        assert_eq!(data(&reopened).unwrap(), big);
    }

    #[test]
    fn a_snapshot_finished_late_does_not_replace_a_newer_one() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 0).unwrap();
        let slow = snapshots.begin().unwrap();
        let newer = write(&snapshots, 20, b"newer");
        assert_eq!(slow.finish(10, b"late").unwrap(), newer);
        assert_eq!(files(tmp.path()), 1);
    }

    #[test]
    fn what_is_removed_does_not_come_back() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 3).unwrap();
        write(&snapshots, 9, b"gone");
        snapshots.remove().unwrap();
        assert_eq!((snapshots.latest(), files(tmp.path())), (None, 0));
        write(&snapshots, 1, b"anew");
        assert_eq!(Snapshots::open(tmp.path(), 3).unwrap().latest().unwrap().index, 1);
    }

    #[test]
    fn groups_in_one_directory_leave_each_other_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let one = Snapshots::open(tmp.path(), 1).unwrap();
        write(&one, 5, b"one");
        let under_way = one.begin().unwrap();
        let eleven = Snapshots::open(tmp.path(), 11).unwrap();
        write(&eleven, 6, b"eleven");
        assert_eq!(data(&one.latest().unwrap()).unwrap(), b"one");
        assert_eq!(data(&eleven.latest().unwrap()).unwrap(), b"eleven");
        under_way.finish(7, b"").unwrap();
    }

    #[test]
    fn an_unfinished_snapshot_is_ignored_and_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 0).unwrap();
        let kept = write(&snapshots, 5, b"kept");
        std::fs::write(tmp.path().join("0-7.tmp"), b"half").unwrap();
        let mut dropped = snapshots.begin().unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(Snapshots::open(tmp.path(), 0).unwrap().latest(), Some(kept));
        assert_eq!(files(tmp.path()), 1);
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_snapshot_before_stays_the_newest() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 0).unwrap();
        let kept = write(&snapshots, 5, b"five");
        // The state fits into the writer's buffer, or does not: the error comes at the end, or on the way.
        for size in [100, 1 << 20] {
            // The kernel's own full disk, where the next unfinished snapshot will be.
            std::os::unix::fs::symlink("/dev/full", tmp.path().join(if size == 100 { "0-1.tmp" } else { "0-2.tmp" }))
                .unwrap();
            let mut writer = snapshots.begin().unwrap();
            let error = writer.write_all(&vec![7; size]).and_then(|()| writer.finish(6, b"").map(|_| ())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
            assert_eq!(snapshots.latest().as_ref(), Some(&kept));
            assert_eq!(data(&kept).unwrap(), b"five");
            assert_eq!(files(tmp.path()), 1, "something of the unfinished one stayed");
        }
        assert_eq!(write(&snapshots, 7, b"seven").index, 7);
    }

    #[test]
    fn a_reader_keeps_its_data_when_a_newer_snapshot_comes() {
        let tmp = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(tmp.path(), 0).unwrap();
        let mut reader = write(&snapshots, 5, b"five").open().unwrap();
        write(&snapshots, 6, b"six");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "five");
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let path = write(&Snapshots::open(tmp.path(), 0).unwrap(), 5, b"the state").path;
        let good = std::fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Snapshots::open(tmp.path(), 0).map_or(true, |found| data(&found.latest().unwrap()).is_err())
        };
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&bad), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(refused(&good[..len]), "length {len}");
        }
        assert!(!refused(&good));
    }
}
