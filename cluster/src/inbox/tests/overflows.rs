use super::*;

/// Bytes of a message whose payload has this length.
fn size(payload: &str) -> u64 {
    message("t", payload).len() as u64
}

#[test]
fn drop_newest_keeps_what_is_there() {
    let mut bench = Bench::limited("x", at_most(2, 0, Overflow::DropNewest));
    for payload in ["a", "b"] {
        assert_eq!(bench.enqueue(&["x"], payload).0, done(1));
    }
    let (outcome, effects) = bench.enqueue(&["x"], "c");
    assert_eq!((outcome, effects.dropped, effects.filled.len()), (done(0), 1, 0));
    assert_eq!(bench.told("x"), ["1:a", "2:b"]);
    assert_eq!(bench.shard.inbox("x").unwrap().dropped(), 1);
    assert_eq!(bench.shard.body_count(), 2);
}

#[test]
fn drop_oldest_makes_room_by_count_and_by_bytes() {
    let mut bench = Bench::limited("x", at_most(3, 2 * size("aaaa"), Overflow::DropOldest));
    for payload in ["aaaa", "bbbb", "cccc"] {
        bench.enqueue(&["x"], payload);
    }
    assert_eq!(bench.told("x"), ["2:bbbb", "3:cccc"]);
    let (_, effects) = bench.enqueue(&["x"], &"d".repeat(size("aaaa") as usize));
    assert_eq!(effects.dropped, 2, "one large message takes the place of two");
    assert_eq!(bench.shard.inbox("x").unwrap().dropped(), 3);
    let bench = {
        let mut bench = Bench::limited("x", at_most(2, 0, Overflow::DropOldest));
        for payload in ["a", "b", "c"] {
            bench.enqueue(&["x"], payload);
        }
        bench
    };
    assert_eq!(bench.told("x"), ["2:b", "3:c"]);
}

#[test]
fn drop_oldest_rather_drops_what_was_never_sent() {
    let mut bench = Bench::limited("x", at_most(4, 0, Overflow::DropOldest));
    for payload in ["a", "b", "c", "d"] {
        bench.enqueue(&["x"], payload);
    }
    bench.acknowledge("x", &[], &[1], 2);
    bench.enqueue(&["x"], "e");
    assert_eq!(bench.told("x"), ["1:-", "2:b", "4:d", "5:e"]);
    bench.acknowledge("x", &[], &[4], 5);
    bench.enqueue(&["x"], "f");
    assert_eq!(bench.told("x"), ["1:-", "4:-", "5:e", "6:f"], "all were sent: the oldest that is not received");
    bench.acknowledge("x", &[], &[5, 6], 6);
    assert_eq!(bench.enqueue(&["x"], "g").0, done(0), "what is received is never dropped");
    assert_eq!(bench.shard.inbox("x").unwrap().dropped(), 3);
}

#[test]
fn a_message_larger_than_the_whole_inbox_displaces_nothing() {
    let mut bench = Bench::limited("x", at_most(0, size("aaaa"), Overflow::DropOldest));
    bench.enqueue(&["x"], "aaaa");
    assert_eq!(bench.enqueue(&["x"], "bbbbb").0, done(0));
    assert_eq!(bench.told("x"), ["1:aaaa"]);
}

#[test]
fn an_overflow_ends_the_session_where_its_policy_says_so() {
    let mut bench = Bench::limited("x", at_most(2, 0, Overflow::EndSession));
    bench.run(command::Kind::Receive(receiving("x", 5, "from x", &[])));
    bench.enqueue(&["x"], "a");
    bench.enqueue(&["x"], "b");
    let (outcome, effects) = bench.enqueue(&["x"], "c");
    assert_eq!((outcome, effects.dropped), (done(0), 3));
    assert_eq!(effects.overflowed, [("x".into(), 1)]);
    let (outcome, effects) = bench.enqueue(&["x"], "d");
    assert_eq!((outcome, effects.dropped, effects.overflowed.len()), (done(0), 1, 0), "said once");
    let inbox = bench.shard.inbox("x").unwrap();
    assert!(inbox.is_overflowed() && inbox.is_empty());
    assert_eq!((inbox.dropped(), inbox.held(), bench.shard.body_count()), (4, &[5][..], 0));
    bench.run(open("x", 1, 2));
    assert_eq!(bench.enqueue(&["x"], "e").0, done(0), "until the session has ended");
    bench.run(open("x", 3, 3));
    assert_eq!(bench.run(command::Kind::Enqueue(enqueue(&["x"], "f"))).0, done(0));
    let targets = vec![Target { incarnation: 3, ..target("x") }];
    assert_eq!(bench.run(command::Kind::Enqueue(Enqueue { targets, ..enqueue(&[], "f") })).0, done(1));
}

#[test]
fn what_has_expired_goes_before_anything_live() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest, Overflow::EndSession] {
        let mut bench = Bench::limited("x", at_most(3, 0, overflow));
        bench.enqueue(&["x"], "a");
        bench.enqueue_for(10, &["x"], "b");
        bench.enqueue_for(20, &["x"], "c");
        bench.now += 10;
        let (outcome, effects) = bench.enqueue(&["x"], "d");
        assert_eq!((outcome, effects.dropped), (done(1), 0));
        assert_eq!(bench.told("x"), ["1:a", "3:c", "4:d"]);
    }
}

#[test]
fn what_is_received_takes_a_place_but_no_bytes() {
    let mut bench = Bench::limited("x", at_most(2, size("aaaa"), Overflow::DropNewest));
    bench.enqueue(&["x"], "aaaa");
    bench.acknowledge("x", &[], &[1], 1);
    assert_eq!(bench.enqueue(&["x"], "bbbb").0, done(1));
    bench.acknowledge("x", &[], &[2], 2);
    assert_eq!(bench.enqueue(&["x"], "c").0, done(0));
    bench.acknowledge("x", &[1], &[], 2);
    assert_eq!(bench.enqueue(&["x"], "c").0, done(1));
}

#[test]
fn an_inbox_named_twice_may_drop_the_very_message_it_takes() {
    let mut bench = Bench::limited("x", at_most(1, 0, Overflow::DropOldest));
    assert_eq!(bench.enqueue(&["x", "x"], "a").0, done(2));
    assert_eq!(bench.told("x"), ["2:a"]);
}

#[test]
fn lowered_limits_hold_from_the_next_message_on() {
    let mut bench = Bench::with(&["x"]);
    for payload in ["a", "b", "c", "d"] {
        bench.enqueue(&["x"], payload);
    }
    let limits = Some(at_most(2, 0, Overflow::DropOldest));
    bench.run(command::Kind::Open(Open { limits, ..opening("x", 1, 2) }));
    assert_eq!(bench.told("x").len(), 4);
    bench.enqueue(&["x"], "e");
    assert_eq!(bench.told("x"), ["4:d", "5:e"]);
}
