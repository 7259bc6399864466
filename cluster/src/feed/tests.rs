use rollcall_storage::EventLogOptions;
use tempfile::TempDir;

use super::*;

fn open(dir: &TempDir, memory: usize, retention: u64) -> EventFeed {
    let log = EventLog::open(dir.path(), EventLogOptions { segment_size: 4 << 10 }).unwrap();
    EventFeed::new(log, memory, retention)
}

fn event(seq: u64) -> Event {
    Event { seq, client_id: format!("client-{seq}"), ..Event::default() }
}

fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<Event> {
    seqs.map(event).collect()
}

fn raw(seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, Bytes)> {
    seqs.map(|seq| (seq, event(seq).encode_to_vec().into())).collect()
}

fn read(feed: &EventFeed, after: u64, limit: usize) -> Vec<u64> {
    let records = feed.read(after, limit).unwrap();
    assert!(records.iter().all(|record| record.event == event(record.event.seq)), "each is what it was");
    records.iter().map(|record| record.event.seq).collect()
}

fn seqs(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn memory_and_disk_tell_the_same() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (much, none) = (open(&here, 1000, 1000), open(&there, 0, 1000));
    for first in (1..=100).step_by(7) {
        much.append(events(first..=first + 6)).unwrap();
        none.append(events(first..=first + 6)).unwrap();
    }
    for after in [0, 1, 50, 104, 105, 106, u64::MAX] {
        for limit in [0, 1, 10, 1000] {
            assert_eq!(read(&much, after, limit), read(&none, after, limit), "after {after}, at most {limit}");
        }
    }
    assert_eq!(read(&none, 50, 3), [51, 52, 53]);
}

#[test]
fn who_is_behind_the_memory_reads_on_from_disk_without_a_gap() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 10, 1000);
    feed.append(events(1..=100)).unwrap();
    assert_eq!(read(&feed, 0, 1000), seqs(1..=100));
    assert_eq!(read(&feed, 89, 1000), seqs(90..=100), "one older than the memory goes");
    assert_eq!(read(&feed, 90, 1000), seqs(91..=100));
}

#[test]
fn a_replay_of_the_log_adds_nothing() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 10, 1000);
    feed.append(events(1..=20)).unwrap();
    let heard = feed.watch();
    feed.append(events(1..=20)).unwrap();
    assert!(!heard.has_changed().unwrap());
    feed.append(events(15..=25)).unwrap();
    assert_eq!((feed.last(), read(&feed, 18, 100)), (25, seqs(19..=25)));
    drop(feed);
    let feed = open(&dir, 10, 1000);
    feed.append(events(1..=27)).unwrap();
    assert_eq!(read(&feed, 0, 100), seqs(1..=27));
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 10, 1000);
    feed.append(events(1..=3)).unwrap();
    assert!(feed.append(events(5..=6)).is_err());
    assert_eq!((feed.last(), read(&feed, 0, 100)), (3, seqs(1..=3)));
}

#[test]
fn records_of_another_node_go_on_where_ours_end() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 100, 1000);
    feed.append(events(1..=10)).unwrap();
    feed.adopt(&raw(8..=20)).unwrap();
    assert_eq!((feed.last(), read(&feed, 0, 100)), (20, seqs(1..=20)));
    feed.append(events(15..=22)).unwrap();
    assert_eq!(read(&feed, 9, 100), seqs(10..=22));
    assert_eq!(read(&feed, 20, 100), [21, 22], "from memory again");
}

#[test]
fn records_behind_a_gap_replace_what_was_here() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 100, 1000);
    feed.append(events(1..=10)).unwrap();
    feed.adopt(&raw(50..=60)).unwrap();
    assert_eq!((feed.first(), feed.last()), (50, 60));
    assert_eq!(read(&feed, 0, 100), seqs(50..=60), "nothing of before, and no gap");
    feed.append(events(61..=62)).unwrap();
    assert_eq!(read(&feed, 10, 100), seqs(50..=62));
    feed.sync().unwrap();
    drop(feed);
    assert_eq!(read(&open(&dir, 100, 1000), 0, 100), seqs(50..=62));
}

#[test]
fn nothing_adopted_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 100, 1000);
    feed.append(events(1..=3)).unwrap();
    feed.adopt(&[]).unwrap();
    assert_eq!(read(&feed, 0, 100), [1, 2, 3]);
}

#[test]
fn what_comes_from_the_log_and_from_another_node_at_once_has_no_gap_in_memory() {
    for _ in 0..20 {
        let dir = TempDir::new().unwrap();
        let feed = open(&dir, 10_000, 10_000);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=300).for_each(|seq| feed.append(events(seq..=seq)).unwrap()));
            scope.spawn(|| {
                for _ in 0..10 {
                    let from = feed.last() + 1;
                    feed.adopt(&raw(from..=from + 30)).unwrap();
                }
            });
        });
        let last = feed.last();
        feed.append(events(last + 1..=last + 5)).unwrap();
        assert_eq!(read(&feed, 0, 10_000), seqs(1..=last + 5));
        assert_eq!(read(&feed, last, 10_000), seqs(last + 1..=last + 5));
    }
}

#[test]
fn the_oldest_go_and_the_retained_stay() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 10, 200);
    for seq in 1..=5_000 {
        feed.append(vec![event(seq)]).unwrap();
    }
    assert_eq!(feed.first(), 4_801);
    assert_eq!(read(&feed, 4_800, 1_000), seqs(4_801..=5_000));
    let oldest = read(&feed, 0, 1)[0];
    assert!((4_500..=4_801).contains(&oldest), "whole files go, but from {oldest} on there are still some");
    assert_eq!(read(&feed, 0, 1_000), seqs(oldest..=5_000), "whoever asks for more than there is meets no gap");
}

#[test]
fn an_event_is_rendered_once_for_all_its_readers() {
    let dir = TempDir::new().unwrap();
    let feed = open(&dir, 10, 1000);
    feed.append(events(1..=1)).unwrap();
    let first = feed.read(0, 1).unwrap().remove(0);
    assert_eq!(first.rendered(|event| event.client_id.clone().into()), "client-1");
    let second = feed.read(0, 1).unwrap().remove(0);
    assert_eq!(second.rendered(|_| panic!("rendered again")), "client-1");
}
