//! The broker program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `rollcall` program: `ROLLCALL_BIN` when it is set, else this workspace's, brought up to date by cargo once per
/// test process. The profile is the one these tests were built with.
pub fn rollcall() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("ROLLCALL_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile_dir = profile_dir();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--package", "rollcall", "--bin", "rollcall"]);
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo must start to build the broker");
    assert!(status.success(), "the broker does not build");
    profile_dir.join("rollcall")
}

/// `target/debug` or `target/release`: the first folder above the running program that is not `deps` or `examples`.
pub fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in a profile's folder").into()
    } else {
        folder.into()
    }
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}
