//! Lines of text are filters, the last one a topic: the trie must find exactly the filters that match.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use rollcall_proto::topic::{Filter, matches, validate_name};
use rollcall_proto::trie::Trie;

fuzz_target!(|text: &str| {
    let Some((filters, topic)) = text.rsplit_once('\n') else { return };
    if validate_name(topic).is_err() {
        return;
    }
    let filters: BTreeSet<&str> =
        filters.lines().filter_map(|line| Filter::parse(line).ok()).map(|filter| filter.filter).collect();
    let mut trie = Trie::new();
    for &filter in &filters {
        trie.get_or_insert_with(filter, || filter);
    }
    let mut found = BTreeSet::new();
    trie.for_each_match(topic, |&filter| assert!(found.insert(filter), "a filter is found once"));
    let expected: BTreeSet<&str> = filters.iter().copied().filter(|filter| matches(filter, topic)).collect();
    assert_eq!(found, expected);
    for filter in filters {
        assert_eq!(trie.remove(filter), Some(filter));
    }
    assert!(trie.is_empty());
});
