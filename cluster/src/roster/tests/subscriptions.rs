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
    assert_eq!(outcome, outcome::Kind::Subscribed(Subscribed { after: before, existed: vec![false, false] }));
    assert_eq!(told(&effects), ["x 1 subscribed a on node-1", "x 1 subscribed b/# on node-1"]);
    assert_eq!(routed(&effects.routes), ["keep a of 1", "add a 1", "keep b/# of 1", "add b/# 1"]);
    let added = RouteChange::Add {
        filter: "a".into(),
        client_id: "x".into(),
        owner: bench.roster.session("x").unwrap().owner.unwrap(),
        options: SubscriptionOptions { qos: 1, ..SubscriptionOptions::default() },
        durable: true,
        before: None,
    };
    assert_eq!(effects.routes[1], added);
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
    let before = match effects.routes[..] {
        [RouteChange::Keep { .. }, RouteChange::Add { before: Some(before), options, .. }] if options.qos == 2 => {
            before
        }
        _ => panic!("{:?}", effects.routes),
    };
    assert_eq!(before.qos, 1);
}

#[test]
fn unsubscribing_tells_for_each_filter_whether_it_was_there() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a", "b"]);
    let (outcome, effects) = bench.run(A, unsubscribe("x", epoch, &["a", "never", "a"]));
    assert_eq!(outcome, outcome::Kind::Unsubscribed(Unsubscribed { existed: vec![true, false, false] }));
    assert_eq!(told(&effects), ["x 1 unsubscribed a on node-1"]);
    assert_eq!(routed(&effects.routes), ["remove a 1", "unkeep a"]);
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
    let mut news = Vec::new();
    for change in &effects.routes {
        if let RouteChange::Add { before, .. } = change {
            news.push(before.is_none());
        }
    }
    assert_eq!(news, [true, false]);
    assert_eq!(bench.roster.session("x").unwrap().subscriptions["a"].qos, 2);
}

#[test]
fn live_routes_are_those_of_the_online_sessions() {
    let mut bench = Bench::new();
    for (node, client_id) in [(A, "on"), (B, "off")] {
        let epoch = bench.granted(node, lasting(client_id));
        bench.subscribe(node, client_id, epoch, &["a"]);
    }
    bench.release(B, "off", 1);
    let live = bench.roster.routes().filter(|change| matches!(change, RouteChange::Add { .. }));
    assert_eq!(routed(&live.collect::<Vec<_>>()), ["add a 1"]);
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

#[test]
fn the_answer_says_of_each_filter_whether_it_was_subscribed() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    bench.subscribe(A, "x", epoch, &["a"]);
    let (outcome, _) = bench.subscribe(A, "x", epoch, &["b", "a", "b"]);
    let outcome::Kind::Subscribed(Subscribed { existed, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(existed, [false, true, true], "in the order of the command, which may repeat a filter");
}

#[test]
fn a_subscription_to_events_knows_the_last_event_before_it() {
    let mut bench = Bench::new();
    let epoch = bench.granted(A, lasting("x"));
    let since = |bench: &Bench, filter: &str| bench.roster.session("x").unwrap().subscriptions[filter].since;
    let (_, effects) = bench.subscribe(A, "x", epoch, &["a", "$events/#"]);
    assert_eq!((since(&bench, "$events/#"), since(&bench, "a")), (1, 0), "before all events of its own command");
    let told: Vec<_> = effects.events.iter().map(|event| event.body.clone().unwrap()).collect();
    assert!(told.contains(&event::Body::Subscribed(subscription("$events/#", 1))), "told without it: {told:?}");
    let (_, effects) = bench.subscribe(A, "x", epoch, &["$events/#"]);
    assert!(effects.events.is_empty() && effects.routes.is_empty(), "it is no other option");
    let again = Subscribe {
        client_id: "x".into(),
        epoch,
        subscriptions: vec![Subscription {
            filter: "$events/#".into(),
            options: Some(SubscriptionOptions { since: 99, ..SubscriptionOptions::default() }),
        }],
        max_filters: 0,
    };
    bench.run(A, command::Kind::Subscribe(again));
    assert_eq!(since(&bench, "$events/#"), 1, "what was subscribed is subscribed since then");
    let (_, effects) = bench.run(A, unsubscribe("x", epoch, &["$events/#"]));
    assert_eq!(effects.events[0].body, Some(event::Body::Unsubscribed(subscription("$events/#", 0))));
    bench.subscribe(A, "x", epoch, &["$events/#"]);
    assert_eq!(since(&bench, "$events/#"), bench.roster.seq() - 1, "it begins anew");
}
