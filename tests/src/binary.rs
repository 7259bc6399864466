//! The broker program under test, and the repository it comes from.

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

/// All Rust files under version control, or about to be, from the root of the repository.
pub fn sources() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .current_dir(workspace())
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .output()
        .expect("git lists the files");
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    names.lines().map(PathBuf::from).filter(|path| workspace().join(path).exists()).collect()
}

/// The text of such a file.
pub fn source(path: &Path) -> String {
    std::fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The root of the repository.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}
