use std::io;

use super::check::{bytes, reread};
use super::*;
use crate::records::SnapshotError;

/// Something of everything.
fn busy() -> Bench {
    let mut bench = Bench::with(&["x", "y", "p", "full"]);
    bench.run(command::Kind::Open(Open { limits: Some(at_most(1, 0, Overflow::EndSession)), ..opening("full", 1, 2) }));
    bench.enqueue(&["x", "y"], "a");
    bench.enqueue_for(50, &["x", "full"], "b");
    bench.enqueue(&["full"], "c");
    bench.acknowledge("x", &[], &[1], 1);
    bench.run(command::Kind::Receive(receiving("p", 3, "d", &[(HERE, &["x"]), (2, &["z"])])));
    bench.run(command::Kind::Retain(Retain { expires_in: Some(9), ..retain("t/1", "e") }));
    bench.run(command::Kind::Retain(Retain { origin: Some(origin("q", 4, 4)), ..retain("t/2", "f") }));
    let events = Acknowledge { events: Some(0), ..acknowledging("y", 1, 1) };
    bench.run(command::Kind::Acknowledge(events));
    bench
}

#[test]
fn a_snapshot_carries_everything() {
    let bench = busy();
    let copy = reread(&bench.shard);
    assert_eq!(bytes(&copy), bytes(&bench.shard));
    assert_eq!((copy.number(), copy.time()), (HERE, bench.now));
    assert_eq!(copy.inbox("y").unwrap().events(), Some(0));
    assert_eq!(copy.last_outcomes(1), bench.shard.last_outcomes(1));
    assert_eq!(copy.expired_topics(u64::MAX, 9), ["t/1"]);
}

#[test]
fn where_the_messages_lie_makes_no_difference() {
    let mut bench = busy();
    let before = bytes(&bench.shard);
    let (mut outline, mut after, mut outline_after) = (Vec::new(), Vec::new(), Vec::new());
    bench.shard.write_outline_to(&mut outline).unwrap();
    let disk = bench.shard.to_spill(20);
    bench.shard.spilled(&disk.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    let fetch = |id| Ok(disk.iter().find(|(known, _)| *known == id).unwrap().1.clone());
    bench.shard.write_to(&mut after, &fetch).unwrap();
    bench.shard.write_outline_to(&mut outline_after).unwrap();
    assert!(before == after && outline == outline_after);
}

#[test]
fn a_message_that_cannot_be_fetched_fails_the_snapshot() {
    let mut bench = busy();
    bench.shard.spilled(&[1, 2, 3, 4]);
    let result = bench.shard.write_to(&mut Vec::new(), &|_| Err(io::ErrorKind::NotFound.into()));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_long_queue_is_written_in_parts() {
    let mut bench = Bench::with(&["x", "y"]);
    let kinds = |from: u32, to: u32| {
        (from..to).map(|number| command::Kind::Enqueue(enqueue(&["x"], &number.to_string()))).collect::<Vec<_>>()
    };
    bench.shard.apply(bench.now, &batch(2, 1, 1, kinds(0, 140_000)));
    bench.acknowledge("x", &[1, 70_000], &[2], 3);
    let copy = reread(&bench.shard);
    assert_eq!(copy.inbox("x").unwrap().len(), 139_998);
    assert_eq!(copy.read("x", 1, 139_999, 9)[0].position, 140_000);
    assert!(bytes(&copy) == bytes(&bench.shard));
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "held");
    let whole = bytes(&bench.shard);
    let inbox = whole.iter().rposition(|byte| *byte == b'x').unwrap();
    assert!(matches!(Shard::read_from(&mut &whole[..inbox]), Err(SnapshotError::Io(_))), "cut short");
    // The body's id within its record: the record begins with the tag of the id.
    let body = whole.windows(4).position(|bytes| bytes == b"held").unwrap();
    let id = whole[..body].windows(2).rposition(|bytes| bytes == [0x08, 1]).unwrap() + 1;
    let mut other = whole.clone();
    other[id] = 2;
    assert!(matches!(Shard::read_from(&mut other.as_slice()), Err(SnapshotError::Contradiction(_))));
}
