//! A disk whose writes and syncs fail from some moment on: a library preloaded into the processes under test
//! (`chaos/disk/trouble.c`) looks at each of them for a file that says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::disk::{compile, text};

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Write,
    Sync,
}

/// With which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errno {
    /// An input or output error.
    Io = 5,
    /// No space is left on the device.
    Full = 28,
}

/// The disk below a directory.
#[derive(Debug, Clone)]
pub struct Trouble {
    dir: PathBuf,
    order: PathBuf,
}

impl Trouble {
    /// The file that says what fails lies beside the directory.
    pub fn over(dir: &Path) -> Self {
        assert!(dir.is_absolute(), "{}", dir.display());
        Self { dir: dir.into(), order: PathBuf::from(format!("{}.trouble", dir.display())) }
    }

    /// The environment of a process whose disk can be made to fail.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".into(), text(library())),
            ("TROUBLE_DIR".into(), text(&self.dir)),
            ("TROUBLE_ORDER".into(), text(&self.order)),
        ]
    }

    /// From now on, until [`Trouble::end`].
    pub fn begin(&self, operation: Operation, errno: Errno) {
        let letter = match operation {
            Operation::Write => 'w',
            Operation::Sync => 's',
        };
        // Whole at once, as the other side reads it at any time.
        let fresh = self.order.with_extension("fresh");
        fs::write(&fresh, format!("{letter} {}", errno as i32)).expect("the order can be written");
        fs::rename(fresh, &self.order).expect("the order can be put in place");
    }

    pub fn end(&self) {
        fs::remove_file(&self.order).expect("there was trouble");
    }
}

fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compile("trouble", include_str!("../../disk/trouble.c")))
}
