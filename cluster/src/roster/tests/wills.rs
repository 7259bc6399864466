use rollcall_proto::schema::roster::{
    Claim, DropWills, Expire, FireWills, Kick, MatchWills, NodeDown, NodeDraining, NodeStopped, Reap, Will, WillId,
};

use super::*;

/// Seconds of delay.
fn will(delay: u32) -> Will {
    Will { message: "w".into(), delay, ..Will::default() }
}

fn with_will(delay: u32, claim: Claim) -> Claim {
    Claim { will: Some(will(delay)), ..claim }
}

fn with_retained(delay: u32, claim: Claim) -> Claim {
    Claim { will: Some(Will { retain: true, ..will(delay) }), ..claim }
}

fn id(client_id: &str, epoch: u64) -> WillId {
    WillId { client_id: client_id.into(), epoch }
}

fn fire(ids: &[WillId]) -> command::Kind {
    command::Kind::FireWills(FireWills { wills: ids.to_vec() })
}

/// Whose wills the batch published, with their numbers.
fn published(effects: &Effects) -> Vec<(String, u64, u64)> {
    effects.wills.iter().map(|will| (will.client_id.to_string(), will.epoch, will.number)).collect()
}

fn nothing() -> Vec<(String, u64, u64)> {
    Vec::new()
}

/// All states at once: waiting, firing, matched.
fn states(roster: &Roster) -> (usize, usize, usize) {
    (roster.waiting_wills(), roster.firing().count(), roster.matched_after(0).count())
}

#[test]
fn a_will_without_delay_is_published_by_the_very_end_of_the_connection() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_will(0, lasting("x")));
    let (_, effects) = bench.release(A, "x", epoch);
    assert_eq!(published(&effects), [("x".into(), 1, 1)]);
    let matched: Vec<_> = bench.roster.matched_after(0).cloned().collect();
    assert_eq!(matched, effects.wills);
    assert_eq!((matched[0].matched_at, &*matched[0].will), (bench.now, &will(0)));
    assert!(bench.roster.session("x").unwrap().will.is_none());
}

#[test]
fn a_will_that_was_taken_back_is_never_published() {
    let mut bench = Bench::new();
    for (delay, claim) in [(0, lasting("x")), (60, lasting("y")), (60, clean("z"))] {
        let client_id = claim.client_id.clone();
        let epoch = bench.granted(A, with_will(delay, claim));
        let taken_back = Release { without_will: true, ..release(&client_id, epoch) };
        let (_, effects) = bench.run(A, command::Kind::Release(taken_back));
        assert_eq!(published(&effects), nothing());
    }
    assert_eq!(states(&bench.roster), (0, 0, 0));
}

#[test]
fn a_delayed_will_waits_until_it_is_due_by_the_time_of_the_log() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_will(60, lasting("x")));
    assert_eq!(published(&bench.release(A, "x", epoch).1), nothing());
    bench.now += 59_999;
    assert!(bench.roster.due_wills(bench.now, 10).is_empty());
    assert_eq!(published(&bench.run(B, fire(&[id("x", 1)])).1), nothing(), "whoever asks for it");
    bench.now += 1;
    assert_eq!(bench.roster.due_wills(bench.now, 10), [id("x", 1)]);
    assert_eq!(published(&bench.run(B, fire(&[id("x", 2), id("y", 1)])).1), nothing(), "of another connection");
    assert_eq!(published(&bench.run(B, fire(&[id("x", 1), id("x", 1)])).1), [("x".into(), 1, 1)]);
    assert_eq!(published(&bench.run(C, fire(&[id("x", 1)])).1), nothing(), "once");
    assert_eq!(states(&bench.roster), (0, 0, 1));
}

#[test]
fn a_will_is_not_delayed_beyond_the_end_of_its_session() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_will(60, clean("x")));
    assert_eq!(published(&bench.release(A, "x", epoch).1), [("x".into(), 1, 1)]);
    let epoch = bench.granted(A, with_will(60, lasting("y")));
    bench.run(A, command::Kind::Release(Release { session_expiry: Some(10), ..release("y", epoch) }));
    bench.now += 10_000;
    assert_eq!(bench.roster.due_wills(bench.now, 10), [id("y", epoch)]);
    let (_, effects) = bench.run(B, command::Kind::Expire(Expire { client_ids: vec!["y".into()] }));
    assert_eq!(published(&effects), [("y".into(), epoch, 2)]);
}

/// [MQTT-3.1.3-9]
#[test]
fn a_client_that_resumes_in_time_takes_its_waiting_will_back() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_will(60, lasting("x")));
    bench.release(A, "x", epoch);
    assert_eq!(published(&bench.claim(B, lasting("x")).1), nothing());
    assert_eq!(states(&bench.roster), (0, 0, 0));
    bench.now += 60_000;
    assert!(bench.roster.due_wills(bench.now, 10).is_empty());
    assert_eq!(published(&bench.run(B, fire(&[id("x", 1)])).1), nothing());
}

#[test]
fn a_will_that_is_published_already_is_not_taken_back() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_retained(0, lasting("x")));
    bench.release(A, "x", epoch);
    bench.granted(B, lasting("x"));
    assert_eq!(states(&bench.roster), (0, 1, 0));
}

#[test]
fn whatever_ends_the_session_publishes_the_will_that_waits() {
    let expire = command::Kind::Expire(Expire { client_ids: vec!["x".into()] });
    let purge = command::Kind::Kick(Kick { client_id: "x".into(), purge: true });
    let anew = command::Kind::Claim(clean("x"));
    let late = command::Kind::Claim(lasting("x"));
    for (later, end) in [(3_600_000, expire), (0, purge), (0, anew), (3_600_000, late)] {
        let mut bench = Bench::new();
        let epoch = bench.granted(A, with_will(7_200, lasting("x")));
        bench.release(A, "x", epoch);
        bench.now += later;
        assert_eq!(published(&bench.run(B, end).1), [("x".into(), 1, 1)]);
        assert_eq!(states(&bench.roster), (0, 0, 1));
    }
}

#[test]
fn a_takeover_publishes_the_will_unless_it_is_delayed_and_the_session_goes_on() {
    let anew = |id: &str| Claim { clean_start: true, ..lasting(id) };
    let cases = [
        (with_will(0, lasting("x")), lasting("x"), true),
        (with_will(60, lasting("x")), lasting("x"), false),
        (with_will(60, lasting("x")), anew("x"), true),
        (with_will(60, clean("x")), lasting("x"), true),
    ];
    for (first, second, is_published) in cases {
        let mut bench = Bench::new();
        bench.granted(A, first.clone());
        let (_, effects) = bench.claim(B, second.clone());
        assert_eq!(effects.wills.len(), usize::from(is_published), "{first:?} then {second:?}");
        assert_eq!(states(&bench.roster), (0, 0, usize::from(is_published)));
    }
}

#[test]
fn each_connection_has_a_will_of_its_own() {
    let mut bench = Bench::new();
    let first = bench.granted(A, with_will(0, lasting("x")));
    let second = bench.granted(B, lasting("x"));
    assert_eq!(published(&bench.release(B, "x", second).1), nothing(), "the second has none");
    let third = bench.granted(B, with_will(0, lasting("x")));
    bench.release(B, "x", third);
    let left: Vec<_> = bench.roster.matched_after(0).map(|will| (will.epoch, will.number)).collect();
    assert_eq!(left, [(first, 1), (third, 2)]);
}

#[test]
fn a_kick_and_a_drain_publish_the_will_too() {
    let mut bench = Bench::new();
    bench.granted(A, with_will(0, lasting("x")));
    let kick = Kick { client_id: "x".into(), purge: false };
    assert_eq!(published(&bench.run(B, command::Kind::Kick(kick)).1), [("x".into(), 1, 1)]);
    bench.granted(A, with_will(0, lasting("y")));
    bench.run(A, command::Kind::NodeDraining(NodeDraining {}));
    assert_eq!(published(&bench.run(A, command::Kind::NodeStopped(NodeStopped {})).1), nothing());
    let (_, effects) = bench.run(B, command::Kind::Reap(Reap { node: A, epoch: 1, limit: 10 }));
    assert_eq!(published(&effects), [("y".into(), 1, 2)]);
}

#[test]
fn the_wills_of_a_dead_node_are_published_or_wait_when_it_is_reaped() {
    let mut bench = Bench::new();
    for (client_id, delay) in [("now", 0), ("later", 60)] {
        bench.granted(A, with_will(delay, lasting(client_id)));
    }
    bench.granted(A, with_will(60, clean("ended")));
    bench.now += 10_000;
    bench.run(B, command::Kind::NodeDown(NodeDown { node: A, epoch: 1 }));
    assert_eq!(states(&bench.roster), (0, 0, 0), "one entry, however many sessions");
    let (_, effects) = bench.run(B, command::Kind::Reap(Reap { node: A, epoch: 1, limit: 10 }));
    let mut ids: Vec<_> = effects.wills.iter().map(|will| &*will.client_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["ended", "now"]);
    assert_eq!(bench.roster.due_wills(bench.now + 60_000, 10), [id("later", 1)], "it counts from there");
    bench.granted(C, lasting("later"));
    assert_eq!(bench.roster.waiting_wills(), 0);
}

#[test]
fn a_retained_will_is_matched_once_its_shard_has_committed_it() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, with_retained(0, clean("x")));
    assert_eq!(published(&bench.release(A, "x", epoch).1), nothing());
    assert_eq!(bench.roster.firing().map(|will| will.id()).collect::<Vec<_>>(), [id("x", 1)]);
    let committed = |ids: &[WillId]| command::Kind::MatchWills(MatchWills { wills: ids.to_vec() });
    assert_eq!(published(&bench.run(B, committed(&[id("x", 2), id("y", 1)])).1), nothing());
    assert_eq!(published(&bench.run(B, committed(&[id("x", 1), id("x", 1)])).1), [("x".into(), 1, 1)]);
    assert_eq!(published(&bench.run(B, committed(&[id("x", 1)])).1), nothing(), "once");
    assert_eq!(states(&bench.roster), (0, 0, 1));
}

#[test]
fn only_a_waiting_will_fires_and_only_a_firing_one_is_matched() {
    let mut bench = Bench::new();
    let waiting = bench.granted(A, with_retained(60, lasting("x")));
    bench.release(A, "x", waiting);
    let committed = command::Kind::MatchWills(MatchWills { wills: vec![id("x", waiting)] });
    assert_eq!(published(&bench.run(B, committed).1), nothing());
    bench.now += 60_000;
    assert_eq!(published(&bench.run(B, fire(&[id("x", waiting)])).1), nothing());
    assert_eq!(states(&bench.roster), (0, 1, 0));
    bench.run(B, fire(&[id("x", waiting)]));
    assert_eq!(states(&bench.roster), (0, 1, 0));
}

#[test]
fn what_everyone_has_is_dropped_and_its_number_is_not_given_again() {
    let mut bench = Bench::new();
    let leave = |bench: &mut Bench, client_id: &str| {
        let epoch = bench.granted(A, with_will(0, clean(client_id)));
        bench.release(A, client_id, epoch);
    };
    for client_id in ["x", "y", "z"] {
        leave(&mut bench, client_id);
    }
    bench.run(B, command::Kind::DropWills(DropWills { numbers: vec![1, 3, 9] }));
    assert_eq!(bench.roster.matched_after(0).map(|will| will.number).collect::<Vec<_>>(), [2]);
    leave(&mut bench, "w");
    assert_eq!(bench.roster.matched_after(2).map(|will| will.number).collect::<Vec<_>>(), [4]);
    assert_eq!(bench.roster.will_number(), 4);
}

#[test]
fn the_longest_due_come_first_and_no_more_than_asked_for() {
    let mut bench = Bench::new();
    for (client_id, delay) in [("a", 30), ("b", 10), ("c", 20), ("d", u32::MAX)] {
        let epoch = bench.granted(A, with_will(delay, Claim { session_expiry: u32::MAX, ..lasting(client_id) }));
        bench.release(A, client_id, epoch);
    }
    let now = bench.now + 30_000;
    let ids = |limit| bench.roster.due_wills(now, limit).into_iter().map(|id| id.client_id).collect::<Vec<_>>();
    assert_eq!(ids(10), ["b", "c", "a"]);
    assert_eq!(ids(2), ["b", "c"]);
}

#[test]
fn a_snapshot_carries_wills_in_every_state() {
    let mut bench = Bench::new();
    for (client_id, claim) in [
        ("waiting", with_will(60, lasting("waiting"))),
        ("firing", with_retained(0, lasting("firing"))),
        ("matched", with_will(0, lasting("matched"))),
    ] {
        let epoch = bench.granted(A, claim);
        bench.release(A, client_id, epoch);
    }
    let mut copy = Bench { roster: restored(&bench.roster), ..bench };
    assert_eq!(states(&copy.roster), (1, 1, 1));
    assert_eq!(copy.roster.will_number(), 1);
    copy.now += 60_000;
    assert_eq!(published(&copy.run(A, fire(&[id("waiting", 1)])).1), [("waiting".into(), 1, 2)]);
}
