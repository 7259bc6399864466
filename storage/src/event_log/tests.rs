//! The event log as its writer and its readers see it, over restarts and crashes.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

/// The smallest segments, so that a few events fill several.
fn open(dir: &Path) -> Result<EventLog, EventLogError> {
    EventLog::open(dir, small())
}

fn small() -> EventLogOptions {
    EventLogOptions { segment_size: 4096, ..EventLogOptions::default() }
}

fn event(seq: u64, size: usize) -> (u64, Bytes) {
    (seq, (0..size).map(|at| (seq as usize * 13 + at) as u8).collect())
}

fn events(range: Range<u64>, size: usize) -> Vec<(u64, Bytes)> {
    range.map(|seq| event(seq, size)).collect()
}

fn all(log: &EventLog) -> Vec<(u64, Bytes)> {
    log.read(0, usize::MAX).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    numbered_files(dir, SUFFIX).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn events_come_back_in_pages_also_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    assert_eq!((log.first(), log.last()), (1, 0));
    assert_eq!(all(&log), []);
    log.append(&events(1..501, 100)).unwrap();
    let check = |log: &EventLog| {
        assert_eq!((log.first(), log.last()), (1, 500));
        for after in [0, 1, 30, 62, 63, 64, 65, 127, 128, 400, 499] {
            assert_eq!(log.read(after, 7).unwrap(), events(after + 1..(after + 8).min(501), 100));
        }
        assert_eq!(log.read(500, 7).unwrap(), []);
        assert_eq!(log.read(u64::MAX, 7).unwrap(), []);
        assert_eq!(all(log), events(1..501, 100));
    };
    check(&log);
    drop(log);
    let log = open(tmp.path()).unwrap();
    check(&log);
    assert!(files(tmp.path()).len() > 5);
}

#[test]
fn what_is_appended_again_is_ignored_and_a_gap_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    log.append(&events(1..10, 20)).unwrap();
    log.append(&events(3..8, 99)).unwrap();
    log.append(&events(5..12, 20)).unwrap();
    assert_eq!(all(&log), events(1..12, 20));
    for wrong in [vec![event(13, 20)], vec![event(12, 20), event(14, 20)], vec![event(12, 20), event(12, 20)]] {
        assert_eq!(log.append(&wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    log.append(&events(12..14, 20)).unwrap();
    assert_eq!(all(&log), events(1..14, 20));
}

#[test]
fn events_larger_than_a_chunk_and_a_segment_are_read() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    let mixed = [event(1, 10), event(2, 200_000), event(3, 0), event(4, 70_000)];
    log.append(&mixed).unwrap();
    assert_eq!(all(&log), mixed);
    drop(log);
    assert_eq!(all(&open(tmp.path()).unwrap()), mixed);
}

#[test]
fn one_read_takes_bounded_memory() {
    let tmp = tempfile::tempdir().unwrap();
    let log = EventLog::open(tmp.path(), EventLogOptions::default()).unwrap();
    log.append(&events(1..101, 100_000)).unwrap();
    let read = log.read(0, usize::MAX).unwrap();
    assert!(read.len() < 50 && read == events(1..read.len() as u64 + 1, 100_000), "{}", read.len());
    assert_eq!(log.read(read.len() as u64, 1).unwrap(), [event(read.len() as u64 + 1, 100_000)]);
}

#[test]
fn retention_removes_whole_files_and_keeps_what_was_asked() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    log.append(&events(1..501, 100)).unwrap();
    log.retain(100).unwrap();
    let first = log.first();
    assert!((300..=401).contains(&first), "{first}");
    assert_eq!(all(&log), events(first..501, 100));
    assert_eq!(log.read(5, 3).unwrap(), events(first..first + 3, 100));
    log.retain(1000).unwrap();
    assert_eq!(log.first(), first);
    drop(log);
    let log = open(tmp.path()).unwrap();
    assert_eq!(all(&log), events(first..501, 100));
}

#[test]
fn a_reset_log_begins_anew_where_it_was_told() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    log.append(&events(1..201, 100)).unwrap();
    log.reset(1000).unwrap();
    assert_eq!((log.first(), log.last(), all(&log)), (1000, 999, vec![]));
    log.append(&events(990..1005, 30)).unwrap();
    assert_eq!(log.read(3, 2).unwrap(), events(1000..1002, 30));
    drop(log);
    let log = open(tmp.path()).unwrap();
    assert_eq!((log.first(), log.last()), (1000, 1004));
    log.reset(50).unwrap();
    log.append(&events(50..60, 10)).unwrap();
    drop(log);
    assert_eq!(all(&open(tmp.path()).unwrap()), events(50..60, 10));
    assert_eq!(files(tmp.path()).len(), 1);
}

#[test]
fn a_reset_cut_short_leaves_the_log_reset() {
    let (tmp, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(tmp.path()).unwrap();
    log.append(&events(1..101, 100)).unwrap();
    for path in files(tmp.path()) {
        fs::copy(&path, old.path().join(path.file_name().unwrap())).unwrap();
    }
    log.reset(1000).unwrap();
    log.append(&events(1000..1003, 10)).unwrap();
    drop(log);
    // The last of the old files was not yet removed, and what it held had never been synced.
    let survivor = files(old.path()).pop().unwrap();
    let bytes = fs::read(&survivor).unwrap();
    fs::write(tmp.path().join(survivor.file_name().unwrap()), &bytes[..bytes.len() - 10]).unwrap();
    assert_eq!(all(&open(tmp.path()).unwrap()), events(1000..1003, 10));
    assert_eq!(files(tmp.path()).len(), 1);
}

#[test]
fn a_torn_tail_is_cut_cleanly_at_every_byte() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path()).unwrap().append(&events(1..4, 60)).unwrap();
    let path = files(tmp.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let record = RECORD_HEADER + 60;
    for cut in good.len() - record..good.len() {
        for zeros in [0, 1000] {
            let mut torn = good[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            fs::write(&path, &torn).unwrap();
            let log = open(tmp.path()).unwrap();
            assert_eq!(all(&log), events(1..3, 60), "cut at {cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), (good.len() - record) as u64);
        }
    }
}

#[test]
fn damage_to_what_was_synced_is_refused_and_to_what_was_not_is_cut() {
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    log.append(&events(1..5, 60)).unwrap();
    log.sync().unwrap();
    log.append(&events(5..9, 60)).unwrap();
    drop(log);
    let path = files(tmp.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let record = RECORD_HEADER + 60;
    let first = good.len() - 8 * record;
    for byte in first..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        let at = (byte - first) / record;
        match open(tmp.path()) {
            Err(EventLogError::Corrupt { path: named, offset }) => {
                assert!(at < 4, "byte {byte}");
                assert_eq!((&named, offset), (&path, (first + at * record) as u64));
                assert_eq!(fs::read(&path).unwrap(), bad, "a refused file was changed");
            }
            Ok(log) => {
                assert!(at >= 4, "byte {byte}");
                assert_eq!(all(&log), events(1..at as u64 + 1, 60));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn damage_in_any_but_the_last_file_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path()).unwrap().append(&events(1..101, 100)).unwrap();
    let path = files(tmp.path()).remove(0);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(open(tmp.path()), Err(EventLogError::Corrupt { .. })));
    fs::write(&path, &good).unwrap();
    fs::remove_file(files(tmp.path()).remove(1)).unwrap();
    assert!(matches!(open(tmp.path()), Err(EventLogError::Gap { .. })));
}

#[test]
fn a_damaged_header_and_a_newer_format_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    open(tmp.path()).unwrap().append(&events(1..4, 60)).unwrap();
    let path = files(tmp.path()).remove(0);
    let good = fs::read(&path).unwrap();
    for byte in 0..48 {
        let mut bad = good.clone();
        bad[byte] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        assert!(open(tmp.path()).is_err(), "byte {byte}");
    }
    let mut newer = good.clone();
    newer[8] = 2;
    fs::write(&path, &newer).unwrap();
    assert!(matches!(open(tmp.path()), Err(EventLogError::NewerFormat { found: 2, known: 1, .. })));
}

/// Every operation that changes the log says the same; what is there can still be read.
fn refuses_everything(log: &EventLog, words: &str) {
    let errors = [log.append(&[event(log.last() + 1, 8)]), log.sync(), log.retain(0), log.reset(5000)];
    for error in errors.map(|result| result.unwrap_err().to_string()) {
        assert!(error.contains(words) && error.contains("takes no more writes"), "{error}");
    }
    assert_eq!(all(log), events(1..log.last() + 1, 100));
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let tmp = tempfile::tempdir().unwrap();
    let options = small();
    let faults = options.faults.clone();
    let log = EventLog::open(tmp.path(), options).unwrap();
    log.append(&events(1..4, 100)).unwrap();
    faults.fail_sync_after(0);
    assert!(log.sync().unwrap_err().to_string().contains("Input/output error"));
    refuses_everything(&log, "Input/output error");
}

#[test]
fn a_torn_write_is_an_error_and_loses_nothing_synced() {
    let tmp = tempfile::tempdir().unwrap();
    let options = small();
    let faults = options.faults.clone();
    let log = EventLog::open(tmp.path(), options).unwrap();
    log.append(&events(1..4, 100)).unwrap();
    log.sync().unwrap();
    faults.tear_next_write_at(150);
    assert!(log.append(&events(4..9, 100)).unwrap_err().to_string().contains("Input/output error"));
    assert_eq!(log.last(), 3);
    refuses_everything(&log, "Input/output error");
    drop(log);
    // The whole one of the torn write's events may be there.
    assert_eq!(all(&open(tmp.path()).unwrap()), events(1..5, 100));
}

#[test]
fn a_full_disk_is_an_error_when_events_are_written_and_when_the_next_file_is_due() {
    for written_before in [3, 33] {
        let tmp = tempfile::tempdir().unwrap();
        let options = small();
        let faults = options.faults.clone();
        let log = EventLog::open(tmp.path(), options).unwrap();
        log.append(&events(1..written_before + 1, 100)).unwrap();
        faults.refuse_writes();
        let error = log.append(&events(written_before + 1..60, 100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        refuses_everything(&log, "No space left");
        drop(log);
        let log = open(tmp.path()).unwrap();
        assert_eq!(all(&log), events(1..written_before + 1, 100));
        log.append(&events(written_before + 1..60, 100)).unwrap();
    }
}

#[test]
fn readers_see_whole_events_in_order_while_the_log_grows_and_shrinks() {
    const LAST: u64 = 20_000;
    let tmp = tempfile::tempdir().unwrap();
    let log = open(tmp.path()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut after = 0;
                while after < LAST {
                    let finished = done.load(Ordering::Acquire);
                    let page = log.read(after, 100).unwrap();
                    let Some(&(first, _)) = page.first() else {
                        assert!(!finished, "nothing to read after {after}");
                        std::thread::yield_now();
                        continue;
                    };
                    assert!(first > after);
                    assert_eq!(page, events(first..first + page.len() as u64, 20));
                    after = first + page.len() as u64 - 1;
                }
            });
        }
        for seq in (1..=LAST).step_by(50) {
            log.append(&events(seq..seq + 50, 20)).unwrap();
            if seq % 1000 == 1 {
                log.retain(5000).unwrap();
            }
        }
        log.sync().unwrap();
        done.store(true, Ordering::Release);
    });
    assert_eq!(log.last(), LAST);
}

#[derive(Clone, Debug)]
enum Step {
    Append { back: u64, count: u64, size: usize },
    Retain(u64),
    Reset { ahead: u64 },
    Sync,
    Reopen,
    Crash { cut: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..5, 0u64..40, 0usize..300).prop_map(|(back, count, size)| Step::Append { back, count, size }),
        1 => (0u64..100).prop_map(Step::Retain),
        1 => (1u64..50).prop_map(|ahead| Step::Reset { ahead }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        2 => (0usize..6000).prop_map(|cut| Step::Crash { cut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_operations_restarts_and_crashes_equals_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = open(tmp.path()).unwrap();
        let (mut kept, mut next, mut synced) = (Vec::new(), 1, 0);
        for step in steps {
            match step {
                Step::Append { back, count, size } => {
                    let from = next - back.min(next - 1);
                    let batch = events(from..next + count, size);
                    log.append(&batch).unwrap();
                    kept.extend(batch.into_iter().filter(|event| event.0 >= next));
                    next += count;
                }
                Step::Retain(records) => {
                    log.retain(records).unwrap();
                    prop_assert!(next - log.first() >= records.min(kept.len() as u64));
                    kept.retain(|event| event.0 >= log.first());
                }
                Step::Reset { ahead } => {
                    next += ahead;
                    synced = next - 1;
                    kept.clear();
                    log.reset(next).unwrap();
                }
                Step::Sync => {
                    log.sync().unwrap();
                    synced = next - 1;
                }
                Step::Reopen => {
                    drop(log);
                    log = open(tmp.path()).unwrap();
                    synced = next - 1;
                }
                Step::Crash { cut } => {
                    drop(log);
                    // A power cut loses some of what was not synced: never events at or before `synced`.
                    let path = files(tmp.path()).pop().unwrap();
                    let first = Segment::open(&path, ordinal(&path), true, &small()).unwrap().first();
                    let mut durable = 48;
                    for event in kept.iter().filter(|event| (first..=synced).contains(&event.0)) {
                        durable += RECORD_HEADER + event.1.len();
                    }
                    let len = fs::metadata(&path).unwrap().len() as usize;
                    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.set_len((durable + cut).min(len) as u64).unwrap();
                    log = open(tmp.path()).unwrap();
                    prop_assert!(log.last() >= synced);
                    next = log.last() + 1;
                    synced = log.last();
                    kept.retain(|event| event.0 < next);
                }
            }
            prop_assert_eq!(all(&log), kept.clone());
            prop_assert_eq!(log.last(), next - 1);
        }
    }
}

fn ordinal(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}
