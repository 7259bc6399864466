use super::*;

fn failing(dir: &Path) -> (RaftLog, crate::fault::Faults) {
    let options = small();
    let faults = options.faults.clone();
    (RaftLog::open(dir, options).unwrap(), faults)
}

fn refuses_everything(log: &RaftLog, words: &str) {
    let mut errors = vec![
        append(log, 1, entries(100..101, 8)).unwrap_err(),
        append(log, 9, entries(0..1, 8)).unwrap_err(),
        vote(log, 1, b"vote").unwrap_err(),
        log.save_committed(1, Bytes::new()).unwrap_err(),
        log.truncate_after(1, None).unwrap_err(),
        log.purge(1, 100, Bytes::new()).unwrap_err(),
        log.read(1, 0..1, u64::MAX).unwrap_err(),
    ];
    let first = errors.remove(0);
    assert!(first.to_string().contains(words), "{first}");
    assert!(errors.iter().all(|error| error.to_string() == first.to_string() && error.kind() == first.kind()));
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = failing(tmp.path());
    append(&log, 1, entries(0..3, 100)).unwrap();
    faults.fail_sync_after(0);
    append(&log, 1, entries(3..4, 100)).unwrap_err();
    refuses_everything(&log, "Input/output error");
    assert_eq!(log.stats().syncs, 1);
    drop(log);
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1)[..3], entries(0..3, 100));
}

#[test]
fn those_in_the_batch_and_those_behind_it_are_told_of_the_failure() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = failing(tmp.path());
    let (tx, rx) = mpsc::channel();
    let (started, writing) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    log.append(1, entries(0..1, 8), move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    });
    // The writer is in the callback from here on: what follows waits for its next batch.
    writing.recv().unwrap();
    faults.fail_sync_after(0);
    for index in 1..10 {
        let tx = tx.clone();
        log.append(1, entries(index..index + 1, 8), move |result| tx.send((index, result.is_err())).unwrap());
    }
    release.send(()).unwrap();
    drop(tx);
    assert!(rx.iter().eq((1..10).map(|index| (index, true))));
}

#[test]
fn a_torn_write_loses_nothing_acknowledged() {
    for torn_at in [0, 1, 30, 124, 125, 126, 200, 300] {
        let tmp = tempfile::tempdir().unwrap();
        let (log, faults) = failing(tmp.path());
        append(&log, 1, entries(0..3, 100)).unwrap();
        faults.tear_next_write_at(torn_at);
        append(&log, 1, entries(3..6, 100)).unwrap_err();
        refuses_everything(&log, "Input/output error");
        drop(log);
        let log = RaftLog::open(tmp.path(), small()).unwrap();
        let whole = 3 + torn_at as u64 / 125;
        assert_eq!(all(&log, 1), entries(0..whole, 100), "torn at {torn_at}");
        append(&log, 1, entries(whole..9, 100)).unwrap();
    }
}

#[test]
fn a_full_disk_loses_nothing_acknowledged() {
    let tmp = tempfile::tempdir().unwrap();
    let (log, faults) = failing(tmp.path());
    faults.fill_disk();
    let mut acknowledged = 0;
    while append(&log, 1, entries(acknowledged..acknowledged + 1, 500)).is_ok() {
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 7, "as many as the first segment holds");
    refuses_everything(&log, "No space left");
    drop(log);
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1), entries(0..acknowledged, 500));
    append(&log, 1, entries(acknowledged..20, 500)).unwrap();
}
