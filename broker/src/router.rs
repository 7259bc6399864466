//! From a publish to the connections of this node and the links to the others.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytestring::ByteString;
use dashmap::DashMap;
use rollcall_cluster::forward::Link;
use rollcall_cluster::roster::{Lost, NodeId, Roster};
use rollcall_cluster::routes::Local;
use rollcall_cluster::targets::{Gathering, Targets};
use rollcall_cluster::{Answer, Cluster, Observer, Unavailable};
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::{PacketId, QoS};
use rollcall_proto::reason::DisconnectReason;

use crate::mailbox::{End, Mailbox};
use crate::meters::Meters;

/// Topics whose matches are remembered; when there are more, all are forgotten.
const CACHED_TOPICS: usize = 65_536;

/// One subscriber on this node, all its matching subscriptions taken together.
#[derive(Debug, Clone)]
struct Subscriber {
    mailbox: Arc<Mailbox>,
    /// What is above QoS 0 comes to it out of its inbox.
    durable: bool,
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
    /// With a live subscription.
    nodes: Vec<NodeId>,
    /// Those among them that have to be sent what is above QoS 0 too, as not all of it goes into inboxes.
    live_nodes: Vec<NodeId>,
    durable: Targets,
}

/// A QoS 2 publish of a persistent session: its shard receives it, once per packet id, and hands it on to the others.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    pub shard: u32,
    pub incarnation: u64,
    pub epoch: u64,
    pub packet_id: PacketId,
}

/// Who has still to take a message.
enum Awaited {
    Link(Arc<Link>, u64),
    Shard(Answer),
}

/// What became of a publish.
#[derive(Default)]
pub struct Routed {
    /// Whether any subscription matched.
    pub matched: bool,
    awaited: Vec<Awaited>,
}

impl Routed {
    pub fn is_received(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Waits until every inbox and every other node has it, or that node is too long silent to be waited for. May be
    /// dropped and called again.
    ///
    /// # Errors
    /// [`Unavailable`] when a shard will not take it: it must not be acknowledged.
    pub async fn received(&mut self) -> Result<(), Unavailable> {
        while let Some(awaited) = self.awaited.last_mut() {
            match awaited {
                Awaited::Link(link, number) => link.received(*number).await,
                Awaited::Shard(answer) => {
                    answer.await?;
                }
            }
            self.awaited.pop();
        }
        Ok(())
    }
}

/// Why a publish cannot be routed now. Nothing was done; try again after [`Hold::over`].
pub enum Hold {
    /// This node has no route lease: its subscription table may be old.
    Lease(Cluster),
    /// A link's window is full.
    Link { link: Arc<Link>, may_be_dropped: bool },
    /// A shard has as much to do as it may.
    Shard(Cluster, u32),
}

impl Hold {
    pub async fn over(self) {
        match self {
            Hold::Lease(cluster) => cluster.leases().route().await,
            Hold::Link { link, may_be_dropped } => link.room(may_be_dropped).await,
            Hold::Shard(cluster, shard) => cluster.shards().room(shard).await,
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

    /// Delivers to the connections of this node, puts the message on the links to the others and into the inboxes of
    /// persistent sessions: all of it or nothing.
    ///
    /// # Errors
    /// [`Hold`] when the publisher has to wait.
    pub fn route(&self, message: &Arc<Message>, receipt: Option<Receipt>) -> Result<Routed, Hold> {
        let Some(cluster) = self.cluster.get() else { return Ok(Routed::default()) };
        if !cluster.leases().may_route() {
            return Err(Hold::Lease(cluster.clone()));
        }
        let matched = self.matched(cluster, &message.topic);
        let links = self.links(cluster, &matched, message.qos)?;
        let targets = matched.durable.of(message);
        let full = match &receipt {
            Some(receipt) => !cluster.shards().has_room(receipt.shard),
            None => targets.iter().any(|targets| !cluster.shards().has_room(targets.shard)),
        };
        if full {
            let shard = receipt.map_or_else(|| targets[0].shard, |receipt| receipt.shard);
            return Err(Hold::Shard(cluster.clone(), shard));
        }
        let mut awaited = Vec::new();
        for link in links {
            let number = link.send(message);
            self.meters.forwarded.increment(1);
            if message.qos != QoS::AtMostOnce {
                awaited.push(Awaited::Link(link, number));
            }
        }
        let is_matched = !matched.local.is_empty() || !matched.nodes.is_empty() || !targets.is_empty();
        let answers = match receipt {
            Some(receipt) => {
                vec![cluster.receive(
                    receipt.shard,
                    receipt.incarnation,
                    receipt.epoch,
                    receipt.packet_id,
                    message,
                    targets,
                )]
            }
            None => cluster.enqueue(message, targets),
        };
        awaited.extend(answers.into_iter().map(Awaited::Shard));
        self.deliver(&matched, message);
        Ok(Routed { matched: is_matched, awaited })
    }

    fn links(&self, cluster: &Cluster, matched: &Matched, qos: QoS) -> Result<Vec<Arc<Link>>, Hold> {
        let may_be_dropped = qos == QoS::AtMostOnce;
        let nodes = if may_be_dropped { &matched.nodes } else { &matched.live_nodes };
        let mut links = Vec::new();
        for node in nodes {
            let Some(link) = cluster.links().to(*node) else { continue };
            if !link.is_full() {
                links.push(link);
            } else if may_be_dropped && link.is_silent() {
                self.meters.dropped_link_full.increment(1);
            } else {
                return Err(Hold::Link { link, may_be_dropped });
            }
        }
        Ok(links)
    }

    /// What every node is given.
    fn deliver_here(&self, message: &Arc<Message>) {
        if let Some(cluster) = self.cluster.get() {
            let matched = self.matched(cluster, &message.topic);
            self.deliver(&matched, message);
        }
    }

    /// To the live sessions of this node.
    fn deliver(&self, matched: &Matched, message: &Arc<Message>) {
        let mut dropped = 0;
        for subscriber in &matched.local {
            let qos = message.qos.min(subscriber.qos);
            let from_inbox = subscriber.durable && qos > QoS::AtMostOnce;
            if from_inbox || subscriber.not_from.as_deref().is_some_and(|id| *id == *message.publisher) {
                continue;
            }
            dropped += subscriber.mailbox.deliver(Delivery {
                message: message.clone(),
                qos,
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
    fn matched(&self, cluster: &Cluster, topic: &ByteString) -> Arc<Matched> {
        let generation = cluster.replica().generation();
        if let Some(known) = self.cache.get(topic).filter(|known| known.generation == generation) {
            return known.clone();
        }
        let matched = Arc::new(self.match_now(cluster, topic));
        if self.cache.len() >= CACHED_TOPICS {
            self.cache.clear();
        }
        // A copy, so that the cache does not keep the buffer that the PUBLISH was read into.
        self.cache.insert(ByteString::from(&**topic), matched.clone());
        matched
    }

    fn match_now(&self, cluster: &Cluster, topic: &str) -> Matched {
        let replica = cluster.replica();
        let (mut subscribers, mut gathering) = (Subscribers::default(), Gathering::default());
        let (mut nodes, mut live_nodes) = (BTreeSet::new(), BTreeSet::new());
        // Read before the routes are: what changes meanwhile makes this match outdated, never wrong.
        let generation = replica.generation();
        replica.routes().for_each_match(topic, |route| {
            nodes.extend(route.remote.keys().copied());
            live_nodes.extend(route.remote.iter().filter(|(_, remote)| remote.live_only > 0).map(|(node, _)| *node));
            gathering.add(route);
            for (client_id, local) in &route.local {
                if let Some(mailbox) = self.connections.get(&local.connection) {
                    subscribers.add(client_id, local, mailbox.value());
                }
            }
        });
        Matched {
            generation,
            local: subscribers.finish(),
            nodes: nodes.into_iter().collect(),
            live_nodes: live_nodes.into_iter().collect(),
            durable: gathering.finish(|client_id| cluster.shard_of(client_id)),
        }
    }
}

/// Live subscribers of this node by their connections, each with all its matching subscriptions.
#[derive(Default)]
struct Subscribers(BTreeMap<u64, (Subscriber, Vec<u32>)>);

impl Subscribers {
    fn add(&mut self, client_id: &Arc<str>, local: &Local, mailbox: &Arc<Mailbox>) {
        let options = &local.options;
        let qos = QoS::from_bits(options.qos as u8).unwrap_or_default();
        let not_from = options.no_local.then(|| client_id.clone());
        let id = (options.subscription_id > 0).then_some(options.subscription_id);
        match self.0.entry(local.connection) {
            Entry::Vacant(place) => {
                let subscriber = Subscriber {
                    mailbox: mailbox.clone(),
                    durable: local.durable,
                    qos,
                    retain_as_published: options.retain_as_published,
                    not_from,
                    ids: SubscriptionIds::None,
                };
                place.insert((subscriber, id.into_iter().collect()));
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

    fn finish(self) -> Vec<Subscriber> {
        let finished = self
            .0
            .into_values()
            .map(|(subscriber, ids)| Subscriber { ids: SubscriptionIds::from(ids.as_slice()), ..subscriber });
        finished.collect()
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
        self.deliver_here(&message);
    }

    fn will(&self, message: Arc<Message>) {
        self.deliver_here(&message);
    }
}
