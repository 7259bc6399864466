use proptest::prelude::*;

use super::*;

const SECTOR: usize = 512;

/// A log with three acknowledged appends of one entry each; returns the offsets of their records.
fn three(dir: &Path) -> (PathBuf, Vec<usize>) {
    let log = RaftLog::open(dir, small()).unwrap();
    for index in 0..3 {
        append(&log, 1, entries(index..index + 1, 60)).unwrap();
    }
    drop(log);
    let path = segments(dir).remove(0);
    let offsets = offsets(&path);
    (path, offsets)
}

#[test]
fn a_torn_tail_is_cut_cleanly_at_every_byte() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, offsets) = three(tmp.path());
    let good = fs::read(&path).unwrap();
    for cut in offsets[2]..offsets[3] {
        for zeros in [true, false] {
            let mut torn = good[..cut].to_vec();
            if zeros {
                torn.resize(good.len(), 0);
            }
            fs::write(&path, &torn).unwrap();
            let log = RaftLog::open(tmp.path(), small()).unwrap();
            assert_eq!(all(&log, 1), entries(0..2, 60), "cut at {cut}");
            drop(log);
            let bytes = fs::read(&path).unwrap();
            assert!(
                bytes[offsets[2]..].iter().all(|&byte| byte == 0),
                "cut at {cut}: something of the torn write stayed"
            );
            assert_eq!(bytes.len(), 4096);
        }
    }
}

#[test]
fn a_flipped_bit_before_the_last_write_is_refused_with_file_and_offset() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, offsets) = three(tmp.path());
    let good = fs::read(&path).unwrap();
    for bit in offsets[0] * 8..offsets[2] * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        let record = if bit / 8 < offsets[1] { offsets[0] } else { offsets[1] };
        match RaftLog::open(tmp.path(), small()).err() {
            Some(LogError::Corrupt { path: named, offset }) => assert_eq!((&named, offset), (&path, record as u64)),
            other => panic!("bit {bit}: {other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bad, "a refused file was changed");
    }
}

#[test]
fn a_flipped_bit_in_a_segments_header_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, _) = three(tmp.path());
    let good = fs::read(&path).unwrap();
    for bit in 0..SEGMENT_HEADER * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        assert!(RaftLog::open(tmp.path(), small()).is_err(), "bit {bit}");
    }
}

#[test]
fn damage_in_any_but_the_last_segment_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(0..20, 500)).unwrap();
    drop(log);
    let path = segments(tmp.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let last = offsets(&path)[6];
    for bad in [good[..good.len() - 1].to_vec(), good[..last].to_vec()] {
        fs::write(&path, &bad).unwrap();
        let error = RaftLog::open(tmp.path(), small()).err().unwrap();
        assert!(matches!(&error, LogError::Corrupt { offset, .. } if *offset == last as u64), "{error}");
    }
}

#[test]
fn a_write_that_lost_its_middle_is_cut_although_its_end_is_there() {
    let tmp = tempfile::tempdir().unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(0..2, 60)).unwrap();
    append(&log, 1, entries(2..8, 60)).unwrap();
    drop(log);
    let path = segments(tmp.path()).remove(0);
    let offsets = offsets(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[offsets[3]..offsets[4]].fill(0);
    fs::write(&path, &bytes).unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1), entries(0..3, 60));
}

#[test]
fn bytes_of_an_older_life_are_no_records() {
    let tmp = tempfile::tempdir().unwrap();
    let (path, offsets) = three(tmp.path());
    let stale = fs::read(&path).unwrap()[offsets[1]..offsets[3]].to_vec();
    fs::remove_file(&path).unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    append(&log, 1, entries(0..1, 60)).unwrap();
    drop(log);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &stale, offsets[1] as u64).unwrap();
    let log = RaftLog::open(tmp.path(), small()).unwrap();
    assert_eq!(all(&log, 1), entries(0..1, 60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A power cut while one write is under way: of its sectors any may have reached the disk, in any order, and the
    /// last byte may be anywhere.
    #[test]
    fn a_power_cut_loses_nothing_acknowledged(
        acknowledged in prop::collection::vec((0u32..3, 1u64..6, 0usize..300), 0..20),
        under_way in (1u64..12, 0usize..400),
        sectors in prop::collection::vec(any::<bool>(), 16),
        cut in prop::option::of(0usize..5000),
    ) {
        let (tmp, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut next = [0u64; 3];
        let mut expected: [Vec<(u64, Bytes)>; 3] = Default::default();
        let log = RaftLog::open(tmp.path(), small()).unwrap();
        for (group, count, size) in acknowledged {
            let at = &mut next[group as usize];
            let batch = entries(*at..*at + count, size);
            *at += count;
            append(&log, group, batch.clone()).unwrap();
            expected[group as usize].extend(batch);
        }
        drop(log);
        copy_dir(tmp.path(), crashed.path());
        let before = segments(crashed.path()).pop().unwrap();
        let end = *offsets(&before).last().unwrap();

        let log = RaftLog::open(tmp.path(), small()).unwrap();
        let unacknowledged = entries(next[0]..next[0] + under_way.0, under_way.1);
        append(&log, 0, unacknowledged.clone()).unwrap();
        drop(log);

        let after = fs::read(tmp.path().join(before.file_name().unwrap())).unwrap();
        let mut bytes = fs::read(&before).unwrap();
        for (at, byte) in bytes.iter_mut().enumerate().skip(end) {
            if sectors[(at / SECTOR) % sectors.len()] {
                *byte = after.get(at).copied().unwrap_or(0);
            }
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| end + cut));
        fs::write(&before, &bytes).unwrap();

        let log = RaftLog::open(crashed.path(), small()).unwrap();
        let survived = all(&log, 0).len() - expected[0].len();
        expected[0].extend_from_slice(&unacknowledged[..survived]);
        for group in 0..3 {
            prop_assert_eq!(&all(&log, group), &expected[group as usize]);
        }
        // What was cut must not come back behind what is written next.
        let at = expected[0].len() as u64;
        append(&log, 0, entries(at..at + 1, 1)).unwrap();
        expected[0].push((at, payload(at, 1)));
        drop(log);
        let log = RaftLog::open(crashed.path(), small()).unwrap();
        for group in 0..3 {
            prop_assert_eq!(&all(&log, group), &expected[group as usize]);
        }
    }
}
