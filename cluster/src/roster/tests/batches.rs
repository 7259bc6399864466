use rollcall_proto::schema::roster::{Conflict, Limits, NodeDown, Stale};

use super::*;

const STALE: outcome::Kind = outcome::Kind::Stale(Stale {});

#[test]
fn a_repeated_batch_changes_nothing_and_gets_the_same_answers() {
    let mut bench = Bench::new();
    let claims = ["x", "y"].map(|client_id| command::Kind::Claim(clean(client_id)));
    let batch = bench.next(A, claims);
    let first = bench.apply(&batch);
    let again = bench.apply(&batch);
    assert_eq!(again.outcomes, first.outcomes);
    assert!(again.events.is_empty() && again.lost.is_empty() && again.routes.is_empty());
    assert_eq!((bench.roster.seq(), bench.roster.connections()), (2, 2));
}

#[test]
fn a_repeated_batch_is_not_carried_out_even_after_others_have_undone_it() {
    let mut bench = Bench::new();
    let claim = bench.next(A, [command::Kind::Claim(clean("x"))]);
    bench.apply(&claim);
    bench.granted(B, clean("x"));
    bench.apply(&claim);
    assert_eq!(bench.roster.session("x").unwrap().owner.unwrap().node, B, "the retry must not take it back");
}

#[test]
fn an_older_number_is_passed_over_without_answers() {
    let mut bench = Bench::new();
    let older = bench.next(A, [command::Kind::Claim(clean("x"))]);
    bench.apply(&older);
    bench.granted(A, clean("y"));
    assert!(bench.apply(&older).outcomes.is_empty());
    assert_eq!(bench.roster.seq(), 2);
}

#[test]
fn numbers_may_skip_but_not_go_back() {
    let mut bench = Bench::new();
    let claim = |id: &str| [command::Kind::Claim(clean(id))];
    assert_eq!(bench.apply(&batch(A, 1, 10, claim("x"))).events.len(), 1);
    assert_eq!(bench.apply(&batch(A, 1, 9, claim("y"))).events.len(), 0);
    assert!(bench.roster.session("y").is_none());
}

#[test]
fn numbers_begin_anew_with_each_epoch() {
    let mut bench = Bench::new();
    for client_id in ["x", "y", "z"] {
        bench.granted(A, clean(client_id));
    }
    bench.up(A, 78);
    let effects = bench.apply(&batch(A, 2, 1, [command::Kind::Claim(clean("w"))]));
    assert_eq!(effects.events.len(), 1);
}

#[test]
fn every_command_of_an_ended_or_unknown_epoch_is_stale() {
    let mut bench = Bench::new();
    bench.up(A, 78);
    let kinds = || [command::Kind::Claim(clean("x")), command::Kind::SetLimits(Limits::default())];
    for (node, epoch) in [(A, 1), (A, 3), (9, 1)] {
        let effects = bench.apply(&batch(node, epoch, 1, kinds()));
        assert!(effects.outcomes.iter().all(|outcome| outcome.kind == Some(STALE)));
        assert_eq!(effects.outcomes.len(), 2);
        assert!(effects.events.is_empty());
    }
}

#[test]
fn a_batch_without_an_epoch_can_only_bring_a_node_up() {
    let mut bench = Bench::new();
    let kinds = [
        command::Kind::Claim(clean("x")),
        command::Kind::NodeDown(NodeDown { node: B, epoch: 1 }),
        command::Kind::SetLimits(Limits { max_connections: Some(0), max_connections_per_node: None }),
    ];
    let effects = bench.apply(&batch(A, 0, 77, kinds));
    assert!(effects.outcomes.iter().all(|outcome| outcome.kind == Some(STALE)));
    assert!(bench.roster.is_current(B, 1) && bench.roster.session("x").is_none());
    assert_eq!(bench.roster.limits(), Limits::default());
}

#[test]
fn a_command_this_version_does_not_know_keeps_its_place_among_the_answers() {
    let mut bench = Bench::new();
    let mut batch = bench.next(A, [command::Kind::Claim(clean("x")), command::Kind::Claim(clean("y"))]);
    batch.commands.insert(1, Command { kind: None });
    let outcomes = bench.apply(&batch).outcomes;
    assert!(matches!(outcomes[1].kind, Some(outcome::Kind::Conflict(Conflict { .. }))));
    assert!(matches!(outcomes[2].kind, Some(outcome::Kind::Granted(_))));
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::new();
    let ahead = bench.now + 60_000;
    bench.now = ahead;
    bench.granted(A, clean("x"));
    bench.now = 1;
    let (_, effects) = bench.claim(A, clean("y"));
    assert_eq!(effects.events[0].time, ahead);
    assert_eq!(bench.roster.time(), ahead);
}
