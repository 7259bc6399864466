use rollcall_proto::packet::QoS;
use rollcall_proto::schema::shard::Forget;

use super::*;
use crate::inbox::{PACKET_IDS, Source, packet_id};

#[test]
fn a_message_is_kept_once_for_all_its_inboxes() {
    let mut bench = Bench::with(&["x", "y", "z"]);
    let (outcome, effects) = bench.enqueue(&["x", "y", "unknown"], "a");
    assert_eq!(outcome, done(2));
    assert_eq!(effects.filled, ["x".into(), "y".into()]);
    assert_eq!((bench.told("x"), bench.told("y")), (vec!["1:a".to_owned()], vec!["1:a".to_owned()]));
    assert!(bench.told("z").is_empty());
    assert_eq!(bench.shard.body_count(), 1);
}

#[test]
fn each_subscriber_gets_it_as_it_subscribed() {
    let mut bench = Bench::with(&["x", "y"]);
    let as_x = Target { qos: 1, retain: true, subscription_ids: vec![7], ..target("x") };
    let as_y = Target { qos: 2, subscription_ids: vec![3, 4], ..target("y") };
    let enqueue = Enqueue { targets: vec![as_x, as_y], ..enqueue(&[], "a") };
    bench.run(command::Kind::Enqueue(enqueue));
    let queued = |client_id| bench.waiting(client_id)[0].queued.clone();
    assert_eq!((queued("x").qos, queued("x").retain), (QoS::AtLeastOnce, true));
    assert_eq!(queued("x").subscription_ids.as_slice(), [7]);
    assert_eq!((queued("y").qos, queued("y").retain), (QoS::ExactlyOnce, false));
    assert_eq!(queued("y").subscription_ids.as_slice(), [3, 4]);
}

#[test]
fn another_incarnations_inbox_takes_nothing() {
    let mut bench = Bench::new();
    bench.run(open("x", 2, 2));
    for incarnation in [1, 3] {
        let targets = vec![Target { incarnation, ..target("x") }];
        let (outcome, effects) = bench.run(command::Kind::Enqueue(Enqueue { targets, ..enqueue(&[], "a") }));
        assert_eq!((outcome, effects.filled.len()), (done(0), 0));
    }
    assert_eq!(bench.shard.body_count(), 0);
    assert!(bench.shard.read("x", 1, 0, 10).is_empty());
}

#[test]
fn a_message_expires_so_long_after_its_entry() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue_for(500, &["x"], "a");
    bench.enqueue(&["x"], "b");
    let expiries: Vec<u64> = bench.waiting("x").iter().map(|waiting| waiting.expires_at).collect();
    assert_eq!(expiries, [bench.now + 500, 0]);
}

#[test]
fn reading_goes_on_behind_a_position_and_stops_at_the_limit() {
    let mut bench = Bench::with(&["x"]);
    for number in 0..200 {
        bench.enqueue(&["x"], &number.to_string());
    }
    let read = |after, limit| bench.shard.read("x", 1, after, limit).iter().map(|w| w.position).collect::<Vec<_>>();
    assert_eq!(read(0, 3), [1, 2, 3]);
    assert_eq!(read(197, 10), [198, 199, 200]);
    assert!(read(200, 10).is_empty());
}

#[test]
fn a_burst_for_one_client_is_said_once() {
    let mut bench = Bench::with(&["x", "y"]);
    let kinds = [["x"], ["x"], ["y"]].map(|ids| command::Kind::Enqueue(enqueue(&ids, "a")));
    let effects = bench.shard.apply(bench.now, &batch(2, 1, 1, kinds));
    assert_eq!(effects.filled, ["x".into(), "y".into()]);
}

#[test]
fn what_was_handed_on_once_is_not_taken_again() {
    let mut bench = Bench::with(&["x"]);
    let mut hand_on = |from, payload| {
        let enqueue = Enqueue { origin: Some(from), ..enqueue(&["x"], payload) };
        bench.run(command::Kind::Enqueue(enqueue)).0
    };
    assert_eq!(hand_on(origin("p", 1, 2), "a"), done(1));
    assert_eq!(hand_on(origin("p", 1, 2), "a"), done(0));
    assert_eq!(hand_on(origin("p", 1, 1), "late"), done(0));
    assert_eq!(hand_on(origin("p", 1, 5), "b"), done(1), "numbers may skip: not all hand-ons come to this shard");
    assert_eq!(hand_on(origin("p", 2, 1), "c"), done(1), "another session numbers anew");
    assert_eq!(hand_on(Origin { kind: OriginKind::Will.into(), ..origin("p", 1, 1) }, "d"), done(1));
    assert_eq!(hand_on(Origin { kind: 99, ..origin("p", 1, 9) }, "of a later version"), done(0));
    assert_eq!(bench.told("x"), ["1:a", "2:b", "3:c", "4:d"]);
}

#[test]
fn a_number_counts_as_taken_also_where_no_inbox_took_it() {
    let mut bench = Bench::new();
    let hand_on = |number| Enqueue { origin: Some(origin("p", 1, number)), ..enqueue(&["x"], "a") };
    assert_eq!(bench.run(command::Kind::Enqueue(hand_on(3))).0, done(0));
    bench.run(open("x", 1, 1));
    assert_eq!(bench.run(command::Kind::Enqueue(hand_on(3))).0, done(0));
    assert_eq!(bench.run(command::Kind::Enqueue(hand_on(4))).0, done(1));
}

#[test]
fn a_will_may_come_to_one_shard_both_as_retained_and_for_its_inboxes() {
    let mut bench = Bench::with(&["x"]);
    let from = Some(Origin { kind: OriginKind::Will.into(), ..origin("p", 0, 6) });
    let retain = Retain { origin: from.clone(), ..retain("t", "a") };
    let enqueue = Enqueue { origin: from, ..enqueue(&["x"], "a") };
    for expected in [done(1), done(0)] {
        assert_eq!(bench.run(command::Kind::Retain(retain.clone())).0, expected);
        assert_eq!(bench.run(command::Kind::Enqueue(enqueue.clone())).0, expected);
    }
}

#[test]
fn an_origin_is_forgotten_unless_it_has_handed_on_more_since() {
    let mut bench = Bench::with(&["x"]);
    for client_id in ["p", "q", "r"] {
        let enqueue = Enqueue { origin: Some(origin(client_id, 1, 2)), ..enqueue(&["x"], "a") };
        bench.run(command::Kind::Enqueue(enqueue));
        bench.now += 10;
    }
    let listed: Vec<_> = bench.shard.origins(None).map(|(source, mark)| (source.clone(), *mark)).collect();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().map(|(_, mark)| mark.time).collect::<Vec<_>>(), [1_000_000, 1_000_010, 1_000_020]);
    let more = Enqueue { origin: Some(origin("q", 1, 3)), ..enqueue(&["x"], "b") };
    bench.run(command::Kind::Enqueue(more));
    let origins = listed[..2].iter().map(|(source, mark)| source.numbered(mark.number())).collect();
    assert_eq!(bench.run(command::Kind::Forget(Forget { origins })).0, done(1));
    let left: Vec<&Source> = bench.shard.origins(None).map(|(source, _)| source).collect();
    assert_eq!(left, [&listed[1].0, &listed[2].0]);
    let behind: Vec<&Source> = bench.shard.origins(Some(&listed[1].0)).map(|(source, _)| source).collect();
    assert_eq!(behind, [&listed[2].0]);
}

#[test]
fn packet_ids_follow_from_positions_and_none_is_0_or_above_the_inboxes_share() {
    assert_eq!([1, 2, 32_767, 32_768].map(packet_id), [1, 2, 32_767, 1]);
    assert_eq!(packet_id(u64::MAX), packet_id(u64::MAX % PACKET_IDS));
    let mut window: Vec<u16> = (77_000..77_000 + PACKET_IDS).map(packet_id).collect();
    window.sort_unstable();
    assert!(window.into_iter().eq(1..=32_767), "within the window no two are the same");
}
