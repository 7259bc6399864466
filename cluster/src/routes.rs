//! Where publishes go: live sessions of this node one by one, other nodes by the number of their subscriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_proto::schema::roster::SubscriptionOptions;
use rollcall_proto::trie::Trie;

use crate::roster::{NodeId, RouteChange};

/// Events are read from the log by each subscriber, and never routed.
pub const EVENTS_PREFIX: &str = "$events/";

/// One filter's subscribers.
#[derive(Debug, Default)]
pub struct Route {
    /// Sessions that this node holds, with the number of their connection.
    pub local: BTreeMap<Arc<str>, (u64, SubscriptionOptions)>,
    /// Subscriptions of sessions that other nodes hold.
    pub remote: BTreeMap<NodeId, usize>,
}

#[derive(Debug, Default)]
pub struct Routes {
    me: NodeId,
    trie: Trie<Route>,
}

impl Routes {
    pub fn new(me: NodeId) -> Self {
        Routes { me, trie: Trie::new() }
    }

    /// Every filter that matches, once each.
    pub fn for_each_match(&self, topic: &str, visit: impl FnMut(&Route)) {
        self.trie.for_each_match(topic, visit);
    }

    /// Follows one change of the roster.
    pub fn change(&mut self, change: &RouteChange) {
        match change {
            RouteChange::Add { filter, .. } | RouteChange::Remove { filter, .. }
                if filter.starts_with(EVENTS_PREFIX) => {}
            RouteChange::Add { filter, client_id, owner, options, is_new } => {
                let route = self.trie.get_or_insert_with(filter, Route::default);
                if owner.node == self.me {
                    route.local.insert(client_id.clone(), (owner.connection, *options));
                } else if *is_new {
                    *route.remote.entry(owner.node).or_default() += 1;
                }
            }
            RouteChange::Remove { filter, client_id, owner } => {
                let Some(route) = self.trie.get_mut(filter) else { return };
                if owner.node == self.me {
                    route.local.remove(client_id);
                } else if let Some(count) = route.remote.get_mut(&owner.node) {
                    *count -= 1;
                    if *count == 0 {
                        route.remote.remove(&owner.node);
                    }
                }
                if route.local.is_empty() && route.remote.is_empty() {
                    self.trie.remove(filter);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::Owner;

    const ME: NodeId = 1;

    fn owner(node: NodeId) -> Owner {
        Owner { node, node_epoch: 1, connection: 7 }
    }

    fn add(filter: &str, client_id: &str, node: NodeId, is_new: bool) -> RouteChange {
        RouteChange::Add {
            filter: filter.into(),
            client_id: client_id.into(),
            owner: owner(node),
            options: SubscriptionOptions::default(),
            is_new,
        }
    }

    fn remove(filter: &str, client_id: &str, node: NodeId) -> RouteChange {
        RouteChange::Remove { filter: filter.into(), client_id: client_id.into(), owner: owner(node) }
    }

    fn matches(routes: &Routes, topic: &str) -> (Vec<String>, Vec<NodeId>) {
        let (mut local, mut remote) = (Vec::new(), Vec::new());
        routes.for_each_match(topic, |route| {
            local.extend(route.local.keys().map(|id| id.to_string()));
            remote.extend(route.remote.keys());
        });
        (local, remote)
    }

    #[test]
    fn another_node_is_named_until_its_last_subscription_is_gone() {
        let mut routes = Routes::new(ME);
        for change in [add("a/+", "x", 2, true), add("a/+", "y", 2, true), add("a/b", "z", ME, true)] {
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
        routes.change(&add("a", "x", 2, true));
        routes.change(&add("a", "x", 2, false));
        routes.change(&remove("a", "x", 2));
        assert_eq!(matches(&routes, "a"), (vec![], vec![]));
    }

    #[test]
    fn events_are_not_routed() {
        let mut routes = Routes::new(ME);
        routes.change(&add("$events/#", "x", ME, true));
        assert_eq!(matches(&routes, "$events/client_connected"), (vec![], vec![]));
    }
}
