use rollcall_proto::schema::roster::{
    Conflict, Done, NodeDown, NodeDraining, NodeEpoch, NodeLeaving, NodeRemoved, NodeState, NodeStopped, Reap,
    Recovered, Stale,
};

use super::*;
use crate::roster::{Lost, Reason};

const DONE: outcome::Kind = outcome::Kind::Done(Done {});
const STALE: outcome::Kind = outcome::Kind::Stale(Stale {});

fn down(node: NodeId, epoch: u64) -> command::Kind {
    command::Kind::NodeDown(NodeDown { node, epoch })
}

/// Every connection that was lost, and how many commands it took.
pub(super) fn reap_all(
    bench: &mut Bench,
    survivor: NodeId,
    node: NodeId,
    epoch: u64,
    limit: u32,
) -> (Vec<Lost>, usize) {
    let (mut lost, mut commands) = (Vec::new(), 0);
    while bench.roster.orphans().any(|left| (left.node, left.epoch) == (node, epoch)) {
        let (outcome, effects) = bench.run(survivor, command::Kind::Reap(Reap { node, epoch, limit }));
        assert_eq!(outcome, DONE);
        lost.extend(effects.lost);
        commands += 1;
        assert!(commands < 10_000, "the reaper makes no progress");
    }
    (lost, commands)
}

fn fill(bench: &mut Bench, node: NodeId, count: usize) {
    for number in 0..count {
        bench.granted(node, lasting(&format!("c{number}")));
    }
}

#[test]
fn the_same_boot_asking_again_keeps_its_epoch() {
    let mut bench = Bench::new();
    bench.granted(A, clean("x"));
    let (epoch, effects) = bench.up(A, 77);
    assert_eq!((epoch, effects.fenced.len()), (1, 0));
    assert!(bench.is_online("x"));
    assert_eq!(bench.release(A, "x", 1).0, DONE);
}

#[test]
fn another_boot_ends_the_epoch_before_and_leaves_orphans() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 3);
    let (epoch, effects) = bench.up(A, 78);
    assert_eq!(epoch, 2);
    assert_eq!(effects.fenced, [(A, 1)]);
    assert!(effects.events.is_empty() && effects.lost.is_empty(), "one entry, however many sessions");
    assert_eq!((bench.roster.connections(), bench.roster.node(A).unwrap().connections), (3, 0));
    let orphans: Vec<_> = bench.roster.orphans().copied().collect();
    assert_eq!((orphans.len(), orphans[0].remaining, orphans[0].epoch), (1, 3, 1));
    assert!(!bench.roster.is_current(A, 1) && bench.roster.is_current(A, 2));
}

#[test]
fn a_name_belongs_to_one_node() {
    let mut bench = Bench::new();
    let stranger = NodeUp { name: "node-1".into(), ..arrival(9, 5) };
    let effects = bench.apply(&batch(9, 0, 5, [command::Kind::NodeUp(stranger)]));
    let Some(outcome::Kind::Conflict(Conflict { why })) = &effects.outcomes[0].kind else { panic!() };
    assert!(why.contains("node-1"), "{why}");
    assert!(bench.roster.node(9).is_none());
}

#[test]
fn a_node_that_is_up_cannot_come_up_within_its_epoch() {
    let mut bench = Bench::new();
    let (outcome, _) = bench.run(A, command::Kind::NodeUp(arrival(A, 99)));
    assert!(matches!(outcome, outcome::Kind::Conflict(_)));
    assert_eq!(bench.epoch_of(A), 1);
}

#[test]
fn a_nodes_death_is_one_entry_without_events_and_the_reaper_follows_in_batches() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 50);
    let (outcome, effects) = bench.run(B, down(A, 1));
    assert_eq!((outcome, effects.fenced.as_slice()), (DONE, [(A, 1)].as_slice()));
    assert!(effects.events.is_empty() && effects.lost.is_empty());
    assert_eq!(bench.roster.connections(), 50);
    assert_eq!(bench.roster.node(A).unwrap().state(), NodeState::Down);
    let first = bench.roster.seq() + 1;
    let (lost, commands) = reap_all(&mut bench, B, A, 1, 10);
    assert!((4..=5).contains(&commands), "ten at a time, rounded up to a page: {commands}");
    assert_eq!(lost.len(), 50);
    assert!(lost.iter().all(|lost| lost.reason == Reason::ServerInternalError && lost.owner.node == A));
    assert_eq!(bench.roster.seq() + 1 - first, 50, "one event each");
    assert_eq!((bench.roster.connections(), bench.roster.session_count()), (0, 50), "offline, to be resumed");
}

#[test]
fn the_survivor_is_the_node_of_a_dead_nodes_events() {
    let mut bench = Bench::new();
    bench.granted(A, clean("x"));
    bench.run(B, down(A, 1));
    let (_, effects) = bench.run(C, command::Kind::Reap(Reap { node: A, epoch: 1, limit: 10 }));
    assert_eq!(told(&effects), ["x 1 disconnected ServerInternalError on node-3"]);
    assert_eq!(effects.events[0].node_address, address(C));
    assert!(bench.roster.session("x").is_none(), "expiry 0 ends with the connection");
}

#[test]
fn an_orphan_may_be_claimed_before_it_is_reaped() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 3);
    bench.run(B, down(A, 1));
    let (outcome, effects) = bench.claim(B, lasting("c1"));
    assert_eq!(outcome, grant(2, true, 1, true));
    assert_eq!(told(&effects), ["c1 1 disconnected ServerInternalError on node-2", "c1 2 connected on node-2"]);
    assert_eq!(bench.roster.orphans().next().unwrap().remaining, 2);
    let (lost, _) = reap_all(&mut bench, C, A, 1, 100);
    assert_eq!(lost.len(), 2);
    assert!(bench.is_online("c1"));
    assert_eq!(bench.roster.connections(), 1);
}

#[test]
fn the_last_orphan_claimed_or_kicked_leaves_nothing_to_reap() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 2);
    bench.run(B, down(A, 1));
    bench.claim(B, lasting("c0"));
    let kick = rollcall_proto::schema::roster::Kick { client_id: "c1".into(), purge: false };
    let (_, effects) = bench.run(B, command::Kind::Kick(kick));
    assert_eq!(told(&effects), ["c1 1 disconnected ServerInternalError on node-2"], "it ended by its node's death");
    assert_eq!(bench.roster.orphans().count(), 0);
    assert_eq!(bench.run(B, command::Kind::Reap(Reap { node: A, epoch: 1, limit: 1 })).0, STALE);
}

#[test]
fn a_restarted_node_is_itself_the_survivor_of_its_earlier_epoch() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 1);
    bench.up(A, 78);
    let (_, effects) = bench.claim(A, lasting("c0"));
    assert_eq!(told(&effects), ["c0 1 disconnected ServerInternalError on node-1", "c0 2 connected on node-1"]);
    assert_eq!(bench.roster.node(A).unwrap().connections, 1);
}

#[test]
fn two_ended_epochs_of_one_node_are_reaped_apart() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 4);
    bench.up(A, 78);
    bench.granted(A, lasting("c0"));
    bench.up(A, 79);
    let left: Vec<_> = bench.roster.orphans().map(|orphans| (orphans.epoch, orphans.remaining)).collect();
    assert_eq!(left, [(1, 3), (2, 1)]);
    let (lost, _) = reap_all(&mut bench, B, A, 2, 100);
    assert_eq!(lost.iter().map(|lost| &*lost.client_id).collect::<Vec<_>>(), ["c0"]);
    assert_eq!(reap_all(&mut bench, B, A, 1, 100).0.len(), 3);
}

#[test]
fn only_the_current_epoch_can_go_down() {
    let mut bench = Bench::new();
    bench.granted(A, clean("x"));
    assert_eq!(bench.run(B, down(A, 2)).0, STALE);
    bench.up(A, 78);
    assert_eq!(bench.run(B, down(A, 1)).0, STALE);
    assert_eq!(bench.run(B, down(9, 1)).0, STALE);
    assert!(bench.roster.is_current(A, 2));
}

#[test]
fn a_node_that_was_down_comes_up_with_a_higher_epoch_even_in_the_same_boot() {
    let mut bench = Bench::new();
    bench.run(B, down(A, 1));
    let refused = bench.apply(&batch(A, 1, 9, [command::Kind::Claim(clean("x"))]));
    assert_eq!(refused.outcomes[0].kind, Some(STALE));
    let (epoch, effects) = bench.up(A, 77);
    assert_eq!((epoch, effects.fenced.len()), (2, 0), "what had ended is not ended again");
    assert_eq!(bench.roster.node(A).unwrap().state(), NodeState::Up);
}

#[test]
fn what_a_stopped_node_still_held_was_told_to_go_away() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 2);
    bench.run(A, command::Kind::NodeDraining(NodeDraining {}));
    let (outcome, effects) = bench.run(A, command::Kind::NodeStopped(NodeStopped {}));
    assert_eq!((outcome, effects.fenced.len()), (DONE, 0), "it stopped by its own wish");
    assert_eq!(bench.roster.node(A).unwrap().state(), NodeState::Stopped);
    assert_eq!(told(&bench.claim(B, lasting("c0")).1)[0], "c0 1 disconnected GoAway on node-2");
    let (lost, _) = reap_all(&mut bench, B, A, 1, 100);
    assert!(matches!(&lost[..], [lost] if lost.reason == Reason::GoAway));
    assert_eq!(bench.up(A, 78).0, 2);
}

#[test]
fn a_node_that_has_stopped_can_do_nothing_more_in_the_same_batch() {
    let mut bench = Bench::new();
    let kinds = [command::Kind::NodeStopped(NodeStopped {}), command::Kind::Claim(clean("x"))];
    let batch = bench.next(A, kinds);
    let effects = bench.apply(&batch);
    assert_eq!(effects.outcomes[1].kind, Some(STALE));
    assert!(bench.roster.session("x").is_none());
    assert_eq!((bench.roster.connections(), bench.roster.node(A).unwrap().connections), (0, 0));
}

#[test]
fn a_node_knows_since_when_it_is_in_its_state() {
    let mut bench = Bench::new();
    bench.now += 5;
    bench.run(A, command::Kind::NodeDraining(NodeDraining {}));
    let node = bench.roster.node(A).unwrap();
    assert_eq!((node.state(), node.since), (NodeState::Draining, bench.now));
    assert_eq!(bench.roster.node(B).unwrap().since, bench.now - 5);
    assert!(bench.roster.is_current(A, 1), "a draining node still speaks for its connections");
}

#[test]
fn the_answer_to_an_arrival_is_the_epoch() {
    let mut roster = Roster::default();
    let effects = roster.apply(1, &batch(A, 0, 5, [command::Kind::NodeUp(arrival(A, 5))]));
    assert_eq!(effects.outcomes[0].kind, Some(outcome::Kind::NodeEpoch(NodeEpoch { epoch: 1 })));
}

fn leaving(node: NodeId) -> command::Kind {
    command::Kind::NodeLeaving(NodeLeaving { node })
}

fn removed(node: NodeId) -> command::Kind {
    command::Kind::NodeRemoved(NodeRemoved { node })
}

fn why(outcome: &outcome::Kind) -> &str {
    let outcome::Kind::Conflict(Conflict { why }) = outcome else { panic!("{outcome:?}") };
    why
}

#[test]
fn one_node_leaves_at_a_time_and_still_serves_meanwhile() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(A, leaving(77)).0, STALE, "nobody knows it");
    assert_eq!(bench.run(A, leaving(B)).0, DONE);
    assert_eq!(bench.run(A, leaving(B)).0, DONE, "asked twice");
    assert!(why(&bench.run(A, leaving(A)).0).contains("node-2 is leaving"));
    bench.granted(B, clean("x"));
    assert!(why(&bench.run(A, removed(B)).0).contains("still serves"));
    assert_eq!(bench.up(B, 78).0, 2, "it may even start again");
    assert!(bench.roster.node(B).unwrap().leaving);
}

#[test]
fn a_removed_node_is_a_stranger_for_ever_and_leaves_its_name_to_another() {
    let mut bench = Bench::new();
    fill(&mut bench, B, 2);
    let newcomer = || batch(9, 0, 5, [command::Kind::NodeUp(NodeUp { name: "node-2".into(), ..arrival(9, 5) })]);
    bench.run(A, leaving(B));
    bench.run(A, down(B, 1));
    assert!(why(&bench.run(A, removed(B)).0).contains("still serves"), "its sessions are not released yet");
    let effects = bench.apply(&newcomer());
    assert_eq!(effects.outcomes[0].kind, Some(outcome::Kind::NodeEpoch(NodeEpoch { epoch: 1 })));
    assert_eq!(bench.roster.node_named("node-2").unwrap().id, 9);
    reap_all(&mut bench, A, B, 1, 100);
    assert_eq!(bench.run(A, removed(B)).0, DONE);
    assert!(bench.roster.node(B).is_none() && bench.roster.leaving().is_none());
    let again = bench.apply(&batch(B, 0, 6, [command::Kind::NodeUp(arrival(B, 6))]));
    assert!(why(again.outcomes[0].kind.as_ref().unwrap()).contains("was removed"));
    let mut bytes = Vec::new();
    bench.roster.write_to(&mut bytes).unwrap();
    let mut copy = Roster::read_from(&mut &bytes[..]).unwrap();
    let again = copy.apply(1, &batch(B, 0, 6, [command::Kind::NodeUp(arrival(B, 6))]));
    assert!(matches!(again.outcomes[0].kind, Some(outcome::Kind::Conflict(_))), "a snapshot remembers it");
}

#[test]
fn a_recovered_cluster_has_one_node_and_the_shards_that_it_held() {
    let mut bench = Bench::new();
    fill(&mut bench, A, 3);
    let found = command::Kind::Found(super::super::Found { shards: 2, replicas: 3, cluster_id: 1, limits: None });
    let recovered = || command::Kind::Recovered(Recovered { node: 9, shards: vec![2] });
    assert!(why(&bench.run(A, recovered()).0).contains("at work"), "only by hand");
    let mut roster = Roster::default();
    roster.apply(1, &batch(A, 0, 1, [found, command::Kind::NodeUp(arrival(A, 5))]));
    let effects = roster.apply(2, &batch(9, 0, 1, [recovered()]));
    assert!(effects.placed && effects.fenced == [(A, 1)]);
    let placed: Vec<_> = roster.placements().iter().map(|p| (p.members.clone(), p.formed)).collect();
    assert_eq!(placed, [(vec![], false), (vec![9], true)]);
    assert_eq!(roster.leaving().map(|node| (node.id, node.state())), Some((A, NodeState::Down)));
}
