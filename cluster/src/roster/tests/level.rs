use rollcall_proto::schema::roster::{Conflict, Done, RaiseLevel};

use super::*;
use crate::roster::level::{FIRST, LEVEL};

fn raise(bench: &mut Bench, level: u32) -> outcome::Kind {
    bench.run(A, command::Kind::RaiseLevel(RaiseLevel { level })).0
}

#[test]
fn the_level_rises_one_by_one_and_is_kept_by_snapshots() {
    let mut bench = Bench::new();
    assert_eq!(bench.roster.level(), FIRST);
    for level in FIRST + 1..=LEVEL {
        assert_eq!(raise(&mut bench, level), outcome::Kind::Done(Done {}));
        assert_eq!((bench.roster.level(), restored(&bench.roster).level()), (level, level));
    }
}

#[test]
fn a_level_that_is_not_the_next_one_is_answered_as_by_versions_that_know_none() {
    let mut bench = Bench::new();
    let batch = Batch { commands: vec![Command { kind: None }], ..bench.next(A, []) };
    let of_old_versions = bench.apply(&batch).outcomes[0].kind.clone().unwrap();
    assert!(matches!(&of_old_versions, outcome::Kind::Conflict(Conflict { .. })));
    for level in [0, FIRST, FIRST + 2] {
        assert_eq!(raise(&mut bench, level), of_old_versions);
        assert_eq!(bench.roster.level(), FIRST);
    }
}
