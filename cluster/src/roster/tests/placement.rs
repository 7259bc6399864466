use rollcall_proto::schema::roster::{Done, Place, Placement};

use super::*;
use crate::roster::{SLOTS, slot_of};

/// Nodes A, B and C in a cluster of that many shards.
fn founded(shards: u32) -> Bench {
    let mut bench = Bench { now: 1, ..Bench::default() };
    let found = Found { cluster_id: 9, shards, replicas: 3, ..Found::default() };
    let effects = bench.apply(&batch(A, 0, 1, [command::Kind::Found(found)]));
    assert_eq!(effects.placed, shards > 0);
    for node in [A, B, C] {
        bench.up(node, 77);
    }
    bench
}

fn placement(shard: u32, members: &[NodeId]) -> Placement {
    Placement { shard, members: members.to_vec(), formed: false }
}

fn place(placements: &[Placement]) -> command::Kind {
    command::Kind::Place(Place { placements: placements.to_vec() })
}

#[test]
fn shards_and_replicas_are_founded_once() {
    let mut bench = founded(4);
    let later = Found { cluster_id: 8, shards: 7, replicas: 5, ..Found::default() };
    assert!(!bench.run(A, command::Kind::Found(later)).1.placed);
    assert_eq!((bench.roster.shard_count(), bench.roster.replicas()), (4, 3));
    assert_eq!(bench.roster.placements().iter().map(|p| p.shard).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(bench.roster.placements().iter().all(|placement| placement.members.is_empty()));
}

#[test]
fn a_place_replaces_the_members_of_the_shards_it_names() {
    let mut bench = founded(2);
    let (outcome, effects) = bench.run(A, place(&[placement(2, &[B, A])]));
    assert_eq!((outcome, effects.placed), (outcome::Kind::Done(Done {}), true));
    bench.run(A, place(&[placement(1, &[C])]));
    assert_eq!(bench.roster.placements(), [placement(1, &[C]), placement(2, &[B, A])]);
}

#[test]
fn a_shard_that_was_formed_stays_formed() {
    let mut bench = founded(1);
    bench.run(A, place(&[Placement { formed: true, ..placement(1, &[A, B]) }]));
    bench.run(A, place(&[placement(1, &[A, C])]));
    assert_eq!(bench.roster.placements(), [Placement { formed: true, ..placement(1, &[A, C]) }]);
}

#[test]
fn a_place_that_cannot_be_is_refused_whole() {
    let mut bench = founded(2);
    let wrong =
        [placement(0, &[A]), placement(3, &[A]), placement(2, &[]), placement(2, &[A, B, A]), placement(2, &[A, 99])];
    for wrong in wrong {
        let (outcome, effects) = bench.run(A, place(&[placement(1, &[A]), wrong.clone()]));
        assert!(matches!(outcome, outcome::Kind::Conflict(_)), "{wrong:?}: {outcome:?}");
        assert!(!effects.placed && bench.roster.placements()[0].members.is_empty());
    }
}

#[test]
fn a_keys_shard_is_the_same_everywhere_and_forever() {
    assert_eq!(["", "a", "device/7", "ä"].map(slot_of), [805, 3212, 3897, 1410]);
    let roster = founded(3).roster;
    assert_eq!(["", "a", "device/7", "ä"].map(|key| roster.shard_of(key)), [1, 3, 3, 2]);
    assert_eq!(founded(0).roster.shard_of("a"), 0);
}

#[test]
fn slots_fall_onto_shards_in_equal_runs() {
    for shards in [1, 2, 3, 16, 64, SLOTS] {
        let roster = founded(shards).roster;
        let mut slots = std::collections::BTreeMap::<u32, u32>::new();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..60_000 {
            let key = format!("client-{number}");
            if seen.insert(slot_of(&key)) {
                *slots.entry(roster.shard_of(&key)).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), SLOTS as usize, "every slot is met");
        assert_eq!((slots.len(), slots.keys().min(), slots.keys().max()), (shards as usize, Some(&1), Some(&shards)));
        let even = SLOTS / shards;
        assert!(slots.values().all(|count| (even..=even + 1).contains(count)), "{slots:?}");
    }
}

#[test]
fn a_snapshot_carries_the_placements() {
    let mut bench = founded(2);
    bench.run(A, place(&[Placement { formed: true, ..placement(2, &[B, A]) }]));
    let copy = restored(&bench.roster);
    assert_eq!(copy.placements(), bench.roster.placements());
    assert_eq!((copy.replicas(), copy.shard_count()), (3, 2));
}
