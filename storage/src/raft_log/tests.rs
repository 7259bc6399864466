//! The log as its callers see it, over restarts, crashes and failing disks.

mod basics;
mod crash;
mod failing;
mod freeing;
mod model;
mod watching;

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;

use super::record::Found;
use super::segment::{SEGMENT_HEADER, SUFFIX, Segment};
use super::*;

/// The smallest segments, so that a few entries fill several.
fn small() -> RaftLogOptions {
    RaftLogOptions { segment_size: 4096, ..RaftLogOptions::default() }
}

fn entries(range: Range<u64>, size: usize) -> Vec<(u64, Bytes)> {
    range.map(|index| (index, payload(index, size))).collect()
}

/// `size` bytes that differ from index to index.
fn payload(index: u64, size: usize) -> Bytes {
    (0..size).map(|at| (index.wrapping_mul(31) as usize + at * 7) as u8).collect()
}

/// Appends and waits for the answer.
fn append(log: &RaftLog, group: u32, entries: Vec<(u64, Bytes)>) -> io::Result<()> {
    let (tx, rx) = mpsc::channel();
    log.append(group, entries, move |result| tx.send(result).unwrap());
    rx.recv().unwrap()
}

/// Saves a vote and waits for the answer.
fn vote(log: &RaftLog, group: u32, vote: &[u8]) -> io::Result<()> {
    let (tx, rx) = mpsc::channel();
    log.save_vote(group, Bytes::copy_from_slice(vote), move |result| tx.send(result).unwrap());
    rx.recv().unwrap()
}

fn all(log: &RaftLog, group: u32) -> Vec<(u64, Bytes)> {
    log.read(group, 0..u64::MAX, u64::MAX).unwrap()
}

/// The segment files, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    crate::disk::numbered_files(dir, SUFFIX).unwrap().into_iter().map(|(_, path)| path).collect()
}

/// Where each record of the segment begins, and at last where the records end.
fn offsets(path: &Path) -> Vec<usize> {
    let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let (segment, bytes) = Segment::open(path, number, &RaftLogOptions::default()).unwrap();
    let mut offsets = vec![SEGMENT_HEADER];
    let mut at = SEGMENT_HEADER;
    while let Some(found) = Found::decode(&bytes[at..], segment.salt, at as u32) {
        at += found.size();
        offsets.push(at);
    }
    offsets
}

fn copy_dir(from: &Path, to: &Path) {
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
