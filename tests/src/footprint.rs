//! What a node takes of the machine: memory of its process, space of its folder.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// `st_blocks` counts these, whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// Bytes: the most memory the process ever had resident.
pub fn peak_memory(pid: u32) -> u64 {
    told(pid, "VmHWM:")
}

/// Bytes: the memory the process has resident.
pub fn memory(pid: u32) -> u64 {
    told(pid, "VmRSS:")
}

fn told(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("Linux tells it");
    let kilobytes = line.trim().strip_suffix(" kB").expect("in kB");
    kilobytes.parse::<u64>().expect("a number") << 10
}

/// Bytes on disk of everything below the folder. Files that go while they are counted count nothing.
pub fn disk(folder: &Path) -> u64 {
    let Ok(items) = std::fs::read_dir(folder) else { return 0 };
    let size = |path: &Path| match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => disk(path),
        Ok(found) => found.blocks() * BLOCK,
        Err(_) => 0,
    };
    items.flatten().map(|item| size(&item.path())).sum()
}
