use super::*;

#[test]
fn acknowledged_messages_leave_from_anywhere_and_positions_are_never_used_again() {
    let mut bench = Bench::with(&["x"]);
    for payload in ["a", "b", "c", "d"] {
        bench.enqueue(&["x"], payload);
    }
    assert_eq!(bench.acknowledge("x", &[2, 4, 99], &[], 4), done(0));
    assert_eq!(bench.told("x"), ["1:a", "3:c"]);
    bench.enqueue(&["x"], "e");
    assert_eq!(bench.told("x"), ["1:a", "3:c", "5:e"]);
    assert_eq!(bench.shard.body_count(), 3);
}

#[test]
fn a_received_message_waits_for_its_pubcomp_without_its_body() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "a");
    bench.acknowledge("x", &[], &[1], 1);
    let waiting = &bench.waiting("x")[0];
    assert!(waiting.queued.received && waiting.body.is_none());
    assert_eq!((bench.shard.body_count(), bench.shard.inbox("x").unwrap().bytes()), (0, 0));
    bench.acknowledge("x", &[], &[1], 1);
    bench.acknowledge("x", &[1], &[], 1);
    assert!(bench.told("x").is_empty());
}

#[test]
fn only_a_message_of_qos_2_is_received() {
    let mut bench = Bench::with(&["x"]);
    let targets = vec![Target { qos: 1, ..target("x") }];
    bench.run(command::Kind::Enqueue(Enqueue { targets, ..enqueue(&[], "a") }));
    bench.acknowledge("x", &[], &[1, 7], 1);
    assert_eq!(bench.told("x"), ["1:a"]);
}

#[test]
fn what_was_sent_and_which_events_were_read_never_goes_back() {
    let mut bench = Bench::with(&["x"]);
    for payload in ["a", "b", "c"] {
        bench.enqueue(&["x"], payload);
    }
    let mut tell = |sent, events| {
        let acknowledge = Acknowledge { sent, events, ..acknowledging("x", 1, 1) };
        bench.run(command::Kind::Acknowledge(acknowledge));
        let inbox = bench.shard.inbox("x").unwrap();
        (inbox.sent(), inbox.events())
    };
    assert_eq!(tell(2, None), (2, None));
    assert_eq!(tell(1, Some(50)), (2, Some(50)));
    assert_eq!(tell(0, Some(49)), (2, Some(50)));
    assert_eq!(tell(99, None), (3, Some(50)), "what is not there yet was not sent");
}

#[test]
fn only_the_connection_that_opened_the_inbox_last_acknowledges() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "a");
    bench.run(open("x", 1, 3));
    for (client_id, incarnation, epoch) in [("x", 1, 1), ("x", 1, 4), ("x", 2, 3), ("unknown", 1, 3)] {
        let acknowledge = Acknowledge { done: vec![1], ..acknowledging(client_id, incarnation, epoch) };
        assert_eq!(bench.run(command::Kind::Acknowledge(acknowledge)).0, STALE);
    }
    assert_eq!(bench.told("x"), ["1:a"]);
    let acknowledge = Acknowledge { done: vec![1], ..acknowledging("x", 1, 3) };
    assert_eq!(bench.run(command::Kind::Acknowledge(acknowledge)).0, done(0));
    assert!(bench.told("x").is_empty());
}
