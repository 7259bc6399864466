use super::*;

/// Appends entries of `group` one by one until the log has this many segments; returns the next index.
fn fill(log: &RaftLog, group: u32, mut next: u64, count: u64) -> u64 {
    while log.stats().segments < count {
        append(log, group, entries(next..next + 1, 500)).unwrap();
        next += 1;
    }
    next
}

/// Waits until the writer has done everything asked so far, freeing included.
fn settle(log: &RaftLog) {
    vote(log, 99, b"1").unwrap();
    vote(log, 99, b"2").unwrap();
}

#[test]
fn purged_segments_are_deleted_and_votes_carried_forward() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    vote(&log, 1, b"vote of 1").unwrap();
    vote(&log, 2, b"vote of 2").unwrap();
    log.purge(2, 77, Bytes::from_static(b"purged in 2")).unwrap();
    log.save_committed(2, Bytes::from_static(b"committed in 2")).unwrap();
    let next = fill(&log, 1, 0, 5);
    log.purge(1, next - 1, Bytes::from_static(b"purged in 1")).unwrap();
    settle(&log);
    assert_eq!(segments(tmp.path()).len(), 1);
    let states = [log.state(1), log.state(2)];
    assert_eq!(states[0].purged, Some((next - 1, Bytes::from_static(b"purged in 1"))));
    drop(log);

    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!([log.state(1), log.state(2)], states);
    append(&log, 1, entries(next..next + 1, 8)).unwrap();
    append(&log, 2, entries(78..79, 8)).unwrap();
}

#[test]
fn a_group_that_pins_the_oldest_segment_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(log.oldest_pin(), None);
    append(&log, 7, entries(0..3, 10)).unwrap();
    let next = fill(&log, 1, 0, 4);
    log.purge(1, next - 1, Bytes::new()).unwrap();
    settle(&log);
    assert_eq!(segments(tmp.path()).len(), 4);
    assert_eq!(log.oldest_pin(), Some(Pin { group: 7, up_to: 2 }));
    log.purge(7, 1, Bytes::new()).unwrap();
    settle(&log);
    assert_eq!(log.oldest_pin(), Some(Pin { group: 7, up_to: 2 }));
    log.purge(7, 2, Bytes::new()).unwrap();
    settle(&log);
    assert_eq!((segments(tmp.path()).len(), log.oldest_pin()), (1, None));
}

#[test]
fn a_forgotten_group_pins_nothing_and_begins_anew() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    vote(&log, 7, b"vote of 7").unwrap();
    append(&log, 7, entries(5..8, 10)).unwrap();
    fill(&log, 1, 0, 3);
    assert_eq!(log.oldest_pin().map(|pin| pin.group), Some(1));
    let (tx, rx) = mpsc::channel();
    log.purge(1, 3, Bytes::new()).unwrap();
    log.forget(7, move |result| tx.send(result).unwrap());
    rx.recv().unwrap().unwrap();
    assert_eq!((log.state(7), log.size(7)), (GroupState::default(), 0));
    append(&log, 7, entries(0..2, 10)).unwrap();
    drop(log);
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(log.state(7), GroupState { last_index: Some(1), ..GroupState::default() });
    assert_eq!(all(&log, 7), entries(0..2, 10));
}

#[test]
fn entries_whose_predecessors_are_deleted_need_the_later_purge_alone() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    // The purge at 3 is carried into a later segment, behind which the entries go on at a much higher index.
    append(&log, 1, entries(0..20, 500)).unwrap();
    log.purge(1, 7, Bytes::new()).unwrap();
    settle(&log);
    append(&log, 1, entries(20..24, 500)).unwrap();
    log.truncate_after(1, Some(21)).unwrap();
    append(&log, 1, entries(22..40, 501)).unwrap();
    log.purge(1, 30, Bytes::new()).unwrap();
    settle(&log);
    drop(log);
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1), entries(31..40, 501));
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    fill(&log, 1, 0, 4);
    drop(log);
    let lost = segments(tmp.path()).remove(1);
    fs::remove_file(&lost).unwrap();
    let error = RaftLog::open(tmp.path(), small()).err().unwrap();
    assert!(matches!(&error, LogError::SegmentMissing { path } if *path == lost), "{error}");
}

#[test]
fn a_purge_whose_entries_begin_too_late_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    let next = fill(&log, 1, 0, 3);
    log.purge(1, 2, Bytes::new()).unwrap();
    fill(&log, 1, next, 4);
    drop(log);
    fs::remove_file(segments(tmp.path()).remove(0)).unwrap();
    let error = RaftLog::open(tmp.path(), small()).err().unwrap();
    assert!(matches!(error, LogError::EntriesMissing { group: 1, purged: 2, .. }), "{error}");
}

#[test]
fn a_segment_half_created_is_removed() {
    let tmp = tempfile::tempdir().unwrap();
    drop(RaftLog::open(tmp.path(), small()).unwrap());
    let half = tmp.path().join("00000000000000000002.tmp");
    fs::write(&half, b"roll").unwrap();
    RaftLog::open(tmp.path(), small()).unwrap();
    assert!(!half.exists());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    drop(RaftLog::open(tmp.path(), small()).unwrap());
    let path = segments(tmp.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    fs::write(&path, &bytes).unwrap();
    let error = RaftLog::open(tmp.path(), small()).err().unwrap();
    assert!(matches!(error, LogError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
