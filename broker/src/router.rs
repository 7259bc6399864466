//! From a publish to the connections of this node and the links to the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, OnceLock};

use bytestring::ByteString;
use dashmap::DashMap;
use rollcall_cluster::forward::Link;
use rollcall_cluster::replica::Replica;
use rollcall_cluster::roster::{Lost, NodeId, Roster};
use rollcall_cluster::{Cluster, Observer};
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::DisconnectReason;

use crate::mailbox::{End, Mailbox};
use crate::meters::Meters;

/// Topics whose matches are remembered; when there are more, all are forgotten.
const CACHED_TOPICS: usize = 65_536;

/// One subscriber on this node, all its matching subscriptions taken together.
#[derive(Debug, Clone)]
struct Subscriber {
    mailbox: Arc<Mailbox>,
    qos: QoS,
    retain_as_published: bool,
    /// The client id, if what it publishes itself is not for it.
    not_from: Option<Arc<str>>,
    ids: SubscriptionIds,
}

/// Where a topic's messages go.
#[derive(Debug, Default)]
struct Matched {
    generation: u64,
    local: Vec<Subscriber>,
    nodes: Vec<NodeId>,
}

/// What became of a publish.
#[derive(Default)]
pub struct Routed {
    /// Whether any subscription matched.
    pub matched: bool,
    /// What other nodes have still to acknowledge.
    awaited: Vec<(Arc<Link>, u64)>,
}

impl Routed {
    pub fn is_received(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Waits until every other node has it, or is too long silent to be waited for.
    pub async fn received(&self) {
        for (link, number) in &self.awaited {
            link.received(*number).await;
        }
    }
}

/// Why a publish cannot be routed now. Nothing was done; try again after [`Hold::over`].
pub enum Hold {
    /// This node has no route lease: its subscription table may be old.
    Lease(Cluster),
    /// A link's window is full.
    Link { link: Arc<Link>, may_be_dropped: bool },
}

impl Hold {
    pub async fn over(self) {
        match self {
            Hold::Lease(cluster) => cluster.leases().route().await,
            Hold::Link { link, may_be_dropped } => link.room(may_be_dropped).await,
        }
    }
}

pub struct Router {
    /// Set once, before the first connection.
    cluster: OnceLock<Cluster>,
    /// By connection number.
    connections: DashMap<u64, Arc<Mailbox>>,
    cache: DashMap<ByteString, Arc<Matched>>,
    meters: Arc<Meters>,
}

impl Router {
    pub fn new(meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Router { cluster: OnceLock::new(), connections: DashMap::new(), cache: DashMap::new(), meters })
    }

    /// Entries are applied, and publishes of other nodes come in, as soon as the cluster starts; connections only come
    /// after this.
    pub fn attach(&self, cluster: Cluster) {
        // A second cluster would be a mistake of the caller; the first one stays.
        let _ = self.cluster.set(cluster);
    }

    /// Before the connection's claim: what is for it may come as soon as that is applied.
    pub fn register(&self, connection: u64, mailbox: Arc<Mailbox>) {
        self.connections.insert(connection, mailbox);
    }

    pub fn unregister(&self, connection: u64) {
        self.connections.remove(&connection);
    }

    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The mailboxes of all connections, as they are now.
    pub fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.connections.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Delivers to the connections of this node and puts the message on the links to the others, all of it or nothing.
    ///
    /// # Errors
    /// [`Hold`] when the publisher has to wait.
    pub fn route(&self, message: &Arc<Message>) -> Result<Routed, Hold> {
        let Some(cluster) = self.cluster.get() else { return Ok(Routed::default()) };
        if !cluster.leases().may_route() {
            return Err(Hold::Lease(cluster.clone()));
        }
        let matched = self.matched(cluster.replica(), &message.topic);
        let mut links = Vec::new();
        for node in &matched.nodes {
            let Some(link) = cluster.links().to(*node) else { continue };
            if link.is_full() {
                if message.qos == QoS::AtMostOnce && link.is_silent() {
                    self.meters.dropped_link_full.increment(1);
                    continue;
                }
                return Err(Hold::Link { link, may_be_dropped: message.qos == QoS::AtMostOnce });
            }
            links.push(link);
        }
        let mut routed =
            Routed { matched: !matched.local.is_empty() || !matched.nodes.is_empty(), awaited: Vec::new() };
        for link in links {
            let number = link.send(message);
            self.meters.forwarded.increment(1);
            if message.qos != QoS::AtMostOnce {
                routed.awaited.push((link, number));
            }
        }
        self.deliver(&matched, message);
        Ok(routed)
    }

    fn deliver(&self, matched: &Matched, message: &Arc<Message>) {
        let mut dropped = 0;
        for subscriber in &matched.local {
            if subscriber.not_from.as_deref().is_some_and(|id| *id == *message.publisher) {
                continue;
            }
            dropped += subscriber.mailbox.deliver(Delivery {
                message: message.clone(),
                qos: message.qos.min(subscriber.qos),
                retain: message.retain && subscriber.retain_as_published,
                dup: false,
                subscription_ids: subscriber.ids.clone(),
            });
        }
        if dropped > 0 {
            self.meters.dropped_mailbox_full.increment(dropped as u64);
        }
    }

    /// From the cache, unless the routes have changed since.
    fn matched(&self, replica: &Replica, topic: &ByteString) -> Arc<Matched> {
        let generation = replica.generation();
        if let Some(known) = self.cache.get(topic).filter(|known| known.generation == generation) {
            return known.clone();
        }
        let matched = Arc::new(self.match_now(replica, topic));
        if self.cache.len() >= CACHED_TOPICS {
            self.cache.clear();
        }
        // A copy, so that the cache does not keep the buffer that the PUBLISH was read into.
        self.cache.insert(ByteString::from(&**topic), matched.clone());
        matched
    }

    fn match_now(&self, replica: &Replica, topic: &str) -> Matched {
        let mut subscribers: BTreeMap<u64, (Subscriber, Vec<u32>)> = BTreeMap::new();
        let mut nodes: Vec<NodeId> = Vec::new();
        // Read before the routes are: what changes meanwhile makes this match outdated, never wrong.
        let generation = replica.generation();
        replica.routes().for_each_match(topic, |route| {
            nodes.extend(route.remote.keys());
            for (client_id, (connection, options)) in &route.local {
                let Some(mailbox) = self.connections.get(connection).map(|entry| entry.value().clone()) else {
                    continue;
                };
                let qos = QoS::from_bits(options.qos as u8).unwrap_or_default();
                let not_from = options.no_local.then(|| client_id.clone());
                let id = (options.subscription_id > 0).then_some(options.subscription_id);
                match subscribers.entry(*connection) {
                    Entry::Vacant(place) => {
                        let retain_as_published = options.retain_as_published;
                        let ids = SubscriptionIds::None;
                        place.insert((
                            Subscriber { mailbox, qos, retain_as_published, not_from, ids },
                            id.into_iter().collect(),
                        ));
                    }
                    Entry::Occupied(mut place) => {
                        let (subscriber, ids) = place.get_mut();
                        subscriber.qos = subscriber.qos.max(qos);
                        subscriber.retain_as_published |= options.retain_as_published;
                        subscriber.not_from = subscriber.not_from.take().and(not_from);
                        ids.extend(id);
                    }
                }
            }
        });
        nodes.sort_unstable();
        nodes.dedup();
        let local = subscribers
            .into_values()
            .map(|(mut subscriber, ids)| {
                subscriber.ids = SubscriptionIds::from(ids.as_slice());
                subscriber
            })
            .collect();
        Matched { generation, local, nodes }
    }
}

impl Observer for Router {
    fn lost(&self, lost: &Lost) {
        if let Some(mailbox) = self.connections.get(&lost.owner.connection) {
            let reason = DisconnectReason::from(lost.reason);
            mailbox.end(End { reason, server_reference: None, released: true });
        }
    }

    fn fenced(&self) {
        for mailbox in self.mailboxes() {
            let reason = DisconnectReason::ServerInternalError;
            mailbox.end(End { reason, server_reference: None, released: false });
        }
    }

    fn replaced(&self, roster: &Roster) {
        let Some(cluster) = self.cluster.get() else { return };
        let me = cluster.me();
        let held: std::collections::HashSet<u64> =
            roster.owners().filter(|owner| owner.node == me).map(|owner| owner.connection).collect();
        for entry in self.connections.iter().filter(|entry| !held.contains(entry.key())) {
            let reason = DisconnectReason::TakenOver;
            entry.value().end(End { reason, server_reference: None, released: true });
        }
    }

    fn forwarded(&self, message: Arc<Message>) {
        if let Some(cluster) = self.cluster.get() {
            let matched = self.matched(cluster.replica(), &message.topic);
            self.deliver(&matched, &message);
        }
    }
}
