use rollcall_proto::schema::shard::Outcome;

use super::*;

fn kinds(outcomes: &[Outcome]) -> Vec<outcome::Kind> {
    outcomes.iter().map(|outcome| outcome.kind.unwrap()).collect()
}

fn put(payload: &str) -> command::Kind {
    command::Kind::Enqueue(enqueue(&["x"], payload))
}

#[test]
fn a_repeated_batch_changes_nothing_and_gets_the_same_answers() {
    let mut bench = Bench::with(&["x"]);
    let batch = batch(2, 5, 1, [put("a"), open("y", 1, 1)]);
    let first = bench.shard.apply(bench.now, &batch);
    let again = bench.shard.apply(bench.now, &batch);
    assert_eq!(kinds(&first.outcomes), [done(1), opened(false)]);
    assert_eq!(again, Effects { outcomes: first.outcomes.clone(), ..Effects::default() });
    assert_eq!(bench.told("x"), ["1:a"]);
    assert_eq!(bench.shard.last_outcomes(2), Some((5, 1, &*first.outcomes)));
}

#[test]
fn an_older_number_is_passed_over_without_answers() {
    let mut bench = Bench::with(&["x"]);
    bench.shard.apply(bench.now, &batch(2, 1, 10, [put("a")]));
    for number in [0, 9] {
        assert_eq!(bench.shard.apply(bench.now, &batch(2, 1, number, [put("b")])), Effects::default());
    }
    assert_eq!(bench.told("x"), ["1:a"]);
}

#[test]
fn numbers_begin_anew_with_each_epoch_of_a_node_and_the_older_epoch_is_stale() {
    let mut bench = Bench::with(&["x"]);
    bench.shard.apply(bench.now, &batch(2, 1, 7, [put("a")]));
    assert_eq!(kinds(&bench.shard.apply(bench.now, &batch(2, 2, 1, [put("b")])).outcomes), [done(1)]);
    let late = bench.shard.apply(bench.now, &batch(2, 1, 8, [put("c"), put("d")]));
    assert_eq!(kinds(&late.outcomes), [STALE, STALE]);
    assert_eq!(bench.told("x"), ["1:a", "2:b"]);
    assert_eq!(bench.shard.last_outcomes(2).unwrap().0, 2);
}

#[test]
fn nodes_are_numbered_each_on_its_own() {
    let mut bench = Bench::with(&["x"]);
    for node in [2, 3] {
        assert_eq!(kinds(&bench.shard.apply(bench.now, &batch(node, 1, 1, [put("a")])).outcomes), [done(1)]);
    }
    assert_eq!(bench.shard.last_outcomes(4), None);
}

#[test]
fn a_command_this_version_does_not_know_keeps_its_place_among_the_answers() {
    let mut bench = Bench::with(&["x"]);
    let mut batch = batch(2, 1, 1, [put("a"), put("b")]);
    batch.commands.insert(1, Command { kind: None });
    assert_eq!(kinds(&bench.shard.apply(bench.now, &batch).outcomes), [done(1), STALE, done(1)]);
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::with(&["x"]);
    let ahead = bench.now + 60_000;
    bench.now = ahead;
    bench.enqueue(&["x"], "a");
    bench.now = 1;
    bench.enqueue_for(10, &["x"], "b");
    assert_eq!(bench.shard.time(), ahead);
    assert_eq!(bench.waiting("x")[1].expires_at, ahead + 10);
}
