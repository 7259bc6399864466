use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(0..10, 100)).unwrap();
    append(&log, 2, entries(5..8, 10)).unwrap();
    vote(&log, 1, b"vote").unwrap();
    log.save_committed(1, Bytes::from_static(b"committed")).unwrap();
    log.truncate_after(1, Some(7)).unwrap();
    log.purge(1, 2, Bytes::from_static(b"purged")).unwrap();
    let (state, read) = (log.state(1), all(&log, 1));
    assert_eq!(read, entries(3..8, 100));
    assert_eq!((state.last_index, log.size(1)), (Some(7), 500));
    drop(log);

    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!((log.state(1), all(&log, 1)), (state, read));
    assert_eq!(all(&log, 2), entries(5..8, 10));
    assert_eq!(log.size(1), 500);
    assert_eq!(log.state(3), GroupState::default());
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    let (release, held) = mpsc::channel::<()>();
    log.append(1, entries(1..2, 8), move |_| held.recv().unwrap());
    let (tx, rx) = mpsc::channel();
    log.append(1, entries(2..4, 8), move |result| tx.send(result).unwrap());
    assert_eq!(all(&log, 1), entries(1..4, 8));
    assert!(rx.try_recv().is_err(), "answered although the writer is held");
    release.send(()).unwrap();
    rx.recv().unwrap().unwrap();
}

#[test]
fn a_read_is_bounded_by_range_and_bytes_but_gives_at_least_one() {
    let tmp = tempfile::tempdir().unwrap();
    for cache_bytes in [0, 1 << 20] {
        let dir = tmp.path().join(cache_bytes.to_string());
        let log = RaftLog::open(&dir, RaftLogOptions { cache_bytes, ..small() }).unwrap();
        append(&log, 1, entries(1..101, 100)).unwrap();
        log.purge(1, 10, Bytes::new()).unwrap();
        assert_eq!(log.read(1, 20..30, u64::MAX).unwrap(), entries(20..30, 100));
        assert_eq!(log.read(1, 20..30, 399).unwrap(), entries(20..23, 100));
        assert_eq!(log.read(1, 20..30, 0).unwrap(), entries(20..21, 100));
        assert_eq!(log.read(1, 0..12, u64::MAX).unwrap(), entries(11..12, 100));
        assert_eq!(log.read(1, 100..200, u64::MAX).unwrap(), entries(100..101, 100));
        assert_eq!(log.read(1, 101..200, u64::MAX).unwrap(), []);
        assert_eq!(log.read(2, 0..200, u64::MAX).unwrap(), []);
    }
}

#[test]
fn memory_is_bounded_and_older_entries_come_from_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), RaftLogOptions { cache_bytes: 1000, ..small() }).unwrap();
    for index in 0..200 {
        append(&log, 1, entries(index..index + 1, 100)).unwrap();
        append(&log, 2, entries(index..index + 1, 50)).unwrap();
    }
    assert!(log.stats().cached_bytes <= 1000, "{:?}", log.stats());
    assert_eq!(all(&log, 1), entries(0..200, 100));
    assert_eq!(all(&log, 2), entries(0..200, 50));
}

#[test]
fn an_entry_out_of_turn_is_refused_and_the_log_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(5..7, 8)).unwrap();
    for wrong in [6, 8] {
        let error = append(&log, 1, entries(wrong..wrong + 1, 8)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let gap = vec![(7, Bytes::new()), (9, Bytes::new())];
    assert_eq!(append(&log, 1, gap).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    append(&log, 1, entries(7..9, 8)).unwrap();
    assert_eq!(all(&log, 1), entries(5..9, 8));
}

#[test]
fn an_emptied_log_goes_on_where_it_was_cut() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(3..6, 8)).unwrap();
    log.truncate_after(1, None).unwrap();
    assert_eq!(log.state(1).last_index, None);
    append(&log, 1, entries(3..4, 9)).unwrap();
    log.purge(1, 100, Bytes::from_static(b"from a snapshot")).unwrap();
    log.truncate_after(1, Some(50)).unwrap();
    assert_eq!(log.state(1).last_index, Some(100));
    append(&log, 1, entries(101..103, 8)).unwrap();
    drop(log);
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1), entries(101..103, 8));
    assert_eq!(log.state(1).purged, Some((100, Bytes::from_static(b"from a snapshot"))));
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), RaftLogOptions { cache_bytes: 0, ..small() }).unwrap();
    let mixed = vec![(0, payload(0, 10)), (1, payload(1, 50_000)), (2, payload(2, 10))];
    append(&log, 1, mixed.clone()).unwrap();
    assert_eq!(all(&log, 1), mixed);
    drop(log);
    assert_eq!(all(&RaftLog::open(tmp.path(), small()).unwrap(), 1), mixed);
}

#[test]
fn answers_come_in_the_order_of_the_calls() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    let (tx, rx) = mpsc::channel();
    for call in 0..500u64 {
        let tx = tx.clone();
        if call % 7 == 0 {
            log.save_vote(1, payload(call, 8), move |_| tx.send(call).unwrap());
        } else {
            log.append(call as u32 % 3 + 2, vec![], move |_| tx.send(call).unwrap());
        }
    }
    drop(tx);
    assert!(rx.iter().eq(0..500));
}

#[test]
fn one_sync_serves_all_who_wait() {
    const THREADS: u32 = 64;
    const APPENDS: u64 = 50;
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), RaftLogOptions::default()).unwrap();
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for group in 0..THREADS {
            let (log, acknowledged) = (&log, &acknowledged);
            scope.spawn(move || {
                for index in 0..APPENDS {
                    append(log, group, entries(index..index + 1, 100)).unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let appends = acknowledged.into_inner();
    let stats = log.stats();
    assert_eq!(appends, u64::from(THREADS) * APPENDS);
    assert!(stats.syncs * 4 < appends, "{} syncs for {appends} appends", stats.syncs);
    assert_eq!(stats.written_bytes, appends * (100 + RECORD_HEADER as u64));
    println!("{appends} appends, {} syncs, the last took {:?}", stats.syncs, stats.last_sync);
}

#[test]
fn callers_wait_while_the_queue_is_full() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), RaftLogOptions { queue_bytes: 500, ..small() }).unwrap();
    let (release, held) = mpsc::channel::<()>();
    log.append(1, entries(0..1, 1000), move |_| held.recv().unwrap());
    let (tx, rx) = mpsc::channel();
    let other = log.clone();
    let caller = std::thread::spawn(move || {
        for index in 0..20 {
            other.append(2, entries(index..index + 1, 1000), |result| result.unwrap());
            tx.send(other.stats().queued_bytes).unwrap();
        }
    });
    let first = rx.recv().unwrap();
    release.send(()).unwrap();
    caller.join().unwrap();
    assert_eq!(first, 1025);
    assert!(rx.iter().all(|queued| queued <= 500 + 1025));
    assert_eq!(all(&log, 2), entries(0..20, 1000));
}

#[test]
fn a_callback_may_append_to_a_full_queue_and_drop_the_last_handle() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), RaftLogOptions { queue_bytes: 1, ..small() }).unwrap();
    let (tx, rx) = mpsc::channel();
    let moved = log.clone();
    log.append(1, entries(0..1, 100), move |_| {
        for index in 1..20 {
            moved.append(1, entries(index..index + 1, 100), |_| ());
        }
        let last = tx.clone();
        moved.append(1, entries(20..21, 100), move |result| last.send(result).unwrap());
        drop(moved);
    });
    drop(log);
    rx.recv().unwrap().unwrap();
    assert_eq!(all(&RaftLog::open(tmp.path(), small()).unwrap(), 1), entries(0..21, 100));
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    for segment_size in [0, 4095, (1 << 30) + 1] {
        let options = RaftLogOptions { segment_size, ..RaftLogOptions::default() };
        assert!(matches!(RaftLog::open(tmp.path(), options), Err(LogError::SegmentSize { .. })));
    }
}
