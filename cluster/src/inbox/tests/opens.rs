use rollcall_proto::schema::shard::Close;

use super::*;

fn close(client_id: &str, incarnation: u64, roster_index: u64) -> command::Kind {
    command::Kind::Close(Close { client_id: client_id.into(), incarnation, roster_index })
}

#[test]
fn a_resumed_session_finds_its_inbox_under_the_new_epoch_and_limits() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "a");
    let limits = at_most(7, 70, Overflow::EndSession);
    let again = Open { limits: Some(limits), roster_index: 40, ..opening("x", 1, 4) };
    assert_eq!(bench.run(command::Kind::Open(again)).0, opened(true));
    let inbox = bench.shard.inbox("x").unwrap();
    assert_eq!((inbox.incarnation(), inbox.epoch(), inbox.roster_index()), (1, 4, 40));
    assert_eq!(inbox.limits(), limits);
    assert_eq!(bench.told("x"), ["1:a"]);
}

#[test]
fn what_was_there_counts_as_sent_unless_the_last_connection_said_how_far_it_came() {
    let mut bench = Bench::with(&["x"]);
    for payload in ["a", "b", "c"] {
        bench.enqueue(&["x"], payload);
    }
    let last_word = Acknowledge { sent: 1, events_sent: 9, closed: true, ..acknowledging("x", 1, 1) };
    bench.run(command::Kind::Acknowledge(last_word));
    bench.run(open("x", 1, 2));
    let inbox = bench.shard.inbox("x").unwrap();
    assert_eq!((inbox.is_unclean(), inbox.sent(), inbox.events_sent()), (false, 1, 9));
    // This one dies with its node.
    bench.run(open("x", 1, 3));
    let inbox = bench.shard.inbox("x").unwrap();
    assert_eq!((inbox.is_unclean(), inbox.sent()), (true, 3));
}

#[test]
fn the_same_connection_may_open_again() {
    let mut bench = Bench::with(&["x"]);
    assert_eq!(bench.run(open("x", 1, 1)).0, opened(true));
}

#[test]
fn a_higher_incarnation_finds_a_new_inbox_and_frees_the_old_one() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "a");
    bench.run(command::Kind::Receive(receiving("x", 9, "b", &[])));
    assert_eq!(bench.run(open("x", 3, 3)).0, opened(false));
    let inbox = bench.shard.inbox("x").unwrap();
    assert_eq!((inbox.incarnation(), inbox.next_position(), inbox.handed()), (3, 1, 0));
    assert!(inbox.is_empty() && inbox.held().is_empty());
    assert_eq!((bench.shard.inbox_count(), bench.shard.body_count()), (1, 0));
}

#[test]
fn an_older_connection_or_session_opens_nothing() {
    let mut bench = Bench::new();
    bench.run(open("x", 3, 5));
    for (incarnation, epoch) in [(3, 4), (2, 5), (2, 9), (4, 4)] {
        assert_eq!(bench.run(open("x", incarnation, epoch)).0, STALE);
    }
    let inbox = bench.shard.inbox("x").unwrap();
    assert_eq!((inbox.incarnation(), inbox.epoch()), (3, 5));
}

#[test]
fn a_closed_inbox_is_gone_with_all_that_waited() {
    let mut bench = Bench::with(&["x", "y"]);
    bench.enqueue(&["x"], "a");
    bench.enqueue(&["x", "y"], "b");
    assert_eq!(bench.run(close("x", 1, 1)).0, done(1));
    assert!(bench.shard.inbox("x").is_none());
    assert_eq!(bench.shard.body_count(), 1, "what y still has to receive stays");
    assert_eq!(bench.enqueue(&["x"], "c").0, done(0));
}

#[test]
fn an_inbox_opened_later_or_for_another_session_is_not_closed() {
    let mut bench = Bench::new();
    bench.run(command::Kind::Open(Open { roster_index: 50, ..opening("x", 4, 4) }));
    for (incarnation, roster_index) in [(4, 49), (3, 60), (5, 60)] {
        assert_eq!(bench.run(close("x", incarnation, roster_index)).0, done(0));
    }
    assert_eq!(bench.run(close("unknown", 1, 60)).0, done(0));
    assert_eq!(bench.run(close("x", 4, 50)).0, done(1));
}

#[test]
fn the_inboxes_can_be_looked_through_page_by_page() {
    let ids: Vec<String> = (0..500).map(|number| format!("c{number}")).collect();
    let bench = Bench::with(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let half = crate::pages::PAGES / 2;
    let mut seen: Vec<&str> = [0..half, half..2 * half]
        .into_iter()
        .flat_map(|pages| bench.shard.inboxes(pages).map(|(client_id, _)| client_id))
        .collect();
    seen.sort_unstable();
    let mut all: Vec<&str> = ids.iter().map(String::as_str).collect();
    all.sort_unstable();
    assert_eq!(seen, all);
}

#[test]
fn an_idle_inbox_is_small() {
    assert!(size_of::<crate::inbox::Inbox>() <= 200, "{} bytes", size_of::<crate::inbox::Inbox>());
}
