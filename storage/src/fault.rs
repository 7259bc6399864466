//! The disk's test twin: a disk that fails, tears or is full at a chosen moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use parking_lot::Mutex;

/// What goes wrong next; shared by all files of one log. By default nothing does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    sync_fails_after: Option<u32>,
    write_tears_at: Option<usize>,
    full: bool,
    refuses_writes: bool,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Faults {
    /// The sync after `count` more fails once; those after it would succeed, as they do in the kernel.
    pub(crate) fn fail_sync_after(&self, count: u32) {
        self.0.lock().sync_fails_after = Some(count);
    }

    /// The next write reaches the disk up to `bytes`, then fails.
    pub(crate) fn tear_next_write_at(&self, bytes: usize) {
        self.0.lock().write_tears_at = Some(bytes);
    }

    /// From now on no space can be reserved.
    pub(crate) fn fill_disk(&self) {
        self.0.lock().full = true;
    }

    /// From now on no write finds space.
    pub(crate) fn refuse_writes(&self) {
        self.0.lock().refuses_writes = true;
    }

    pub(crate) fn before_sync(&self) -> io::Result<()> {
        let mut plan = self.0.lock();
        match plan.sync_fails_after {
            Some(0) => {
                plan.sync_fails_after = None;
                Err(io::Error::from_raw_os_error(EIO))
            }
            Some(count) => {
                plan.sync_fails_after = Some(count - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn before_write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut plan = self.0.lock();
        if plan.refuses_writes {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        match plan.write_tears_at.take() {
            Some(at) => {
                file.write_all_at(&bytes[..at.min(bytes.len())], offset)?;
                Err(io::Error::from_raw_os_error(EIO))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn before_preallocate(&self) -> io::Result<()> {
        if self.0.lock().full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(()) }
    }
}
