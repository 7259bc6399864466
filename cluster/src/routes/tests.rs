use super::*;
use crate::roster::Owner;

const ME: NodeId = 1;

fn owner(node: NodeId) -> Owner {
    Owner { node, node_epoch: 1, connection: 7 }
}

fn at(qos: u32) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// Of a clean session.
fn add(filter: &str, client_id: &str, node: NodeId) -> RouteChange {
    joined(filter, client_id, node, false, 1, None)
}

fn joined(
    filter: &str,
    client_id: &str,
    node: NodeId,
    durable: bool,
    qos: u32,
    before: Option<SubscriptionOptions>,
) -> RouteChange {
    let (filter, client_id, owner, options) = (filter.into(), client_id.into(), owner(node), at(qos));
    RouteChange::Add { filter, client_id, owner, options, durable, before }
}

fn remove(filter: &str, client_id: &str, node: NodeId) -> RouteChange {
    left(filter, client_id, node, false, 1)
}

fn left(filter: &str, client_id: &str, node: NodeId, durable: bool, qos: u32) -> RouteChange {
    let (filter, client_id, owner, options) = (filter.into(), client_id.into(), owner(node), at(qos));
    RouteChange::Remove { filter, client_id, owner, options, durable }
}

fn keep(filter: &str, client_id: &str, incarnation: u64, qos: u32) -> RouteChange {
    RouteChange::Keep { filter: filter.into(), client_id: client_id.into(), incarnation, options: at(qos) }
}

fn unkeep(filter: &str, client_id: &str) -> RouteChange {
    RouteChange::Unkeep { filter: filter.into(), client_id: client_id.into() }
}

fn matches(routes: &Routes, topic: &str) -> (Vec<String>, Vec<NodeId>) {
    let (mut local, mut remote) = (Vec::new(), Vec::new());
    routes.for_each_match(topic, |route| {
        local.extend(route.local.keys().map(|id| id.to_string()));
        remote.extend(route.remote.keys());
    });
    (local, remote)
}

/// Live subscriptions of node 2, and those that no inbox serves.
fn counts(routes: &Routes, topic: &str) -> (usize, usize) {
    let mut found = Remote::default();
    routes.for_each_match(topic, |route| found = route.remote.get(&2).copied().unwrap_or_default());
    (found.all, found.live_only)
}

#[test]
fn another_node_is_named_until_its_last_subscription_is_gone() {
    let mut routes = Routes::new(ME);
    for change in [add("a/+", "x", 2), add("a/+", "y", 2), add("a/b", "z", ME)] {
        routes.change(&change);
    }
    assert_eq!(matches(&routes, "a/b"), (vec!["z".into()], vec![2]));
    routes.change(&remove("a/+", "x", 2));
    assert_eq!(matches(&routes, "a/b").1, vec![2]);
    routes.change(&remove("a/+", "y", 2));
    assert_eq!(matches(&routes, "a/b"), (vec!["z".into()], vec![]));
}

#[test]
fn other_options_for_the_same_filter_are_no_second_subscription() {
    let mut routes = Routes::new(ME);
    routes.change(&add("a", "x", 2));
    routes.change(&joined("a", "x", 2, false, 0, Some(at(1))));
    routes.change(&left("a", "x", 2, false, 0));
    assert_eq!(matches(&routes, "a"), (vec![], vec![]));
    assert!(routes.is_empty());
}

#[test]
fn events_are_not_routed() {
    let mut routes = Routes::new(ME);
    routes.change(&add("$events/#", "x", ME));
    routes.change(&keep("$events/#", "x", 1, 1));
    assert!(routes.is_empty());
    routes.change(&unkeep("$events/#", "x"));
    assert_eq!(matches(&routes, "$events/client_connected"), (vec![], vec![]));
}

#[test]
fn a_node_is_counted_for_higher_qos_only_where_no_inbox_serves() {
    let mut routes = Routes::new(ME);
    routes.change(&joined("a", "kept", 2, true, 1, None));
    assert_eq!(counts(&routes, "a"), (1, 0));
    routes.change(&joined("a", "kept-at-0", 2, true, 0, None));
    routes.change(&joined("a", "clean", 2, false, 2, None));
    assert_eq!(counts(&routes, "a"), (3, 2));
    routes.change(&joined("a", "kept", 2, true, 0, Some(at(1))));
    routes.change(&joined("a", "kept-at-0", 2, true, 2, Some(at(0))));
    assert_eq!(counts(&routes, "a"), (3, 2));
    routes.change(&left("a", "kept", 2, true, 0));
    routes.change(&left("a", "clean", 2, false, 2));
    assert_eq!(counts(&routes, "a"), (1, 0));
    routes.change(&left("a", "kept-at-0", 2, true, 2));
    assert!(routes.is_empty());
}

#[test]
fn what_is_kept_stays_whoever_owns_the_session() {
    let mut routes = Routes::new(ME);
    routes.change(&keep("a", "x", 3, 1));
    routes.change(&joined("a", "x", ME, true, 1, None));
    routes.change(&keep("a", "x", 3, 2));
    routes.change(&left("a", "x", ME, true, 1));
    let mut kept = Vec::new();
    routes.for_each_match("a", |route| {
        assert!(route.local.is_empty() && route.remote.is_empty());
        kept.extend(route.durable.iter().map(|(id, (incarnation, options))| (id.clone(), *incarnation, options.qos)));
    });
    assert_eq!(kept, [("x".into(), 3, 2)]);
    routes.change(&unkeep("a", "x"));
    assert!(routes.is_empty());
}

#[test]
fn a_live_subscription_here_says_whether_an_inbox_serves_it() {
    let mut routes = Routes::new(ME);
    for (filter, durable, qos, live_only) in [("a", true, 1, false), ("b", true, 0, true), ("c", false, 2, true)] {
        routes.change(&joined(filter, "x", ME, durable, qos, None));
        routes.for_each_match(filter, |route| assert_eq!(route.local["x"].is_live_only(), live_only, "{filter}"));
    }
}

/// Of the one group that the topic has: who is there, and who is away.
fn group(routes: &Routes, topic: &str) -> (Vec<String>, Vec<String>) {
    let (mut there, mut away) = (Vec::new(), Vec::new());
    routes.for_each_match(topic, |route| {
        assert!(route.local.is_empty() && route.remote.is_empty() && route.durable.is_empty());
        for (client_id, member) in route.shared.values().flat_map(Group::members) {
            if member.owner.is_some() { &mut there } else { &mut away }.push(client_id.to_string());
        }
    });
    (there, away)
}

#[test]
fn every_member_of_a_shared_subscription_is_known_wherever_it_is() {
    const SHARE: &str = "$share/g/a/+";
    let mut routes = Routes::new(ME);
    routes.change(&add(SHARE, "here", ME));
    routes.change(&add(SHARE, "there", 2));
    routes.change(&keep(SHARE, "kept", 3, 1));
    assert_eq!(group(&routes, "a/b"), (vec!["here".into(), "there".into()], vec!["kept".into()]));
    assert_eq!(group(&routes, SHARE), (vec![], vec![]), "nobody publishes to that");
    routes.change(&joined(SHARE, "kept", 2, true, 1, None));
    routes.change(&remove(SHARE, "here", ME));
    assert_eq!(group(&routes, "a/b"), (vec!["kept".into(), "there".into()], vec![]));
    routes.change(&left(SHARE, "kept", 2, true, 1));
    routes.change(&unkeep(SHARE, "kept"));
    routes.change(&remove(SHARE, "there", 2));
    assert!(routes.is_empty());
}

#[test]
fn two_groups_of_one_filter_are_two_and_one_name_with_two_filters_as_well() {
    let mut routes = Routes::new(ME);
    for share in ["$share/g/a", "$share/h/a", "$share/g/+"] {
        routes.change(&add(share, "x", ME));
    }
    assert_eq!(group(&routes, "a").0.len(), 3);
    assert_eq!(group(&routes, "b").0.len(), 1);
}
