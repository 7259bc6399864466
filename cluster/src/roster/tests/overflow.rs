use rollcall_proto::schema::roster::{Claim, Done, NodeDown, Overflowed, Stale, Will};

use super::*;
use crate::roster::Reason;

const DONE: outcome::Kind = outcome::Kind::Done(Done {});
const STALE: outcome::Kind = outcome::Kind::Stale(Stale {});

fn overflowed(client_id: &str, incarnation: u64) -> command::Kind {
    command::Kind::Overflowed(Overflowed { client_id: client_id.into(), incarnation })
}

#[test]
fn an_offline_session_that_overflows_ends_without_an_event() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    bench.release(A, "x", epoch);
    let (outcome, effects) = bench.run(B, overflowed("x", 1));
    assert_eq!((outcome, effects.events.len()), (DONE, 0));
    assert_eq!(routed(&effects.routes), ["unkeep a"]);
    assert!(bench.roster.session("x").is_none());
    assert!(bench.granted(A, lasting("x")) > epoch);
}

#[test]
fn an_online_session_that_overflows_loses_its_connection_and_its_will_is_published() {
    let mut bench = Bench::new();
    let will = Will { delay: 60, ..Will::default() };
    let epoch = bench.granted(A, Claim { will: Some(will), ..lasting("x") });
    bench.subscribe(A, "x", epoch, &["a"]);
    let (outcome, effects) = bench.run(B, overflowed("x", 1));
    assert_eq!(outcome, DONE);
    assert_eq!(told(&effects), ["x 1 disconnected TooManyConnection on node-1"]);
    let Some(event::Body::Disconnected(end)) = &effects.events[0].body else { panic!() };
    assert_eq!(end.detail, "session overflow");
    assert_eq!(effects.lost[0].reason, Reason::TooManyConnection);
    assert_eq!(routed(&effects.routes), ["remove a 1", "unkeep a"]);
    assert_eq!(effects.wills.len(), 1, "the session has ended: nothing is waited for");
    assert_eq!((bench.roster.connections(), bench.roster.session_count()), (0, 0));
}

#[test]
fn another_incarnation_has_another_inbox_which_has_not_overflowed() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("x"));
    bench.granted(A, Claim { clean_start: true, ..lasting("x") });
    for incarnation in [1, 3] {
        assert_eq!(bench.run(B, overflowed("x", incarnation)).0, STALE);
    }
    assert!(bench.is_online("x"));
    assert_eq!(bench.run(B, overflowed("unknown", 1)).0, STALE);
    bench.granted(B, lasting("x"));
    assert_eq!(bench.run(B, overflowed("x", 2)).0, DONE, "by the incarnation, whoever owns it now");
}

#[test]
fn a_session_that_overflows_before_its_dead_node_is_reaped_ended_by_that_death() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("x"));
    bench.run(B, command::Kind::NodeDown(NodeDown { node: A, epoch: 1 }));
    let (_, effects) = bench.run(B, overflowed("x", 1));
    assert_eq!(told(&effects), ["x 1 disconnected ServerInternalError on node-2"]);
    assert_eq!(bench.roster.orphans().count(), 0);
}
