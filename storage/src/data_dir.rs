//! The node's data directory: whose data it holds, and the lock that keeps a second process out.

mod meta;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::disk::{DiskFile, create_dir};
use meta::Meta;

const LOCK: &str = "lock";
const META: &str = "meta";
const META_TMP: &str = "meta.tmp";
/// What may stand in a directory that is not ours yet: leftovers of a first start that was cut short, and what a file
/// system puts at its root.
const HARMLESS: [&str; 3] = [LOCK, META_TMP, "lost+found"];

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name: 1 to 255 bytes without control characters.
    pub cluster: String,
    /// The node's name: 1 to 255 bytes without control characters.
    pub node: String,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path}: {source}; check that the data directory is there and writable", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the data directory {path} is in use by another process{holder}; stop that one, or use another directory", path = .path.display())]
    InUse { path: PathBuf, holder: String },
    #[error(
        "{path} is not empty and no data directory of Rollcall (it holds {file}); name an empty or a new directory",
        path = .path.display()
    )]
    Foreign { path: PathBuf, file: String },
    #[error(
        "{path} belongs to cluster {found:?}, not {expected:?}; correct the cluster's name, or name another directory",
        path = .path.display()
    )]
    OtherCluster { path: PathBuf, found: String, expected: String },
    #[error(
        "{path} belongs to node {found:?}, not {expected:?}; correct the node's name, or name another directory",
        path = .path.display()
    )]
    OtherNode { path: PathBuf, found: String, expected: String },
    #[error(
        "{path} has data format {found}, this program knows formats up to {known}; start the newer program",
        path = .path.display()
    )]
    NewerFormat { path: PathBuf, found: u32, known: u32 },
    #[error("{path} is damaged; restore this node from a backup, or let it join anew with an empty directory", path = .path.display())]
    Damaged { path: PathBuf },
    #[error("{path} is no data directory of a node; correct node.data_dir", path = .path.display())]
    Missing { path: PathBuf },
    #[error("the {what} name {name:?} must have 1 to 255 bytes and no control characters")]
    Name { what: &'static str, name: String },
}

/// An open, locked data directory; the lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node_id: u64,
    created: bool,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, or makes an empty one this node's with `new_node_id` as its id.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing in the directory was changed then.
    pub fn open(path: &Path, identity: &Identity, new_node_id: u64) -> Result<DataDir, DataDirError> {
        check_name("cluster", &identity.cluster)?;
        check_name("node", &identity.node)?;
        let failed = |source| DataDirError::Io { path: path.to_path_buf(), source };
        create_dir(path).map_err(failed)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        let meta_path = path.join(META);
        let (node_id, created) = match std::fs::read(&meta_path) {
            Ok(bytes) => (existing(path, &Meta::parse(&meta_path, &bytes)?, identity)?, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Between the first look and the lock another process may have filled the directory.
                refuse_foreign(path)?;
                write_meta(path, &Meta { node_id: new_node_id, identity: identity.clone() }).map_err(failed)?;
                (new_node_id, true)
            }
            Err(source) => return Err(DataDirError::Io { path: meta_path, source }),
        };
        Ok(DataDir { path: path.to_path_buf(), node_id, created, _lock: lock })
    }

    /// As [`DataDir::open`], but of a directory that is this node's already.
    ///
    /// # Errors
    /// [`DataDirError`]
    pub fn open_existing(path: &Path, identity: &Identity) -> Result<DataDir, DataDirError> {
        let meta = path.join(META);
        match meta.try_exists() {
            Ok(true) => DataDir::open(path, identity, 0),
            Ok(false) => Err(DataDirError::Missing { path: path.to_path_buf() }),
            Err(source) => Err(DataDirError::Io { path: meta, source }),
        }
    }

    /// From now on it is another node's, of the same name.
    ///
    /// # Errors
    /// Of the disk; it is still the earlier one's then, or already the new one's.
    pub fn change_node_id(&mut self, identity: &Identity, node_id: u64) -> io::Result<()> {
        write_meta(&self.path, &Meta { node_id, identity: identity.clone() })?;
        self.node_id = node_id;
        Ok(())
    }

    /// The node's random id, as long as it keeps its disk.
    pub fn node_id(&self) -> u64 {
        self.node_id
    }

    /// Whether the directory was empty and is this node's only since now. Whether the node has ever been a member is
    /// for the Raft log to say: a first start may have ended right after this.
    pub fn created(&self) -> bool {
        self.created
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the [`RaftLog`](crate::RaftLog) belongs.
    pub fn raft_log(&self) -> PathBuf {
        self.path.join("raft-log")
    }

    /// Where the [`Snapshots`](crate::Snapshots) of all groups belong.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Where the [`EventLog`](crate::EventLog) belongs.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// Where the [`Bodies`](crate::Bodies) belong.
    pub fn bodies(&self) -> PathBuf {
        self.path.join("bodies")
    }
}

fn check_name(what: &'static str, name: &str) -> Result<(), DataDirError> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(DataDirError::Name { what, name: name.to_owned() });
    }
    Ok(())
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::Io { path: path.to_path_buf(), source };
    if path.join(META).try_exists().map_err(failed)? {
        return Ok(());
    }
    for item in std::fs::read_dir(path).map_err(failed)? {
        let name = item.map_err(failed)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(DataDirError::Foreign { path: path.to_path_buf(), file: name.to_string_lossy().into_owned() });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let lock_path = path.join(LOCK);
    let failed = |source| DataDirError::Io { path: lock_path.clone(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let holder = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!(" (process {})", pid.trim()),
                Ok(_) | Err(_) => String::new(),
            };
            return Err(DataDirError::InUse { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn existing(path: &Path, meta: &Meta, identity: &Identity) -> Result<u64, DataDirError> {
    let path = path.to_path_buf();
    if meta.identity.cluster != identity.cluster {
        let (found, expected) = (meta.identity.cluster.clone(), identity.cluster.clone());
        return Err(DataDirError::OtherCluster { path, found, expected });
    }
    if meta.identity.node != identity.node {
        let (found, expected) = (meta.identity.node.clone(), identity.node.clone());
        return Err(DataDirError::OtherNode { path, found, expected });
    }
    Ok(meta.node_id)
}

fn write_meta(path: &Path, meta: &Meta) -> io::Result<()> {
    let mut file = DiskFile::create(&path.join(META_TMP))?;
    file.write_all_at(meta.render().as_bytes(), 0)?;
    file.sync_all()?;
    file.publish(&path.join(META))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { cluster: "fleet".into(), node: "node-0".into() }
    }

    #[test]
    fn a_directory_keeps_the_id_it_was_created_with() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a/b");
        let dir = DataDir::open(&path, &identity(), 7).unwrap();
        assert_eq!((dir.node_id(), dir.created()), (7, true));
        drop(dir);
        let dir = DataDir::open(&path, &identity(), 8).unwrap();
        assert_eq!((dir.node_id(), dir.created()), (7, false));
    }

    #[test]
    fn a_directory_can_become_another_nodes_and_is_not_made_by_looking_for_it() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a");
        assert!(matches!(DataDir::open_existing(&path, &identity()), Err(DataDirError::Missing { .. })));
        assert!(!path.exists());
        drop(DataDir::open(&path, &identity(), 7).unwrap());
        let mut dir = DataDir::open_existing(&path, &identity()).unwrap();
        dir.change_node_id(&identity(), 8).unwrap();
        assert_eq!(dir.node_id(), 8);
        drop(dir);
        assert_eq!(DataDir::open(&path, &identity(), 9).unwrap().node_id(), 8);
    }

    #[test]
    fn a_second_opener_is_refused_with_the_directorys_name() {
        let tmp = tempfile::tempdir().unwrap();
        let _held = DataDir::open(tmp.path(), &identity(), 7).unwrap();
        let error = DataDir::open(tmp.path(), &identity(), 7).unwrap_err();
        assert!(matches!(error, DataDirError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&tmp.path().display().to_string()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }

    #[test]
    fn data_of_another_cluster_or_node_is_refused_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        drop(DataDir::open(tmp.path(), &identity(), 7).unwrap());
        let before = std::fs::read(tmp.path().join(META)).unwrap();
        let other = Identity { cluster: "other".into(), ..identity() };
        assert!(matches!(DataDir::open(tmp.path(), &other, 8), Err(DataDirError::OtherCluster { .. })));
        let other = Identity { node: "node-1".into(), ..identity() };
        assert!(matches!(DataDir::open(tmp.path(), &other, 8), Err(DataDirError::OtherNode { .. })));
        assert_eq!(std::fs::read(tmp.path().join(META)).unwrap(), before);
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let newer = "rollcall data format 2\nwhatever comes then\n";
        std::fs::write(tmp.path().join(META), newer).unwrap();
        let error = DataDir::open(tmp.path(), &identity(), 8).unwrap_err();
        assert!(matches!(error, DataDirError::NewerFormat { found: 2, known: 1, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(tmp.path().join(META)).unwrap(), newer);
    }

    #[test]
    fn a_directory_with_foreign_files_is_refused_and_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("thesis.tex"), "x").unwrap();
        let error = DataDir::open(tmp.path(), &identity(), 7).unwrap_err();
        assert!(matches!(&error, DataDirError::Foreign { file, .. } if file == "thesis.tex"), "{error}");
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fresh_volume_and_a_first_start_cut_short_are_accepted() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("lost+found")).unwrap();
        std::fs::write(tmp.path().join(LOCK), "1\n").unwrap();
        std::fs::write(tmp.path().join(META_TMP), "rollc").unwrap();
        assert!(DataDir::open(tmp.path(), &identity(), 7).unwrap().created());
    }

    #[test]
    fn any_flipped_bit_in_the_meta_file_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        drop(DataDir::open(tmp.path(), &identity(), 7).unwrap());
        let good = std::fs::read(tmp.path().join(META)).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(tmp.path().join(META), &bad).unwrap();
            assert!(DataDir::open(tmp.path(), &identity(), 7).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_name_that_would_break_a_line_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["", "a\nb", &"x".repeat(256)] {
            let bad = Identity { node: name.into(), ..identity() };
            assert!(matches!(DataDir::open(tmp.path(), &bad, 7), Err(DataDirError::Name { what: "node", .. })));
        }
    }
}
