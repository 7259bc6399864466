//! Where publishes go: live sessions of this node one by one, other nodes by the number of their subscriptions, and all
//! durable sessions for what their inboxes keep. Of a shared subscription every node knows every member: the publisher's
//! node chooses.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::roster::SubscriptionOptions;
use rollcall_proto::schema::shard::Target;
use rollcall_proto::topic::Filter;
use rollcall_proto::trie::Trie;

use crate::roster::{NodeId, Owner, RouteChange};

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
    /// Shared subscriptions, by the whole filter with `$share/` and the group's name.
    pub shared: BTreeMap<Arc<str>, Group>,
}

/// The members of one shared subscription, of whom each message goes to one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Group(BTreeMap<Arc<str>, Member>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Member {
    /// The connection, while there is one.
    pub owner: Option<Owner>,
    /// The incarnation of a durable session.
    pub durable: Option<u64>,
    pub options: SubscriptionOptions,
}

impl Member {
    /// The lower of the message's QoS and the subscription's.
    pub fn qos(&self, message: &Message) -> QoS {
        message.qos.min(QoS::from_bits(self.options.qos as u8).unwrap_or_default())
    }

    pub fn retain(&self, message: &Message) -> bool {
        message.retain && self.options.retain_as_published
    }

    /// `None` where no inbox takes the message: of a clean session, or at QoS 0.
    pub fn target(&self, client_id: &str, message: &Message) -> Option<Target> {
        let (incarnation, qos) = (self.durable?, self.qos(message));
        let id = self.options.subscription_id;
        (qos > QoS::AtMostOnce).then(|| Target {
            client_id: client_id.into(),
            incarnation,
            qos: qos as u32,
            retain: self.retain(message),
            subscription_ids: (id > 0).then_some(id).into_iter().collect(),
        })
    }
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
        // What is in the log was checked before it came there.
        let Ok(Filter { group, filter: key }) = Filter::parse(filter) else { return };
        let route = self.trie.get_or_insert_with(key, Route::default);
        if group.is_some() {
            let group = route.shared.entry(filter.clone()).or_default();
            group.change(change);
            if group.0.is_empty() {
                route.shared.remove(filter);
            }
        } else {
            route.change(self.me, change);
        }
        if route.is_empty() {
            self.trie.remove(key);
        }
    }
}

impl Group {
    /// By client id.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.0.iter()
    }

    /// Whom a will is for, the same member wherever and whenever it is asked of the same routes: one of those who are
    /// connected, if there are any.
    pub fn of_will(&self, will: &Message) -> Option<(&Arc<str>, &Member)> {
        let is_there = |found: &(&Arc<str>, &Member)| found.1.owner.is_some();
        let there = self.members().filter(is_there).count();
        // Not at random, yet not the same member for everybody's wills.
        let turn = will.publisher.bytes().fold(0_usize, |turn, byte| turn.wrapping_mul(31).wrapping_add(byte.into()));
        match there {
            0 => self.members().nth(turn % self.0.len().max(1)),
            there => self.members().filter(is_there).nth(turn % there),
        }
    }

    fn change(&mut self, change: &RouteChange) {
        match change {
            RouteChange::Add { client_id, owner, options, .. } => {
                let member = self.0.entry(client_id.clone()).or_default();
                (member.owner, member.options) = (Some(*owner), *options);
            }
            RouteChange::Keep { client_id, incarnation, options, .. } => {
                let member = self.0.entry(client_id.clone()).or_default();
                (member.durable, member.options) = (Some(*incarnation), *options);
            }
            RouteChange::Remove { client_id, owner, .. } => {
                self.leave(client_id, |member| member.owner = member.owner.filter(|now| now != owner));
            }
            RouteChange::Unkeep { client_id, .. } => self.leave(client_id, |member| member.durable = None),
        }
    }

    fn leave(&mut self, client_id: &Arc<str>, leave: impl FnOnce(&mut Member)) {
        let Some(member) = self.0.get_mut(client_id) else { return };
        leave(member);
        if member.owner.is_none() && member.durable.is_none() {
            self.0.remove(client_id);
        }
    }
}

impl Route {
    fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty() && self.durable.is_empty() && self.shared.is_empty()
    }

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
