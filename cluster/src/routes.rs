//! Where publishes go: live sessions of this node one by one, other nodes by the number of their subscriptions, and all
//! durable sessions for what their inboxes keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_proto::schema::roster::SubscriptionOptions;
use rollcall_proto::trie::Trie;

use crate::roster::{NodeId, RouteChange};

pub use crate::roster::EVENTS_PREFIX;

/// One filter's subscribers.
#[derive(Debug, Default)]
pub struct Route {
    /// Sessions that this node holds.
    pub local: BTreeMap<Arc<str>, Local>,
    /// Subscriptions of sessions that other nodes hold.
    pub remote: BTreeMap<NodeId, Remote>,
    /// Durable sessions of the whole cluster, online or not, with their incarnation.
    pub durable: BTreeMap<Arc<str>, (u64, SubscriptionOptions)>,
}

/// A live subscription of this node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Local {
    /// Number of the connection.
    pub connection: u64,
    pub options: SubscriptionOptions,
    /// The session has an inbox.
    pub durable: bool,
}

impl Local {
    /// As [`Remote::live_only`] counts it.
    pub fn is_live_only(&self) -> bool {
        is_live_only(self.durable, &self.options)
    }
}

/// How many live subscriptions another node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remote {
    /// A publish of QoS 0 goes to a node for any of them.
    pub all: usize,
    /// Those that no inbox serves: a publish of QoS 1 or 2 goes to a node for these alone.
    pub live_only: usize,
}

/// Whether a subscriber gets messages of QoS 1 and 2 only while it is there: of a clean session, or as QoS 0.
fn is_live_only(durable: bool, options: &SubscriptionOptions) -> bool {
    !durable || options.qos == 0
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

    /// Filters with a subscriber.
    pub fn len(&self) -> usize {
        self.trie.len()
    }

    pub fn is_empty(&self) -> bool {
        self.trie.is_empty()
    }

    /// Follows one change of the roster.
    pub fn change(&mut self, change: &RouteChange) {
        let (RouteChange::Add { filter, .. }
        | RouteChange::Remove { filter, .. }
        | RouteChange::Keep { filter, .. }
        | RouteChange::Unkeep { filter, .. }) = change;
        if filter.starts_with(EVENTS_PREFIX) {
            return;
        }
        let route = self.trie.get_or_insert_with(filter, Route::default);
        route.change(self.me, change);
        if route.local.is_empty() && route.remote.is_empty() && route.durable.is_empty() {
            self.trie.remove(filter);
        }
    }
}

impl Route {
    fn change(&mut self, me: NodeId, change: &RouteChange) {
        match change {
            RouteChange::Add { client_id, owner, options, durable, before, .. } => {
                if owner.node == me {
                    let local = Local { connection: owner.connection, options: *options, durable: *durable };
                    self.local.insert(client_id.clone(), local);
                } else {
                    let remote = self.remote.entry(owner.node).or_default();
                    if let Some(before) = before {
                        remote.leave(*durable, before);
                    }
                    remote.join(*durable, options);
                }
            }
            RouteChange::Remove { client_id, owner, options, durable, .. } => {
                if owner.node == me {
                    self.local.remove(client_id);
                } else if let Some(remote) = self.remote.get_mut(&owner.node) {
                    remote.leave(*durable, options);
                    if remote.all == 0 {
                        self.remote.remove(&owner.node);
                    }
                }
            }
            RouteChange::Keep { client_id, incarnation, options, .. } => {
                self.durable.insert(client_id.clone(), (*incarnation, *options));
            }
            RouteChange::Unkeep { client_id, .. } => {
                self.durable.remove(client_id);
            }
        }
    }
}

impl Remote {
    fn join(&mut self, durable: bool, options: &SubscriptionOptions) {
        self.all += 1;
        self.live_only += usize::from(is_live_only(durable, options));
    }

    fn leave(&mut self, durable: bool, options: &SubscriptionOptions) {
        self.all -= 1;
        self.live_only -= usize::from(is_live_only(durable, options));
    }
}

#[cfg(test)]
mod tests;
