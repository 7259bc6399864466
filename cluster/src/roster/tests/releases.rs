use rollcall_proto::schema::roster::{Claim, Done, Expire, Kick, NotFound, Reason, Stale, event};

use super::*;
use crate::roster::RouteChange;

const DONE: outcome::Kind = outcome::Kind::Done(Done {});
const STALE: outcome::Kind = outcome::Kind::Stale(Stale {});

fn kick(client_id: &str, purge: bool) -> command::Kind {
    command::Kind::Kick(Kick { client_id: client_id.into(), purge })
}

fn expire(client_id: &str) -> command::Kind {
    command::Kind::Expire(Expire { client_ids: vec![client_id.into()] })
}

#[test]
fn a_release_leaves_a_lasting_session_offline_with_its_subscriptions() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let told_by = Release { reason: Reason::KeepaliveTimeout.into(), detail: "silent".into(), ..release("x", epoch) };
    let (outcome, effects) = bench.run(A, command::Kind::Release(told_by));
    assert_eq!(outcome, DONE);
    assert_eq!(told(&effects), ["x 1 disconnected KeepaliveTimeout on node-1"]);
    let Some(event::Body::Disconnected(end)) = &effects.events[0].body else { panic!() };
    assert_eq!((end.detail.as_str(), end.sockname.as_str()), ("silent", "192.0.2.1:1883"));
    assert!(matches!(&effects.routes[..], [RouteChange::Remove { filter, .. }] if &**filter == "a"));
    let session = bench.roster.session("x").unwrap();
    assert_eq!((session.owner, session.disconnected_at), (None, Some(bench.now)));
    assert_eq!(session.subscriptions.len(), 1);
    assert_eq!((bench.roster.connections(), bench.roster.node(A).unwrap().connections), (0, 0));
}

#[test]
fn only_the_very_connection_that_owns_a_session_may_release_it() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("x"));
    let epoch = bench.granted(A, lasting("x"));
    for (node, of) in [(A, epoch - 1), (A, epoch + 1), (B, epoch), (B, epoch - 1)] {
        let (outcome, effects) = bench.release(node, "x", of);
        assert_eq!(outcome, STALE);
        assert!(effects.events.is_empty() && effects.lost.is_empty());
    }
    assert!(bench.is_online("x"));
    assert_eq!(bench.release(A, "unknown", 1).0, STALE);
    assert_eq!(bench.release(A, "x", epoch).0, DONE);
    assert_eq!(bench.release(A, "x", epoch).0, STALE, "an offline session has nobody to release it");
}

#[test]
fn a_node_cannot_release_what_its_earlier_epoch_held() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.up(A, 78);
    assert_eq!(bench.release(A, "x", epoch).0, STALE);
    let old = batch(A, 1, 99, [command::Kind::Release(release("x", epoch))]);
    assert_eq!(bench.apply(&old).outcomes[0].kind, Some(STALE));
    assert!(bench.is_online("x"));
}

#[test]
fn a_disconnect_may_change_the_expiry() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.run(A, command::Kind::Release(Release { session_expiry: Some(10), ..release("x", epoch) }));
    bench.now += 9_999;
    bench.run(A, expire("x"));
    assert!(bench.roster.session("x").is_some());
    bench.now += 1;
    bench.run(A, expire("x"));
    assert!(bench.roster.session("x").is_none());
    let epoch = bench.granted(A, lasting("x"));
    bench.run(A, command::Kind::Release(Release { session_expiry: Some(0), ..release("x", epoch) }));
    assert!(bench.roster.session("x").is_none(), "0 ends it with its connection");
}

#[test]
fn expire_touches_neither_the_online_nor_those_whose_time_has_not_come() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("online"));
    let epoch = bench.granted(A, lasting("offline"));
    bench.release(A, "offline", epoch);
    let due = |bench: &Bench| bench.roster.expired(0..crate::pages::PAGES, bench.now, 10);
    bench.now += 3_599_999;
    assert!(due(&bench).is_empty());
    bench.run(B, expire("offline"));
    assert!(bench.roster.session("offline").is_some());
    bench.now += 1;
    assert_eq!(due(&bench), ["offline"]);
    let all = ["online", "offline", "unknown"].map(String::from).to_vec();
    let (outcome, effects) = bench.run(B, command::Kind::Expire(Expire { client_ids: all }));
    assert_eq!(outcome, DONE);
    assert!(effects.events.is_empty(), "it was disconnected long ago");
    assert!(bench.roster.session("offline").is_none() && bench.is_online("online"));
}

#[test]
fn a_kick_from_any_node_is_told_by_the_node_that_held_the_connection() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let (outcome, effects) = bench.run(B, kick("x", false));
    assert_eq!(outcome, DONE);
    assert_eq!(told(&effects), ["x 1 disconnected Kicked on node-1"]);
    assert_eq!((effects.lost[0].owner.node, effects.lost[0].reason), (A, Reason::Kicked));
    assert_eq!(bench.roster.session("x").unwrap().subscriptions.len(), 1, "the session itself stays");
    assert_eq!(bench.roster.connections(), 0);
}

#[test]
fn a_kick_of_an_offline_session_says_nothing_and_ends_it_only_with_purge() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.release(A, "x", epoch);
    let (outcome, effects) = bench.run(B, kick("x", false));
    assert_eq!((outcome, effects.events.len()), (DONE, 0));
    assert!(bench.roster.session("x").is_some());
    let (outcome, effects) = bench.run(B, kick("x", true));
    assert_eq!((outcome, effects.events.len()), (DONE, 0));
    assert!(bench.roster.session("x").is_none());
    assert_eq!(bench.run(B, kick("x", true)).0, outcome::Kind::NotFound(NotFound {}));
    assert!(bench.granted(A, lasting("x")) > epoch);
}

#[test]
fn a_purge_of_an_online_session_ends_connection_and_session_with_one_event() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let (_, effects) = bench.run(B, kick("x", true));
    assert_eq!(told(&effects), ["x 1 disconnected Kicked on node-1"]);
    assert!(bench.roster.session("x").is_none());
    assert_eq!((bench.roster.connections(), bench.roster.session_count()), (0, 0));
}

#[test]
fn an_unknown_reason_is_taken_for_a_fault_of_the_server() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, Claim { ..lasting("x") });
    let (_, effects) = bench.run(A, command::Kind::Release(Release { reason: 999, ..release("x", epoch) }));
    assert_eq!(told(&effects), ["x 1 disconnected ServerInternalError on node-1"]);
}
