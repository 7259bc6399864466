//! Which of many sorted topics a filter is for, without looking at them all.

use std::cmp::Ordering;

/// What one topic says about where the matches are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This is one.
    Match,
    /// This is none; the next may be one.
    Pass,
    /// This is none, nor is any other before that.
    Seek(String),
    /// Nor is any behind it.
    End,
}

/// First above all strings that begin with `/` where this replaces it.
const ABOVE_SLASH: &str = "0";
/// First above all strings that begin with `$`.
const ABOVE_DOLLAR: &str = "%";

/// `filter` and `topic` are valid; the filter's share group is taken off.
pub(super) fn step(filter: &str, topic: &str) -> Step {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Step::Seek(ABOVE_DOLLAR.into());
    }
    let mut levels = filter.split('/').peekable();
    // Of the topic's present level; all before it match.
    let mut start = 0;
    while let Some(level) = levels.next() {
        if level == "#" {
            return Step::Match;
        }
        let end = topic[start..].find('/').map(|length| start + length);
        let word = &topic[start..end.unwrap_or(topic.len())];
        if level != "+" && level != word {
            return toward(&topic[..start], level, topic);
        }
        match (levels.peek(), end) {
            (Some(_), Some(end)) => start = end + 1,
            (None, None) | (Some(&"#"), None) => return Step::Match,
            // What lies below it can match, and so can others before that: `a-b/c` lies between `a` and `a/c`.
            (Some(_), None) if level == "+" => return Step::Pass,
            // Only what lies below it can match,
            (Some(_), None) => return Step::Seek(format!("{topic}/")),
            // or only what does not.
            (None, Some(end)) => return Step::Seek(format!("{}{ABOVE_SLASH}", &topic[..end])),
        }
    }
    Step::End
}

/// Below `prefix` (empty, or ending with `/`) only `level` itself and what lies below that can match; both may have
/// topics between them, such as `a-b` between `a` and `a/b`. The level of `topic` there is another.
fn toward(prefix: &str, level: &str, topic: &str) -> Step {
    let target = format!("{prefix}{level}");
    let below = format!("{target}/");
    match (topic.cmp(&target), topic.cmp(&below)) {
        (Ordering::Less, _) => Step::Seek(target),
        (_, Ordering::Less) => Step::Seek(below),
        (Ordering::Equal | Ordering::Greater, Ordering::Equal | Ordering::Greater) => match prefix.strip_suffix('/') {
            Some(parent) => Step::Seek(format!("{parent}{ABOVE_SLASH}")),
            None => Step::End,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use rollcall_proto::topic::matches;

    use super::*;

    /// What it finds, and how many topics it looked at.
    fn walk(filter: &str, topics: &BTreeSet<String>) -> (Vec<String>, usize) {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        let mut next = topics.iter().next();
        while let Some(topic) = next {
            looked_at += 1;
            next = match step(filter, topic) {
                step @ (Step::Match | Step::Pass) => {
                    found.extend((step == Step::Match).then(|| topic.clone()));
                    topics.range::<String, _>((std::ops::Bound::Excluded(topic), std::ops::Bound::Unbounded)).next()
                }
                Step::Seek(to) => {
                    assert!(to > *topic, "{filter}: from {topic} back to {to}");
                    topics.range(to..).next()
                }
                Step::End => None,
            };
        }
        (found, looked_at)
    }

    #[test]
    fn a_walk_looks_at_few_topics_that_do_not_match() {
        let mut topics: BTreeSet<String> = (0..10_000).map(|n| format!("device/{n:05}/state")).collect();
        topics.extend((0..10_000).map(|n| format!("device/{n:05}/log/{}", n % 7)));
        topics.extend((0..1000).map(|n| format!("device-{n}")));
        topics.extend((0..1000).map(|n| format!("$SYS/{n}")));
        for (filter, found, most) in [
            ("device/00042/#", 2, 8),
            ("device/00042/state", 1, 8),
            ("nowhere/#", 0, 4),
            ("device/+", 0, 10_010),
            ("device", 0, 4),
            ("+", 1000, 1010),
            ("$SYS/#", 1000, 1004),
        ] {
            let (matched, looked_at) = walk(filter, &topics);
            assert_eq!(matched.len(), found, "{filter}");
            assert!(looked_at <= most, "{filter} looked at {looked_at}");
        }
    }

    fn word() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just(""), Just("a"), Just("a-b"), Just("b"), Just("$a"), Just("é"), Just("0")]
    }

    fn topic() -> impl Strategy<Value = String> {
        vec(word(), 1..4).prop_map(|words| words.join("/")).prop_filter("not empty", |topic| !topic.is_empty())
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = || prop_oneof![3 => word(), 2 => Just("+")];
        (vec(level(), 0..4), any::<bool>())
            .prop_map(|(mut levels, all)| {
                levels.extend(all.then_some("#"));
                levels.join("/")
            })
            .prop_filter("not empty", |filter| !filter.is_empty())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_walk_finds_exactly_what_matches(topics in btree_set(topic(), 0..60), filter in filter()) {
            let expected: Vec<_> = topics.iter().filter(|topic| matches(&filter, topic)).cloned().collect();
            prop_assert_eq!(walk(&filter, &topics).0, expected);
        }
    }
}
