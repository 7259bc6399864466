//! Spilled bodies as their owners see them, over drained queues, moves and every kind of damage.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// Moves already what a test can write in a moment, and keeps next to nothing in memory.
fn small() -> BodiesOptions {
    BodiesOptions { cache_bytes: 1 << 20, compact_above: 64 << 10 }
}

fn open(dir: &Path) -> Bodies {
    Bodies::open(dir, small()).unwrap()
}

/// `size` bytes that differ from id to id.
fn body(id: u64, size: usize) -> Bytes {
    (0..size).map(|at| (id.wrapping_mul(31) as usize + at * 7) as u8).collect()
}

fn records(ids: Range<u64>, size: usize) -> Vec<(u64, Bytes)> {
    ids.map(|id| (id, body(id, size))).collect()
}

fn assert_missing(bodies: &Bodies, group: u32, id: u64) {
    let error = bodies.get(group, id).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}

fn assert_all(bodies: &Bodies, group: u32, ids: Range<u64>, size: usize) {
    for id in ids {
        assert_eq!(bodies.get(group, id).unwrap(), body(id, size), "{id}");
    }
}

fn live(bodies: &Bodies) -> (u64, u64) {
    let stats = bodies.stats();
    (stats.live_records, stats.live_bytes)
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Files of `dir` that are deleted but still open, so that the disk has not got them back.
fn deleted_but_open(dir: &Path) -> Vec<PathBuf> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = open.filter_map(|item| fs::read_link(item.path()).ok());
    targets.filter(|path| path.starts_with(dir) && path.to_string_lossy().ends_with("(deleted)")).collect()
}

/// Each body is what was put, or an error that is not its absence.
fn assert_right_or_refused(bodies: &Bodies, group: u32, ids: Range<u64>, size: usize) -> usize {
    let mut refused = 0;
    for id in ids {
        match bodies.get(group, id) {
            Ok(found) => assert_eq!(found, body(id, size), "{id}"),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::NotFound, "{error}");
                refused += 1;
            }
        }
    }
    refused
}

/// However it went before: once the owners have given all up, spilling works again.
fn assert_recovers(bodies: &Bodies) {
    (0..4).for_each(|group| bodies.forget_group(group));
    bodies.keeper.settle();
    assert_eq!(live(bodies), (0, 0));
    // The first put may still meet what is broken.
    let _ = bodies.put(1, &records(0..10, 100));
    bodies.put(1, &records(0..100, 100)).unwrap();
    assert_all(bodies, 1, 0..100, 100);
}

#[test]
fn bodies_of_all_sizes_come_back_until_they_are_given_up() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    let mut expected = BTreeMap::new();
    for (id, size) in [0, 1, 100, 4_000, 70_000, 300_000, 2_000_000, 5_000_000].into_iter().enumerate() {
        expected.insert(id as u64, body(id as u64, size));
    }
    let all: Vec<(u64, Bytes)> = expected.clone().into_iter().collect();
    bodies.put(3, &all).unwrap();
    for (&id, body) in &expected {
        assert_eq!(&bodies.get(3, id).unwrap(), body);
    }
    assert_eq!(live(&bodies), (8, 7_374_101));
    bodies.remove(3, [2, 4, 99]);
    bodies.remove(4, [3]);
    for id in [2, 4, 99] {
        assert_missing(&bodies, 3, id);
    }
    assert_eq!(bodies.get(3, 3).unwrap(), expected[&3]);
    assert_eq!(live(&bodies), (6, 7_304_001));
}

#[test]
fn groups_are_kept_apart() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    for group in [0, 1, u32::MAX] {
        bodies.put(group, &records(0..50, 10 + (group % 7) as usize)).unwrap();
    }
    bodies.put(1, &records(u64::MAX..u64::MAX, 10)).unwrap();
    bodies.remove(0, 10..20);
    bodies.forget_group(u32::MAX);
    assert_missing(&bodies, 0, 15);
    assert_all(&bodies, 0, 20..50, 10);
    assert_all(&bodies, 1, 0..50, 11);
    assert_missing(&bodies, u32::MAX, 15);
    assert_eq!(live(&bodies), (90, 40 * 10 + 50 * 11));
}

#[test]
fn a_body_that_is_put_again_is_replaced() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    bodies.put(1, &records(0..10, 100)).unwrap();
    bodies.put(1, &records(5..15, 50)).unwrap();
    assert_all(&bodies, 1, 0..5, 100);
    assert_all(&bodies, 1, 5..15, 50);
    assert_eq!(live(&bodies), (15, 5 * 100 + 10 * 50));
}

#[test]
fn the_disk_is_given_back_when_nothing_lives() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    for round in 0..20 {
        bodies.put(1, &records(round * 500..round * 500 + 500, 1000)).unwrap();
        assert!(bodies.stats().disk_bytes > 0 || !files(tmp.path()).is_empty());
        bodies.remove(1, round * 500..round * 500 + 500);
        bodies.keeper.settle();
        assert_eq!(bodies.stats(), BodiesStats::default());
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    }
    // sled's threads let go of the last one a moment after they have been told to.
    let started = Instant::now();
    while !deleted_but_open(tmp.path()).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", deleted_but_open(tmp.path()));
        std::thread::yield_now();
    }
}

#[test]
fn the_disk_is_given_back_when_a_small_part_lives() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    for from in (0..20_000).step_by(500) {
        bodies.put(from as u32 % 3, &records(from..from + 500, 1000)).unwrap();
    }
    let full = bodies.stats().disk_bytes;
    for group in 0..3 {
        bodies.remove(group, (0..20_000).filter(|id| id % 100 != 0));
    }
    bodies.keeper.settle();
    assert_eq!(live(&bodies), (200, 200_000));
    let left = bodies.stats().disk_bytes;
    assert!(full > 15 << 20 && left < full / 8, "{full} bytes on disk became {left}");
    for from in (0..20_000).step_by(500) {
        let group = from as u32 % 3;
        for id in (from..from + 500).step_by(100) {
            assert_eq!(bodies.get(group, id).unwrap(), body(id, 1000));
        }
        assert_missing(&bodies, group, from + 1);
    }
}

#[test]
fn a_long_queue_that_flows_takes_a_bounded_part_of_the_disk() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    let mut most = 0;
    for from in (0..100_000).step_by(500) {
        bodies.put(1, &records(from..from + 500, 400)).unwrap();
        bodies.remove(1, from.saturating_sub(5_000)..from.saturating_sub(4_500));
        if from % 10_000 == 0 {
            // On a busy machine the thread would be behind.
            bodies.keeper.settle();
            most = most.max(bodies.stats().disk_bytes);
        }
    }
    // 40 MB went through, 2 MB are live.
    assert!(most < 24 << 20, "{most} bytes on disk");
    bodies.keeper.settle();
    assert_all(&bodies, 1, 95_500..100_000, 400);
}

#[test]
fn what_an_earlier_run_left_is_discarded() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a/bodies");
    let bodies = open(&dir);
    bodies.put(1, &records(0..1000, 100)).unwrap();
    // As if the process had been killed: nothing is tidied up.
    let left = tmp.path().join("left");
    fs::create_dir(&left).unwrap();
    for (number, path) in files(&dir).into_iter().enumerate() {
        fs::copy(&path, left.join(number.to_string())).unwrap();
    }
    fs::write(left.join("db"), b"damaged").unwrap();
    drop(bodies);
    assert_eq!(files(&dir), [] as [PathBuf; 0]);
    fs::rename(&left, dir.join("00000000")).unwrap();
    fs::write(dir.join("stray"), b"").unwrap();
    let bodies = open(&dir);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert_missing(&bodies, 1, 0);
    bodies.put(1, &records(0..10, 100)).unwrap();
    assert_all(&bodies, 1, 0..10, 100);
}

#[test]
fn a_missing_directory_and_a_file_in_its_place_are_made_good() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("bodies");
    drop(open(&dir));
    fs::remove_dir(&dir).unwrap();
    drop(open(&dir));
    fs::remove_dir(&dir).unwrap();
    fs::write(&dir, b"no directory").unwrap();
    let bodies = open(&dir);
    bodies.put(1, &records(0..10, 100)).unwrap();
    assert_all(&bodies, 1, 0..10, 100);
}

#[test]
fn a_directory_that_cannot_be_made_is_refused_with_its_path() {
    let tmp = tempfile::tempdir().unwrap();
    fs::write(tmp.path().join("file"), b"").unwrap();
    let error = Bodies::open(&tmp.path().join("file/bodies"), small()).unwrap_err().to_string();
    assert!(error.contains("file/bodies") && error.contains("check that the disk"), "{error}");
}

#[test]
fn a_directory_deleted_while_it_is_used_gives_errors_and_then_a_new_one() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("bodies");
    let bodies = open(&dir);
    bodies.put(1, &records(0..2000, 1000)).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert_right_or_refused(&bodies, 1, 0..2000, 1000);
    // Large enough for a file of its own, for which there is no directory.
    let _ = bodies.put(1, &records(2000..2002, 300_000));
    assert_right_or_refused(&bodies, 1, 0..2000, 1000);
    assert_recovers(&bodies);
}

#[test]
fn a_file_in_the_directorys_place_is_an_error_until_it_is_gone() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("bodies");
    let bodies = open(&dir);
    fs::remove_dir(&dir).unwrap();
    fs::write(&dir, b"").unwrap();
    bodies.put(1, &records(0..10, 100)).unwrap_err();
    assert_missing(&bodies, 1, 0);
    fs::remove_file(&dir).unwrap();
    bodies.put(1, &records(0..10, 100)).unwrap();
    assert_all(&bodies, 1, 0..10, 100);
}

#[test]
fn a_truncated_or_overwritten_file_never_gives_a_wrong_body() {
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    let mut refused = 0;
    for damage in 0..6 {
        bodies.put(1, &records(0..3000, 1000)).unwrap();
        bodies.put(2, &records(0..4, 700_000)).unwrap();
        for path in files(tmp.path()) {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let len = file.metadata().unwrap().len();
            let middle = vec![0xa5; (len / 4) as usize];
            match damage {
                0 => file.set_len(0).unwrap(),
                1 => file.set_len(len / 2).unwrap(),
                2 => file.set_len(len.saturating_sub(1)).unwrap(),
                3 => std::os::unix::fs::FileExt::write_all_at(&file, &middle, len / 3).unwrap(),
                4 => std::os::unix::fs::FileExt::write_all_at(&file, &middle, 0).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        refused += assert_right_or_refused(&bodies, 1, 0..3000, 1000);
        refused += assert_right_or_refused(&bodies, 2, 0..4, 700_000);
        let _ = bodies.put(3, &records(0..3000, 1000));
        assert_right_or_refused(&bodies, 1, 0..3000, 1000);
        assert_recovers(&bodies);
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn what_is_read_while_others_put_remove_and_move_is_right() {
    const LAST: u64 = 20_000;
    let tmp = tempfile::tempdir().unwrap();
    let bodies = open(tmp.path());
    // These stay while everything around them is moved.
    bodies.put(9, &records(0..100, 200)).unwrap();
    std::thread::scope(|scope| {
        for group in 0..2 {
            let bodies = &bodies;
            scope.spawn(move || {
                for from in (0..LAST).step_by(100) {
                    bodies.put(group, &records(from..from + 100, 300)).unwrap();
                    assert_eq!(bodies.get(group, from).unwrap(), body(from, 300));
                    bodies.remove(group, from.saturating_sub(200)..from.saturating_sub(100));
                }
            });
        }
        scope.spawn(|| (0..30).for_each(|_| assert_all(&bodies, 9, 0..100, 200)));
    });
    bodies.keeper.settle();
    for group in 0..2 {
        assert_all(&bodies, group, LAST - 200..LAST, 300);
    }
    assert_all(&bodies, 9, 0..100, 200);
    assert_eq!(live(&bodies), (500, 4 * 100 * 300 + 100 * 200));
}

#[derive(Clone, Debug)]
enum Step {
    Put { group: u32, from: u64, count: u64, size: usize },
    Remove { group: u32, from: u64, count: u64 },
    Forget(u32),
    Settle,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (group, from, count) = (0u32..3, 0u64..60, 0u64..40);
    prop_oneof![
        5 => (group.clone(), from.clone(), count.clone(), 0usize..3000)
            .prop_map(|(group, from, count, size)| Step::Put { group, from, count, size }),
        4 => (group.clone(), from, count).prop_map(|(group, from, count)| Step::Remove { group, from, count }),
        1 => group.prop_map(Step::Forget),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_sequence_of_operations_equals_the_model(steps in prop::collection::vec(step(), 1..50)) {
        let tmp = tempfile::tempdir().unwrap();
        let mut bodies = open(tmp.path());
        let mut model: BTreeMap<(u32, u64), Bytes> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put { group, from, count, size } => {
                    let batch = records(from..from + count, size);
                    bodies.put(group, &batch).unwrap();
                    model.extend(batch.into_iter().map(|(id, body)| ((group, id), body)));
                }
                Step::Remove { group, from, count } => {
                    bodies.remove(group, from..from + count);
                    model.retain(|name, _| name.0 != group || !(from..from + count).contains(&name.1));
                }
                Step::Forget(group) => {
                    bodies.forget_group(group);
                    model.retain(|name, _| name.0 != group);
                }
                Step::Settle => bodies.keeper.settle(),
                Step::Reopen => {
                    drop(bodies);
                    bodies = open(tmp.path());
                    model.clear();
                }
            }
            for group in 0..3 {
                for id in 0..100 {
                    let found = bodies.get(group, id).ok();
                    prop_assert_eq!(found.as_ref(), model.get(&(group, id)), "body {} of group {}", id, group);
                }
            }
            let sum = model.values().map(|body| body.len() as u64).sum();
            prop_assert_eq!(live(&bodies), (model.len() as u64, sum));
        }
    }
}
