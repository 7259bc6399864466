use rollcall_proto::schema::shard::Sweep;

use super::*;
use crate::inbox::RetainedPage;

fn keep(topic: &str, payload: &str) -> command::Kind {
    command::Kind::Retain(retain(topic, payload))
}

/// Each as TOPIC=PAYLOAD.
fn told(page: &RetainedPage) -> Vec<String> {
    page.items.iter().map(|item| format!("{}={}", item.topic, text(Some(&item.body)))).collect()
}

fn all(bench: &Bench, filter: &str) -> Vec<String> {
    told(&bench.shard.retained(filter, None, 1000, bench.now))
}

#[test]
fn a_topic_keeps_its_last_message_until_an_empty_one_removes_it() {
    let mut bench = Bench::new();
    for (topic, payload) in [("t/1", "a"), ("t/2", "b"), ("t/1", "c")] {
        assert_eq!(bench.run(keep(topic, payload)).0, done(1));
    }
    assert_eq!(all(&bench, "t/+"), ["t/1=c", "t/2=b"]);
    assert_eq!(bench.shard.body_count(), 2);
    bench.run(keep("t/1", ""));
    bench.run(keep("never", ""));
    assert_eq!(all(&bench, "#"), ["t/2=b"]);
    assert_eq!((bench.shard.retained_count(), bench.shard.body_count()), (1, 1));
}

#[test]
fn wildcards_do_not_reach_topics_that_begin_with_a_dollar() {
    let mut bench = Bench::new();
    for topic in ["$SYS/a", "a", "a/b"] {
        bench.run(keep(topic, "m"));
    }
    assert_eq!(all(&bench, "#"), ["a=m", "a/b=m"]);
    assert_eq!(all(&bench, "+/a"), [""; 0]);
    assert_eq!(all(&bench, "$SYS/+"), ["$SYS/a=m"]);
}

#[test]
fn pages_follow_each_other_in_topic_order() {
    let mut bench = Bench::new();
    for number in 0..25 {
        bench.run(keep(&format!("t/{number:02}"), "m"));
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = bench.shard.retained("t/+", after.as_deref(), 10, bench.now);
        assert!(page.items.len() <= 10);
        seen.extend(told(&page));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(seen, (0..25).map(|number| format!("t/{number:02}=m")).collect::<Vec<_>>());
}

#[test]
fn a_page_without_matches_still_says_how_far_it_looked() {
    let mut bench = Bench::new();
    let kinds = (0..12_000).map(|number| keep(&format!("d/{number:05}/state"), "m"));
    bench.shard.apply(bench.now, &batch(2, 1, 1, kinds));
    bench.run(keep("d/99999/log", "found"));
    let first = bench.shard.retained("d/+/log", None, 10, bench.now);
    assert!(first.items.is_empty());
    let rest = bench.shard.retained("d/+/log", first.next.as_deref(), 10, bench.now);
    assert_eq!((told(&rest), rest.next), (vec!["d/99999/log=found".to_owned()], None));
}

#[test]
fn an_expired_message_is_not_returned_and_goes_by_a_sweep() {
    let mut bench = Bench::new();
    let retain = |topic, millis| command::Kind::Retain(Retain { expires_in: Some(millis), ..retain(topic, "m") });
    bench.run(retain("late", 20));
    bench.run(retain("early", 10));
    bench.run(keep("never", "m"));
    assert!(bench.shard.expired_topics(bench.now + 9, 10).is_empty());
    assert_eq!(bench.shard.expired_topics(bench.now + 20, 10), ["early", "late"]);
    bench.now += 10;
    assert_eq!(all(&bench, "#"), ["late=m", "never=m"]);
    let topics = ["late", "early", "never", "unknown"].map(String::from).to_vec();
    assert_eq!(bench.run(command::Kind::Sweep(Sweep { topics, ..Sweep::default() })).0, done(1));
    assert_eq!((bench.shard.retained_count(), bench.shard.body_count()), (2, 2));
}

#[test]
fn what_is_no_message_or_has_no_topic_is_passed_over() {
    let mut bench = Bench::new();
    let garbage = Retain { message: Bytes::from_static(&[0xFF; 9]), ..Retain::default() };
    let no_text = Message { topic: Bytes::from_static(&[0xC3]), ..Message::default() }.encode_to_vec();
    let wild = message("a/#", "m");
    for message in [garbage.message, no_text.into(), wild, Bytes::new()] {
        assert_eq!(bench.run(command::Kind::Retain(Retain { message, ..Retain::default() })).0, done(0));
    }
    assert_eq!(bench.shard.body_count(), 0);
}

#[test]
fn what_was_handed_on_once_is_not_retained_again() {
    let mut bench = Bench::new();
    let from = |number, payload| {
        command::Kind::Retain(Retain { origin: Some(origin("p", 1, number)), ..retain("t", payload) })
    };
    assert_eq!(bench.run(from(4, "a")).0, done(1));
    bench.run(keep("t", "newer"));
    assert_eq!(bench.run(from(4, "a")).0, done(0));
    assert_eq!(all(&bench, "t"), ["t=newer"]);
}
