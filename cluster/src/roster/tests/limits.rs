use rollcall_proto::schema::roster::{Found, Limits, NodeDown, Reason};

use super::*;

fn at_most(max_connections: u64) -> Limits {
    Limits { max_connections: Some(max_connections), max_connections_per_node: None }
}

fn per_node(most: u64) -> Limits {
    Limits { max_connections: None, max_connections_per_node: Some(most) }
}

const FULL: outcome::Kind = outcome::Kind::Refused(Reason::TooManyConnection as i32);

#[test]
fn the_claim_beyond_the_limit_is_refused_whichever_node_makes_it_and_is_an_event() {
    let mut bench = Bench::with_limits(at_most(2));
    bench.granted(A, clean("x"));
    bench.granted(B, clean("y"));
    for node in [A, B, C] {
        let (outcome, effects) = bench.claim(node, clean("z"));
        assert_eq!(outcome, FULL);
        assert_eq!(told(&effects), [format!("z 0 disconnected TooManyConnection on node-{node}")]);
        assert_eq!(effects.events[0].peername, "192.0.2.7:50000");
    }
    assert!(bench.roster.session("z").is_none());
    bench.release(A, "x", 1);
    bench.granted(C, clean("z"));
}

#[test]
fn many_claims_of_one_batch_get_exactly_the_slots_there_are() {
    let mut bench = Bench::with_limits(at_most(3));
    let kinds = (0..10).map(|number| command::Kind::Claim(clean(&format!("c{number}"))));
    let batch = bench.next(A, kinds);
    let outcomes = bench.apply(&batch).outcomes;
    let refused = outcomes.iter().filter(|outcome| outcome.kind == Some(FULL)).count();
    assert_eq!((refused, bench.roster.connections()), (7, 3));
}

#[test]
fn a_takeover_needs_no_slot_of_its_own() {
    let mut bench = Bench::with_limits(at_most(1));
    bench.granted(A, clean("x"));
    bench.granted(B, clean("x"));
    assert_eq!(bench.roster.connections(), 1);
}

#[test]
fn an_offline_session_holds_no_slot_and_needs_one_to_come_back() {
    let mut bench = Bench::with_limits(at_most(1));
    let epoch = bench.granted(A, lasting("x"));
    bench.release(A, "x", epoch);
    bench.granted(A, clean("y"));
    assert_eq!(bench.claim(A, lasting("x")).0, FULL);
    assert!(bench.roster.session("x").is_some(), "the refusal does not end the session");
}

#[test]
fn a_nodes_own_limit_counts_its_own_connections_only() {
    let mut bench = Bench::with_limits(per_node(1));
    bench.granted(A, clean("x"));
    assert_eq!(bench.claim(A, clean("y")).0, FULL);
    bench.granted(B, clean("y"));
    bench.granted(A, clean("x"));
    let (outcome, _) = bench.claim(A, clean("y"));
    assert_eq!(outcome, FULL, "a takeover from another node needs a place on this one");
    assert!(bench.is_online("y"));
}

#[test]
fn what_a_restarted_node_held_before_takes_no_place_on_it_but_a_slot_of_the_cluster() {
    let both = Limits { max_connections: Some(2), max_connections_per_node: Some(1) };
    let mut bench = Bench::with_limits(both);
    bench.granted(A, lasting("x"));
    bench.granted(B, lasting("b"));
    bench.up(A, 78);
    assert_eq!(bench.claim(A, clean("y")).0, FULL, "the orphan still counts");
    assert_eq!(bench.granted(A, lasting("x")), 2, "but its own client takes it over");
    assert_eq!(bench.roster.connections(), 2);
}

#[test]
fn the_slots_of_a_dead_node_are_taken_until_they_are_reaped() {
    let mut bench = Bench::with_limits(at_most(1));
    bench.granted(A, clean("x"));
    bench.run(B, command::Kind::NodeDown(NodeDown { node: A, epoch: 1 }));
    assert_eq!(bench.claim(B, clean("y")).0, FULL);
    super::nodes::reap_all(&mut bench, B, A, 1, 100);
    bench.granted(B, clean("y"));
}

#[test]
fn a_limit_lowered_below_the_count_closes_nobody_and_lets_nobody_in() {
    let mut bench = Bench::new();
    for client_id in ["x", "y", "z"] {
        bench.granted(A, clean(client_id));
    }
    bench.run(B, command::Kind::SetLimits(at_most(1)));
    assert_eq!(bench.roster.connections(), 3);
    assert_eq!(bench.claim(B, clean("new")).0, FULL);
    assert_eq!(bench.granted(B, clean("x")), 2, "a takeover is no new connection");
    bench.release(A, "y", 1);
    bench.release(A, "z", 1);
    assert_eq!(bench.claim(B, clean("new")).0, FULL);
    bench.release(B, "x", 2);
    bench.granted(B, clean("new"));
}

#[test]
fn limits_are_founded_once_and_a_later_founding_changes_nothing() {
    let mut roster = Roster::default();
    for (node, most) in [(A, 7), (B, 8)] {
        let found = Found { cluster_id: node, limits: Some(at_most(most)), ..Found::default() };
        roster.apply(1, &batch(node, 0, 1, [command::Kind::Found(found)]));
    }
    assert_eq!((roster.cluster_id(), roster.limits()), (A, at_most(7)));
}
