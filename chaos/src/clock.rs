//! Wall clocks that are wrong: a library preloaded into the processes under test (`chaos/disk/clock.c`) adds to what their
//! clock says. It needs a C compiler, `cc`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::disk::{compile, text};

/// The wall clock of the processes that are started with it.
#[derive(Debug, Clone)]
pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// Right at first. The file that says how wrong it is lies beside the directory.
    pub fn beside(dir: &Path) -> Self {
        let clock = Self { offset: PathBuf::from(format!("{}.clock", dir.display())) };
        fs::write(&clock.offset, 0i64.to_ne_bytes()).expect("a file for the clock's offset");
        clock
    }

    /// The environment of a process with this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![("LD_PRELOAD".into(), text(library())), ("CLOCK_OFFSET".into(), text(&self.offset))]
    }

    /// From now on the clock is wrong by so many seconds, in running processes too.
    pub fn set(&self, seconds: i64) {
        // In place, as the other side has it mapped.
        let file = fs::File::options().write(true).open(&self.offset).expect("the file is there");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("the offset can be written");
    }
}

fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compile("clock", include_str!("../disk/clock.c")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::*;

    fn told(clock: &Clock) -> i64 {
        let output = Command::new("date").arg("+%s").envs(clock.env()).output().expect("date runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("seconds")
    }

    #[test]
    fn a_process_sees_the_time_that_it_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::beside(&folder.path().join("node"));
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64;
        assert!((told(&clock) - now()).abs() < 60);
        clock.set(-3600);
        assert!((told(&clock) - now() + 3600).abs() < 60);
    }
}
