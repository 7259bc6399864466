use rollcall_proto::schema::roster::{Stale, Subscribed, TooMany, Unsubscribe, Unsubscribed};

use super::*;
use crate::roster::RouteChange;

fn unsubscribe(client_id: &str, epoch: u64, filters: &[&str]) -> command::Kind {
    let filters = filters.iter().map(|filter| filter.to_string()).collect();
    command::Kind::Unsubscribe(Unsubscribe { client_id: client_id.into(), epoch, filters })
}

#[test]
fn each_new_filter_is_one_route_and_one_event() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    let before = bench.roster.seq();
    let (outcome, effects) = bench.subscribe(A, "x", epoch, &["a", "b/#"]);
    assert_eq!(outcome, outcome::Kind::Subscribed(Subscribed { after: before, ..Subscribed::default() }));
    assert_eq!(told(&effects), ["x 1 subscribed a on node-1", "x 1 subscribed b/# on node-1"]);
    let expected: Vec<_> = ["a", "b/#"]
        .map(|filter| RouteChange::Add {
            filter: filter.into(),
            client_id: "x".into(),
            owner: bench.roster.session("x").unwrap().owner.unwrap(),
            options: SubscriptionOptions { qos: 1, ..SubscriptionOptions::default() },
            is_new: true,
        })
        .into();
    assert_eq!(effects.routes, expected);
}

#[test]
fn subscribing_again_is_an_event_only_with_other_options() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let (_, effects) = bench.subscribe(A, "x", epoch, &["a"]);
    assert!(effects.events.is_empty() && effects.routes.is_empty());
    let other = Subscribe { client_id: "x".into(), epoch, subscriptions: vec![subscription("a", 2)], max_filters: 0 };
    let (_, effects) = bench.run(A, command::Kind::Subscribe(other));
    assert_eq!(told(&effects), ["x 1 subscribed a on node-1"]);
    assert!(matches!(effects.routes[..], [RouteChange::Add { is_new: false, options, .. }] if options.qos == 2));
}

#[test]
fn unsubscribing_tells_for_each_filter_whether_it_was_there() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a", "b"]);
    let (outcome, effects) = bench.run(A, unsubscribe("x", epoch, &["a", "never", "a"]));
    assert_eq!(outcome, outcome::Kind::Unsubscribed(Unsubscribed { existed: vec![true, false, false] }));
    assert_eq!(told(&effects), ["x 1 unsubscribed a on node-1"]);
    assert!(matches!(&effects.routes[..], [RouteChange::Remove { filter, .. }] if &**filter == "a"));
    let left: Vec<_> = bench.roster.session("x").unwrap().subscriptions.keys().cloned().collect();
    assert_eq!(left, ["b".into()]);
}

#[test]
fn only_the_owner_may_change_the_subscriptions() {
    let mut bench = Bench::new();
    let old = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", old, &["a"]);
    let epoch = bench.granted(B, lasting("x"));
    let count = bench.roster.seq();
    for (node, of) in [(A, old), (A, epoch), (B, old), (C, epoch)] {
        assert_eq!(bench.subscribe(node, "x", of, &["b"]).0, outcome::Kind::Stale(Stale {}));
        assert_eq!(bench.run(node, unsubscribe("x", of, &["a"])).0, outcome::Kind::Stale(Stale {}));
    }
    bench.release(B, "x", epoch);
    assert_eq!(bench.subscribe(B, "x", epoch, &["b"]).0, outcome::Kind::Stale(Stale {}), "offline");
    assert_eq!(bench.roster.seq(), count + 1, "the disconnect alone is an event");
    assert_eq!(bench.roster.session("x").unwrap().subscriptions.len(), 1);
}

#[test]
fn the_same_filter_twice_in_one_subscribe_ends_with_the_last_options() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    let subscriptions = vec![subscription("a", 0), subscription("a", 2)];
    let (_, effects) = bench
        .run(A, command::Kind::Subscribe(Subscribe { client_id: "x".into(), epoch, subscriptions, max_filters: 0 }));
    assert_eq!(effects.events.len(), 2);
    let news: Vec<bool> =
        effects.routes.iter().map(|change| matches!(change, RouteChange::Add { is_new: true, .. })).collect();
    assert_eq!(news, [true, false]);
    assert_eq!(bench.roster.session("x").unwrap().subscriptions["a"].qos, 2);
}

#[test]
fn routes_are_those_of_the_online_sessions() {
    let mut bench = Bench::new();
    for (node, client_id) in [(A, "on"), (B, "off")] {
        let epoch = bench.granted(node, lasting(client_id));
        bench.subscribe(node, client_id, epoch, &["a"]);
    }
    bench.release(B, "off", 1);
    let routes: Vec<_> = bench.roster.routes().collect();
    assert!(
        matches!(&routes[..], [RouteChange::Add { client_id, owner, .. }] if &**client_id == "on" && owner.node == A)
    );
}

#[test]
fn a_subscribe_that_would_hold_too_many_filters_changes_nothing() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a", "b"]);
    let mut with = |filters: &[&str], max_filters| {
        let subscriptions = filters.iter().map(|filter| subscription(filter, 2)).collect();
        bench.run(A, command::Kind::Subscribe(Subscribe { client_id: "x".into(), epoch, subscriptions, max_filters }))
    };
    let (outcome, effects) = with(&["c", "d"], 3);
    assert_eq!(outcome, outcome::Kind::TooMany(TooMany {}));
    assert!(effects.events.is_empty() && effects.routes.is_empty());
    assert_eq!(with(&["a", "c", "c"], 3).1.events.len(), 2, "what is there already, or is named twice, counts once");
    assert_eq!(with(&["d"], 3).0, outcome::Kind::TooMany(TooMany {}));
    assert!(matches!(with(&["d"], 0).0, outcome::Kind::Subscribed(_)), "0 is no bound");
}
