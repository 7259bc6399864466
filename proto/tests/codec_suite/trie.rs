//! The trie against the plain meaning of a filter.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rollcall_proto::topic::{MAX_TOPIC_LEN, matches, validate_filter, validate_name};
use rollcall_proto::trie::Trie;

/// Few levels and few words, so that much matches.
fn filter() -> impl Strategy<Value = String> {
    let level = select(vec!["a", "b", "", "+", "+", "$x", "aé"]);
    (vec(level, 1..6), any::<bool>()).prop_filter_map("valid", |(mut levels, hash)| {
        if hash {
            levels.pop();
            levels.push("#");
        }
        let filter = levels.join("/");
        validate_filter(&filter).is_ok().then_some(filter)
    })
}

fn topic() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "", "$x", "aé", "c"]), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("valid", |topic| validate_name(topic).is_ok())
}

#[derive(Debug, Clone)]
enum Step {
    Insert(String),
    Remove(String),
    Match(String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => filter().prop_map(Step::Insert),
        2 => filter().prop_map(Step::Remove),
        3 => topic().prop_map(Step::Match),
    ]
}

fn matched<T: Clone + Ord>(trie: &Trie<T>, topic: &str) -> Vec<T> {
    let mut found = Vec::new();
    trie.for_each_match(topic, |value| found.push(value.clone()));
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_trie_finds_what_each_filter_alone_would_match(steps in vec(step(), 1..80)) {
        let mut trie = Trie::new();
        let mut model = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(filter) => {
                    let known = *model.entry(filter.clone()).or_insert(number);
                    prop_assert_eq!(*trie.get_or_insert_with(&filter, || number), known);
                }
                Step::Remove(filter) => prop_assert_eq!(trie.remove(&filter), model.remove(&filter)),
                Step::Match(topic) => {
                    let mut expected: Vec<usize> =
                        model.iter().filter(|(filter, _)| matches(filter, &topic)).map(|(_, &n)| n).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(matched(&trie, &topic), expected);
                }
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        for (filter, number) in &model {
            prop_assert_eq!(trie.get(filter), Some(number));
            prop_assert_eq!(trie.get_mut(filter).copied(), Some(*number));
        }
        let filters: Vec<String> = model.into_keys().collect();
        for filter in filters {
            trie.remove(&filter);
        }
        prop_assert!(trie.is_empty());
    }
}

#[test]
fn the_longest_topics_overflow_no_stack() {
    let topic = "/".repeat(MAX_TOPIC_LEN);
    let plus = ["+"; MAX_TOPIC_LEN.div_ceil(2)].join("/");
    let hash = format!("{}#", "/".repeat(MAX_TOPIC_LEN - 1));
    let mut trie = Trie::new();
    for (number, filter) in [&topic, &plus, &hash].into_iter().enumerate() {
        validate_filter(filter).unwrap();
        trie.get_or_insert_with(filter, || number);
    }
    let run = move || {
        assert_eq!(matched(&trie, &topic), [0, 2]);
        assert_eq!(matched(&trie, &topic[..MAX_TOPIC_LEN / 2]), [1]);
        let copy = trie.clone();
        assert_eq!(trie.remove(&topic), Some(0));
        assert_eq!(matched(&trie, &topic), [2]);
        drop((trie, copy));
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn removed_filters_leave_no_nodes_behind() {
    let mut trie = Trie::new();
    for round in 0..3 {
        for device in 0..100 {
            trie.get_or_insert_with(&format!("site/+/device/{device}/#"), || round);
        }
        for device in 0..100 {
            assert_eq!(trie.remove(&format!("site/+/device/{device}/#")), Some(round));
        }
        assert!(trie.is_empty());
        assert_eq!(
            format!("{trie:?}").matches("Node").count(),
            104,
            "three levels, the root and 100 places to use again"
        );
    }
    assert_eq!(trie.remove("site/+"), None);
    assert_eq!(trie.get("#"), None);
}
