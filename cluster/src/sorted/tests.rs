use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

impl<K: Clone + Ord, V: Clone> SortedMap<K, V> {
    /// What must hold between any two calls.
    fn check(&self) {
        assert_eq!(self.len, self.chunks.iter().map(|chunk| chunk.items.len()).sum::<usize>());
        for (number, chunk) in self.chunks.iter().enumerate() {
            assert!(!chunk.items.is_empty() && chunk.items.len() <= CHUNK);
            assert!(chunk.items.is_sorted_by(|a, b| a.0 < b.0));
            assert!(chunk.from <= chunk.items[0].0);
            assert!(number == 0 || self.chunks[number - 1].items.iter().all(|(key, _)| *key < chunk.from));
        }
    }
}

#[test]
fn a_clone_keeps_what_the_original_changes() {
    let mut map: SortedMap<u64, u64> = SortedMap::default();
    for key in 0..1000 {
        map.insert(key, key);
    }
    let snapshot = map.clone();
    map.remove(&7);
    *map.get_mut(&8).unwrap() = 0;
    map.insert(2000, 2000);
    assert_eq!((snapshot.get(&7), snapshot.get(&8), snapshot.get(&2000)), (Some(&7), Some(&8), None));
    assert_eq!((map.get(&7), map.get(&8), map.get(&2000)), (None, Some(&0), Some(&2000)));
    assert_eq!((snapshot.len(), map.len()), (1000, 1000));
}

#[test]
fn rising_keys_fill_their_chunks_and_falling_ones_too() {
    let rising: SortedMap<u64, ()> = (0..6400).fold(SortedMap::default(), |mut map, key| {
        map.insert(key, ());
        map
    });
    let falling: SortedMap<u64, ()> = (0..6400).rev().fold(SortedMap::default(), |mut map, key| {
        map.insert(key, ());
        map
    });
    assert_eq!((rising.chunks.len(), falling.chunks.len()), (100, 100));
}

#[test]
fn a_few_keys_left_of_many_lie_in_few_chunks() {
    let mut map = SortedMap::default();
    for key in 0..100_000_u64 {
        map.insert(key, ());
    }
    for key in (0..100_000).filter(|key| key % 100 != 0) {
        map.remove(&key);
    }
    map.check();
    assert_eq!(map.len(), 1000);
    assert!(map.chunks.len() <= 60, "{} chunks", map.chunks.len());
    assert!(map.chunks.capacity() <= 4 * map.chunks.len(), "room for {} chunks", map.chunks.capacity());
}

#[test]
fn an_empty_map_holds_no_memory() {
    let mut map = SortedMap::default();
    for key in 0..10_000_u64 {
        map.insert(key, ());
    }
    for key in 0..10_000_u64 {
        map.remove(&key);
    }
    assert!(map.is_empty());
    assert_eq!(map.chunks.capacity(), 0);
}

#[test]
fn keys_can_be_looked_up_by_what_they_borrow_as() {
    let mut map: SortedMap<Arc<str>, u32> = SortedMap::default();
    map.insert("b".into(), 2);
    map.insert("a".into(), 1);
    assert_eq!((map.get("a"), map.get("c")), (Some(&1), None));
    assert_eq!(map.range_from::<str>(Bound::Excluded("a")).map(|(key, _)| &**key).collect::<Vec<_>>(), ["b"]);
    assert_eq!(map.remove("b"), Some(2));
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u16),
    Remove(u16),
    RemoveRange(u16, u16),
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || prop_oneof![0..600_u16, 0..40_u16];
    prop_oneof![
        10 => key().prop_map(Step::Insert),
        6 => key().prop_map(Step::Remove),
        1 => (key(), 0..200_u16).prop_map(|(from, len)| Step::RemoveRange(from, len)),
        1 => Just(Step::Snapshot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_a_map_in_key_order(steps in vec(step(), 1..600), probe in 0..600_u16) {
        let mut map = SortedMap::default();
        let mut model = BTreeMap::new();
        let mut kept = (map.clone(), model.clone());
        for (value, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(key) => assert_eq!(map.insert(key, value), model.insert(key, value)),
                Step::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
                Step::RemoveRange(from, len) => {
                    for key in from..from + len {
                        assert_eq!(map.remove(&key), model.remove(&key));
                    }
                }
                Step::Snapshot => kept = (map.clone(), model.clone()),
            }
            map.check();
        }
        for (map, model) in [(map, model), kept] {
            assert!(map.iter().eq(model.iter()));
            assert_eq!(map.first(), model.first_key_value());
            assert_eq!(map.get(&probe), model.get(&probe));
            for start in [Bound::Included(&probe), Bound::Excluded(&probe), Bound::Unbounded] {
                assert!(map.range_from(start).eq(model.range((start, Bound::Unbounded))));
            }
        }
    }
}
