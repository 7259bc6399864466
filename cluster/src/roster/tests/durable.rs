use rollcall_proto::schema::roster::{Claim, Expire, Kick, Unsubscribe};

use super::*;

fn kept(bench: &Bench) -> Vec<String> {
    let changes: Vec<_> = bench.roster.routes().filter(|change| matches!(change, RouteChange::Keep { .. })).collect();
    routed(&changes)
}

#[test]
fn a_session_is_durable_if_it_is_to_outlive_its_connection() {
    let mut bench = Bench::new();
    assert_eq!(bench.claim(A, clean("x")).0, grant(1, false, 1, false));
    assert_eq!(bench.claim(A, Claim { session_expiry: 1, ..clean("y") }).0, grant(1, false, 1, true));
}

#[test]
fn a_durable_session_resumed_for_the_last_time_is_still_durable() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    bench.release(A, "x", epoch);
    let (outcome, effects) = bench.claim(B, Claim { session_expiry: 0, ..lasting("x") });
    assert_eq!(outcome, grant(2, true, 1, true), "what was queued is still due");
    assert_eq!(routed(&effects.routes), ["add a 2"]);
    let (_, effects) = bench.release(B, "x", 2);
    assert_eq!(routed(&effects.routes), ["remove a 2", "unkeep a"]);
    assert!(bench.roster.session("x").is_none());
}

#[test]
fn what_ends_with_its_connection_is_not_revived_by_a_disconnect() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, clean("x"));
    bench.run(A, command::Kind::Release(Release { session_expiry: Some(10), ..release("x", epoch) }));
    assert!(bench.roster.session("x").is_none());
}

#[test]
fn only_a_durable_sessions_subscriptions_are_kept() {
    let mut bench = Bench::new();
    for (claim, expected) in [(clean("x"), vec!["add a 1"]), (lasting("y"), vec!["keep a of 1", "add a 1"])] {
        let client_id = claim.client_id.clone();
        let epoch = bench.granted(A, claim);
        let (_, effects) = bench.subscribe(A, &client_id, epoch, &["a"]);
        assert_eq!(routed(&effects.routes), expected);
    }
    assert_eq!(kept(&bench), ["keep a of 1"]);
}

#[test]
fn kept_routes_stay_while_the_session_is_offline_and_when_it_moves() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    assert_eq!(routed(&bench.release(A, "x", epoch).1.routes), ["remove a 1"]);
    assert_eq!(kept(&bench), ["keep a of 1"]);
    assert_eq!(routed(&bench.claim(B, lasting("x")).1.routes), ["add a 2"]);
    assert_eq!(routed(&bench.claim(C, lasting("x")).1.routes), ["remove a 2", "add a 3"]);
    assert_eq!(kept(&bench), ["keep a of 1"], "of the incarnation in which it began");
}

#[test]
fn an_unsubscribe_ends_the_live_and_the_kept_route() {
    let mut bench = Bench::new();
    for (claim, expected) in [(clean("x"), vec!["remove a 1"]), (lasting("y"), vec!["remove a 1", "unkeep a"])] {
        let client_id = claim.client_id.clone();
        let epoch = bench.granted(A, claim);
        bench.subscribe(A, &client_id, epoch, &["a"]);
        let unsubscribe = Unsubscribe { client_id, epoch, filters: vec!["a".into(), "never".into()] };
        assert_eq!(routed(&bench.run(A, command::Kind::Unsubscribe(unsubscribe)).1.routes), expected);
    }
}

#[test]
fn whatever_ends_an_offline_session_ends_its_kept_routes() {
    let expire = command::Kind::Expire(Expire { client_ids: vec!["x".into()] });
    let purge = command::Kind::Kick(Kick { client_id: "x".into(), purge: true });
    let anew = command::Kind::Claim(clean("x"));
    let late = command::Kind::Claim(lasting("x"));
    for (later, end) in [(3_600_000, expire), (0, purge), (0, anew), (3_600_000, late)] {
        let mut bench = Bench::new();
        let epoch = bench.granted(A, lasting("x"));
        bench.subscribe(A, "x", epoch, &["a", "b"]);
        bench.release(A, "x", epoch);
        bench.now += later;
        let (_, effects) = bench.run(B, end);
        assert_eq!(routed(&effects.routes), ["unkeep a", "unkeep b"]);
        assert!(kept(&bench).is_empty());
    }
}

#[test]
fn another_incarnation_keeps_its_own_subscriptions() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let epoch = bench.granted(A, Claim { clean_start: true, ..lasting("x") });
    assert!(kept(&bench).is_empty());
    bench.subscribe(A, "x", epoch, &["a"]);
    assert_eq!(kept(&bench), ["keep a of 2"]);
}

#[test]
fn a_snapshot_knows_what_is_durable_and_what_the_connection_would_leave() {
    let mut bench = Bench::new();
    let will = rollcall_proto::schema::roster::Will { delay: 7, ..Default::default() };
    bench.granted(A, Claim { will: Some(will), ..lasting("x") });
    bench.granted(A, clean("y"));
    let copy = restored(&bench.roster);
    for client_id in ["x", "y"] {
        assert_eq!(copy.session(client_id), bench.roster.session(client_id));
    }
}
