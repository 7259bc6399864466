//! Who watches the log hears of its failure at once, whatever failed.

use std::time::Duration;

use super::*;
use crate::fault::Faults;

const SOON: Duration = Duration::from_secs(10);

/// A log that keeps nothing in memory, so that every read goes to the disk.
fn uncached(dir: &Path) -> (RaftLog, Faults) {
    let options = RaftLogOptions { cache_bytes: 0, ..small() };
    let faults = options.faults.clone();
    (RaftLog::open(dir, options).unwrap(), faults)
}

/// Where the failure will be told.
fn watch(log: &RaftLog) -> mpsc::Receiver<String> {
    let (tx, rx) = mpsc::channel();
    log.on_failure(move |reason| tx.send(reason).unwrap());
    rx
}

/// The reason was told once, and is what the log says from now on.
fn assert_told(log: &RaftLog, told: &mpsc::Receiver<String>, words: &str) {
    let reason = told.recv_timeout(SOON).unwrap();
    assert!(reason.contains(words), "{reason}");
    assert_eq!(log.failed().as_deref(), Some(&*reason));
    assert_eq!(watch(log).try_recv().as_deref(), Ok(&*reason), "who asks late is told at once");
    let error = append(log, 1, entries(1000..1001, 8)).unwrap_err();
    assert_eq!(error.to_string(), reason);
    assert!(told.recv_timeout(SOON).is_err(), "told twice");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
}

#[test]
fn a_failed_sync_is_told_before_the_append_is_answered() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = uncached(tmp.path());
    let told = watch(&log);
    append(&log, 1, entries(0..3, 100)).unwrap();
    assert_eq!((log.failed(), told.try_recv()), (None, Err(mpsc::TryRecvError::Empty)));
    faults.fail_sync_after(0);
    let (tx, order) = mpsc::channel();
    let answered = tx.clone();
    log.on_failure(move |_| tx.send("told").unwrap());
    log.append(1, entries(3..4, 100), move |result| {
        answered.send(if result.is_err() { "refused" } else { "taken" }).unwrap()
    });
    assert!(order.iter().eq(["told", "refused"]));
    assert_told(&log, &told, "Input/output error");
}

#[test]
fn a_torn_write_is_told() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = uncached(tmp.path());
    let told = watch(&log);
    faults.tear_next_write_at(30);
    append(&log, 1, entries(0..3, 100)).unwrap_err();
    assert_told(&log, &told, "Input/output error");
}

#[test]
fn a_disk_that_is_full_when_the_next_segment_is_due_is_told() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = uncached(tmp.path());
    let told = watch(&log);
    faults.fill_disk();
    append(&log, 1, entries(0..20, 500)).unwrap_err();
    assert_told(&log, &told, "No space left");
}

#[test]
fn a_record_that_reads_back_damaged_is_refused_and_fails_the_whole_log() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = uncached(tmp.path());
    append(&log, 1, entries(0..3, 60)).unwrap();
    append(&log, 2, entries(0..3, 60)).unwrap();
    let path = segments(tmp.path()).remove(0);
    let offsets = offsets(&path);
    drop(log);
    let good = fs::read(&path).unwrap();
    for at in offsets[1]..offsets[2] {
        fs::write(&path, &good).unwrap();
        let (log, _) = uncached(tmp.path());
        let told = watch(&log);
        flip(&path, at);
        assert_eq!(log.read(1, 0..1, u64::MAX).unwrap(), entries(0..1, 60), "byte {at}");
        let error = log.read(1, 1..2, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "byte {at}");
        assert_eq!(told.try_recv(), Ok(error.to_string()), "byte {at}");
        let place = format!("{} is damaged at byte {}", path.display(), offsets[1]);
        assert!(error.to_string().contains(&place), "{error}");
        assert_eq!(log.read(2, 0..1, u64::MAX).unwrap_err().to_string(), error.to_string(), "byte {at}");
        assert_eq!(vote(&log, 2, b"vote").unwrap_err().to_string(), error.to_string(), "byte {at}");
    }
}

#[test]
fn a_log_that_its_owner_condemns_takes_nothing_more() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = uncached(tmp.path());
    append(&log, 1, entries(0..3, 60)).unwrap();
    let told = watch(&log);
    log.condemn("reading a snapshot", &io::Error::from_raw_os_error(5));
    log.condemn("doing something else", &io::Error::from_raw_os_error(28));
    assert_told(&log, &told, "the node's disk failed while reading a snapshot (Input/output error");
    drop(log);
    let (log, _) = uncached(tmp.path());
    assert_eq!((log.failed(), all(&log, 1)), (None, entries(0..3, 60)), "it was not the log's fault");
}

#[test]
fn a_record_that_is_no_longer_on_disk_fails_the_whole_log() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = uncached(tmp.path());
    append(&log, 1, entries(0..3, 60)).unwrap();
    let told = watch(&log);
    let path = segments(tmp.path()).remove(0);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
    log.read(1, 1..2, u64::MAX).unwrap_err();
    assert_told(&log, &told, "reading an entry back");
}

#[test]
fn what_is_queued_when_a_read_finds_damage_is_answered_in_order() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = uncached(tmp.path());
    append(&log, 1, entries(0..3, 60)).unwrap();
    let path = segments(tmp.path()).remove(0);
    flip(&path, offsets(&path)[0] + RECORD_HEADER);
    let (started, writing) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    log.append(1, entries(3..4, 8), move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    });
    // The writer is in the callback from here on: what follows waits for it.
    writing.recv().unwrap();
    let (tx, answers) = mpsc::channel();
    for index in 4..8 {
        let tx = tx.clone();
        log.append(1, entries(index..index + 1, 8), move |result| tx.send((index, result.is_err())).unwrap());
    }
    drop(tx);
    log.read(1, 0..1, u64::MAX).unwrap_err();
    assert_eq!(answers.try_recv(), Err(mpsc::TryRecvError::Empty), "answered on the reader's thread");
    release.send(()).unwrap();
    assert!(answers.iter().eq((4..8).map(|index| (index, true))));
}

#[test]
fn a_log_that_does_not_fail_tells_nobody() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, _) = uncached(tmp.path());
    let told = watch(&log);
    append(&log, 1, entries(0..30, 500)).unwrap();
    assert_eq!(all(&log, 1), entries(0..30, 500));
    drop(log);
    assert_eq!(told.recv(), Err(mpsc::RecvError));
}
