//! The file operations whose failure or order decides what survives a crash.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
use crate::fault::Faults;

/// A file read and written by offset; in tests its writes and syncs can be made to fail.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    #[cfg(test)]
    faults: Faults,
}

impl DiskFile {
    /// Creates the file, or empties one that is there.
    pub(crate) fn create(path: &Path) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(DiskFile::from_parts(file, path))
    }

    pub(crate) fn open(path: &Path) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(DiskFile::from_parts(file, path))
    }

    fn from_parts(file: File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_path_buf(),
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_faults(mut self, faults: &Faults) -> DiskFile {
        self.faults = faults.clone();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the file within its directory and makes the new name durable.
    pub(crate) fn publish(&mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        self.path = path.to_path_buf();
        sync_parent(path)
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_write(&self.file, bytes, offset)?;
        self.file.write_all_at(bytes, offset)
    }

    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Makes the written data durable (`fdatasync`).
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_sync()?;
        self.file.sync_data()
    }

    /// Makes data and length durable (`fsync`).
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_sync()?;
        self.file.sync_all()
    }

    /// Reserves `len` bytes of zeros, so that later writes change neither the length nor the free blocks and a full
    /// disk shows here. A file system that cannot reserve gets the length alone.
    pub(crate) fn preallocate(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.before_preallocate()?;
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.file.set_len(len.max(self.len()?)),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Makes the names within a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir(dir),
        Some(_) | None => sync_dir(Path::new(".")),
    }
}

/// Creates the directory and its parents, and makes their names durable.
pub(crate) fn create_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.is_dir()).collect();
    std::fs::create_dir_all(dir)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Removes the file and makes its absence durable, so that of two files removed in turn the second never goes first.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_parent(path)
}

/// The files of `dir` named `<number><suffix>`, by number. Those ending in `.tmp` are leftovers of a crash and removed.
pub(crate) fn numbered_files(dir: &Path, suffix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.ends_with(".tmp") {
            std::fs::remove_file(&path)?;
        } else if let Some(number) = name.strip_suffix(suffix).and_then(|stem| stem.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A number no earlier file was given: it salts checksums, so that it must differ, not be secret.
pub(crate) fn random_salt(number: u64) -> u64 {
    RandomState::new().hash_one(number)
}

/// Reads little-endian integers off the front of a header.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
}
