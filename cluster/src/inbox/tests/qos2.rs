use rollcall_proto::schema::shard::{Close, Complete, HandedOn};

use super::*;

fn receive(packet_id: u32, payload: &str, targets: &[(u32, &[&str])]) -> command::Kind {
    command::Kind::Receive(receiving("p", packet_id, payload, targets))
}

fn complete(packet_id: u32) -> command::Kind {
    command::Kind::Complete(Complete { client_id: "p".into(), incarnation: 1, epoch: 1, packet_id })
}

fn numbers(bench: &Bench) -> Vec<u64> {
    bench.shard.hand_ons(0, 10).iter().map(|handing| handing.hand_on.number).collect()
}

#[test]
fn a_packet_id_is_taken_once_until_it_is_complete() {
    let mut bench = Bench::with(&["p", "x"]);
    assert_eq!(bench.run(receive(7, "a", &[(HERE, &["x"])])).0, done(1));
    let (outcome, effects) = bench.run(receive(7, "a", &[(HERE, &["x"]), (2, &["y"])]));
    assert_eq!((outcome, effects.filled.len(), effects.hand_ons), (done(0), 0, false));
    assert_eq!(bench.shard.inbox("p").unwrap().held(), [7]);
    assert_eq!(bench.run(complete(7)).0, done(0));
    assert_eq!(bench.run(complete(7)).0, done(0), "a PUBREL may come again");
    assert!(bench.shard.inbox("p").unwrap().held().is_empty());
    assert_eq!(bench.run(receive(7, "b", &[(HERE, &["x"])])).0, done(1));
    assert_eq!(bench.told("x"), ["1:a", "2:b"]);
    assert_eq!(bench.shard.inbox("p").unwrap().handed(), 2);
}

#[test]
fn targets_of_this_shard_get_it_at_once_and_all_others_by_one_hand_on() {
    let mut bench = Bench::with(&["p", "x"]);
    let (_, effects) = bench.run(receive(1, "a", &[(2, &["y", "z"]), (HERE, &["x"]), (3, &["w"])]));
    assert_eq!((effects.filled, effects.hand_ons), (vec!["x".into()], true));
    let handing = &bench.shard.hand_ons(0, 10)[0];
    assert_eq!(handing.hand_on.number, 1);
    assert_eq!(handing.hand_on.origin, Some(origin("p", 1, 1)));
    assert_eq!(
        handing.hand_on.targets.iter().map(|to| (to.shard, to.targets.len())).collect::<Vec<_>>(),
        [(2, 2), (3, 1)]
    );
    assert_eq!(text(Some(&handing.body)), "a");
    assert_eq!(bench.shard.body_count(), 1);
}

#[test]
fn a_message_for_this_shard_alone_is_handed_on_to_nobody() {
    let mut bench = Bench::with(&["p", "x"]);
    bench.run(receive(1, "a", &[(HERE, &["x"])]));
    bench.run(receive(2, "b", &[]));
    assert!(numbers(&bench).is_empty());
    assert_eq!(bench.shard.inbox("p").unwrap().handed(), 2);
    assert_eq!(bench.shard.body_count(), 1, "what nobody is to get is not kept");
}

#[test]
fn hand_ons_are_numbered_through_the_shard_and_go_when_they_are_taken() {
    let mut bench = Bench::with(&["p", "q"]);
    bench.run(receive(1, "a", &[(2, &["y"])]));
    bench.run(command::Kind::Receive(receiving("q", 1, "b", &[(2, &["y"])])));
    bench.run(receive(2, "c", &[(2, &["y"])]));
    assert_eq!(numbers(&bench), [1, 2, 3]);
    assert_eq!(bench.shard.hand_ons(1, 1)[0].hand_on.number, 2);
    assert_eq!(bench.run(command::Kind::HandedOn(HandedOn { up_to: 2 })).0, done(2));
    assert_eq!(bench.run(command::Kind::HandedOn(HandedOn { up_to: 2 })).0, done(0));
    assert_eq!((numbers(&bench), bench.shard.body_count()), (vec![3], 1));
    bench.run(command::Kind::HandedOn(HandedOn { up_to: 3 }));
    bench.run(receive(3, "d", &[(2, &["y"])]));
    assert_eq!(numbers(&bench), [4], "a number is never used again");
}

#[test]
fn hand_ons_outlive_their_publishers_inbox() {
    let mut bench = Bench::with(&["p"]);
    bench.run(receive(1, "a", &[(2, &["y"])]));
    bench.run(open("p", 2, 2));
    assert_eq!(numbers(&bench), [1]);
    bench.run(command::Kind::Close(Close { client_id: "p".into(), incarnation: 2, roster_index: 9 }));
    assert_eq!(numbers(&bench), [1]);
    assert_eq!(text(Some(&bench.shard.hand_ons(0, 1)[0].body)), "a");
}

#[test]
fn only_the_connection_that_opened_the_inbox_last_publishes_and_completes() {
    let mut bench = Bench::with(&["p", "x"]);
    bench.run(receive(1, "a", &[]));
    bench.run(open("p", 1, 2));
    assert_eq!(bench.run(receive(2, "b", &[(HERE, &["x"]), (2, &["y"])])).0, STALE);
    assert_eq!(bench.run(complete(1)).0, STALE);
    assert_eq!(bench.shard.inbox("p").unwrap().held(), [1]);
    assert!(bench.told("x").is_empty() && numbers(&bench).is_empty());
    let unknown = receiving("unknown", 1, "c", &[(HERE, &["x"])]);
    assert_eq!(bench.run(command::Kind::Receive(unknown)).0, STALE);
}

#[test]
fn a_hand_on_tells_when_its_message_expires() {
    let mut bench = Bench::with(&["p"]);
    let receive = Receive { expires_in: Some(30), ..receiving("p", 1, "a", &[(2, &["y"])]) };
    bench.run(command::Kind::Receive(receive));
    assert_eq!(bench.shard.hand_ons(0, 1)[0].expires_at, bench.now + 30);
}
