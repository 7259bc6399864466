use rollcall_proto::schema::roster::{Claim, Expire, NodeDraining, Reason, command, event, outcome};

use super::*;
use crate::roster::Owner;

#[test]
fn a_fresh_claim_owns_a_new_session_and_says_so_in_one_event() {
    let mut bench = Bench::new();
    let (outcome, effects) = bench.claim(A, clean("x"));
    assert_eq!(outcome, grant(1, false, 1, false));
    assert_eq!(told(&effects), ["x 1 connected on node-1"]);
    let event = &effects.events[0];
    assert_eq!((event.seq, event.time), (1, bench.now));
    assert_eq!(event.node_address, address(A));
    assert_eq!((event.username.as_deref(), event.peername.as_str()), (Some("ann"), "192.0.2.7:50000"));
    let Some(event::Body::Connected(connected)) = &event.body else { panic!("{event:?}") };
    assert_eq!((connected.clean_start, connected.keep_alive, connected.protocol_level), (true, 60, 5));
    assert_eq!(connected.sockname, "192.0.2.1:1883");
    let session = bench.roster.session("x").unwrap();
    assert_eq!(session.owner, Some(Owner { node: A, node_epoch: 1, connection: 5 }));
    assert_eq!((session.epoch, session.incarnation), (1, 1));
    assert_eq!((bench.roster.connections(), bench.roster.node(A).unwrap().connections), (1, 1));
    assert!(effects.lost.is_empty() && effects.routes.is_empty());
}

#[test]
fn a_takeover_from_another_node_ends_the_old_connection_in_the_name_of_its_node() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("x"));
    let (outcome, effects) = bench.claim(B, lasting("x"));
    assert_eq!(outcome, grant(2, true, 1, true));
    assert_eq!(told(&effects), ["x 1 disconnected Takeovered on node-1", "x 2 connected on node-2"]);
    let lost = &effects.lost[0];
    assert_eq!((&*lost.client_id, lost.owner.node, lost.epoch, lost.reason), ("x", A, 1, Reason::Takeovered));
    assert_eq!(bench.roster.connections(), 1);
    let held = |node| bench.roster.node(node).unwrap().connections;
    assert_eq!((held(A), held(B)), (0, 1));
}

#[test]
fn a_takeover_on_the_same_node_names_the_connection_that_lost() {
    let mut bench = Bench::new();
    bench.granted(A, Claim { connection: 10, ..lasting("x") });
    let (_, effects) = bench.claim(A, Claim { connection: 11, ..lasting("x") });
    assert_eq!(effects.lost.len(), 1);
    assert_eq!(effects.lost[0].owner.connection, 10);
    assert_eq!(bench.roster.session("x").unwrap().owner.unwrap().connection, 11);
    assert_eq!(bench.roster.node(A).unwrap().connections, 1);
}

#[test]
fn a_resumed_session_keeps_its_subscriptions_and_moves_their_routes() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a", "b"]);
    let (_, effects) = bench.claim(B, lasting("x"));
    assert_eq!(routed(&effects.routes), ["remove a 1", "remove b 1", "add a 2", "add b 2"]);
    assert_eq!(bench.roster.session("x").unwrap().incarnation, 1, "the same session goes on");
}

#[test]
fn a_clean_start_begins_another_session_without_the_old_subscriptions() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let (outcome, effects) = bench.claim(B, Claim { clean_start: true, ..lasting("x") });
    assert_eq!(outcome, grant(2, false, 2, true));
    let session = bench.roster.session("x").unwrap();
    assert!(session.subscriptions.is_empty());
    assert_eq!(session.incarnation, 2);
    assert_eq!(routed(&effects.routes), ["remove a 1", "unkeep a"]);
}

#[test]
fn a_session_of_expiry_0_ends_when_it_is_taken_over() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, Claim { session_expiry: 0, ..lasting("x") });
    bench.subscribe(A, "x", epoch, &["a"]);
    let (outcome, _) = bench.claim(B, lasting("x"));
    assert_eq!(outcome, grant(2, false, 2, true));
    assert!(bench.roster.session("x").unwrap().subscriptions.is_empty());
}

#[test]
fn an_offline_session_is_resumed_until_its_expiry_has_passed() {
    for (later, present) in [(3_599_999, true), (3_600_000, false)] {
        let mut bench = Bench::new();
        let epoch = bench.granted(A, lasting("x"));
        bench.release(A, "x", epoch);
        bench.now += later;
        let (outcome, effects) = bench.claim(B, lasting("x"));
        assert_eq!(outcome, grant(2, present, if present { 1 } else { 2 }, true));
        assert_eq!(told(&effects), ["x 2 connected on node-2"], "nobody was connected: nobody is disconnected");
    }
}

#[test]
fn a_session_that_never_expires_is_there_after_a_century() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, Claim { session_expiry: super::super::NEVER, ..lasting("x") });
    bench.release(A, "x", epoch);
    bench.now += 100 * 365 * 86_400_000;
    bench.run(A, command::Kind::Expire(Expire { client_ids: vec!["x".into()] }));
    let (outcome, _) = bench.claim(B, lasting("x"));
    assert_eq!(outcome, grant(2, true, 1, true));
}

#[test]
fn a_draining_node_is_refused_with_go_away_even_for_its_own_client() {
    let mut bench = Bench::new();
    bench.granted(A, lasting("x"));
    bench.run(A, command::Kind::NodeDraining(NodeDraining {}));
    for client_id in ["x", "y"] {
        let (outcome, effects) = bench.claim(A, lasting(client_id));
        assert_eq!(outcome, outcome::Kind::Refused(Reason::GoAway.into()));
        assert_eq!(told(&effects), [format!("{client_id} 0 disconnected GoAway on node-1")]);
    }
    assert!(bench.is_online("x"), "the refused claim took nothing away");
    assert_eq!(bench.granted(B, lasting("x")), 2);
}

#[test]
fn epochs_of_one_client_id_never_fall_whatever_becomes_of_its_sessions() {
    let mut bench = Bench::new();
    let mut last = 0;
    for round in 0..5 {
        let epoch = bench.granted(A, clean("x"));
        assert!(epoch > last, "round {round}: {epoch} after {last}");
        last = epoch;
        bench.release(A, "x", epoch);
        assert!(bench.roster.session("x").is_none(), "expiry 0: forgotten");
    }
}

#[test]
fn an_unknown_id_begins_above_every_forgotten_one() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.granted(A, clean("often"));
    }
    bench.release(A, "often", 4);
    assert_eq!(bench.granted(B, clean("new")), 5);
    bench.release(B, "new", 5);
    assert_eq!(bench.granted(B, clean("newer")), 6);
}
