//! Disks that fail: libraries preloaded into the processes under test, compiled here from C. That needs a compiler, `cc`.
//!
//! - [`PowerCut`]: what was not synced can be lost
//! - [`Trouble`]: writes and syncs can be made to fail

mod power;
mod trouble;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use power::{Lost, PowerCut};
pub use trouble::{Errno, Operation, Trouble};

/// A library of that name, beside the running program.
pub(crate) fn compile(name: &str, source: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    let fresh = |ending: &str| folder.join(format!("{name}-{}.{ending}", std::process::id()));
    let (code, compiled, library) = (fresh("c"), fresh("so"), folder.join(format!("{name}.so")));
    fs::write(&code, source).expect("the code can be written");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
    let status = compiler.arg(&compiled).arg(&code).status().expect("a C compiler, cc, is installed");
    assert!(status.success(), "{name}.c does not compile");
    fs::remove_file(code).expect("the code is ours");
    // Another process may be using the one that is there.
    fs::rename(compiled, &library).expect("the compiled library can be put in place");
    library
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("the paths of tests are UTF-8").to_owned()
}
