use rollcall_proto::schema::shard::Sweep;

use super::*;
use crate::pages::PAGES;

fn sweep(client_ids: &[&str]) -> command::Kind {
    let client_ids = client_ids.iter().map(|client_id| client_id.to_string()).collect();
    command::Kind::Sweep(Sweep { client_ids, ..Sweep::default() })
}

#[test]
fn a_sweep_frees_what_has_expired_by_the_logs_time_in_the_inboxes_it_names() {
    let mut bench = Bench::with(&["x", "y"]);
    for client_id in ["x", "y"] {
        bench.enqueue_for(10, &[client_id], "a");
        bench.enqueue(&[client_id], "b");
        bench.enqueue_for(11, &[client_id], "c");
    }
    bench.now += 10;
    assert_eq!(bench.run(sweep(&["x", "unknown"])).0, done(1));
    assert_eq!(bench.told("x"), ["2:b", "3:c"]);
    assert_eq!(bench.told("y").len(), 3);
    assert_eq!(bench.shard.inbox("x").unwrap().dropped(), 0, "expired is not dropped");
}

#[test]
fn only_inboxes_in_which_something_has_expired_are_named() {
    let mut bench = Bench::with(&["x", "y", "z"]);
    bench.enqueue_for(10, &["x"], "a");
    bench.enqueue(&["y"], "b");
    bench.enqueue_for(20, &["z"], "c");
    assert!(bench.shard.expired(0..PAGES, bench.now + 9, 10).is_empty());
    assert_eq!(bench.shard.expired(0..PAGES, bench.now + 10, 10), ["x"]);
    assert_eq!(bench.shard.expired(0..PAGES, bench.now + 20, 1).len(), 1);
    bench.acknowledge("x", &[1], &[], 1);
    assert!(bench.shard.expired(0..PAGES, bench.now + 10, 10).is_empty(), "it has left");
}

#[test]
fn a_received_message_does_not_expire() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue_for(10, &["x"], "a");
    bench.acknowledge("x", &[], &[1], 1);
    bench.now += 10;
    assert!(bench.shard.expired(0..PAGES, bench.now, 10).is_empty());
    assert_eq!(bench.run(sweep(&["x"])).0, done(0));
    assert_eq!(bench.told("x"), ["1:-"]);
}

#[test]
fn what_may_have_been_sent_does_not_expire() {
    // [MQTT-4.3.3-7]
    let mut bench = Bench::with(&["x"]);
    for payload in ["a", "b", "c"] {
        bench.enqueue_for(10, &["x"], payload);
    }
    bench.acknowledge("x", &[], &[], 2);
    bench.now += 10;
    assert_eq!(bench.shard.expired(0..PAGES, bench.now, 10), ["x"]);
    assert_eq!(bench.run(sweep(&["x"])).0, done(1));
    assert_eq!(bench.told("x"), ["1:a", "2:b"]);
    assert!(bench.shard.expired(0..PAGES, bench.now, 10).is_empty());
}
