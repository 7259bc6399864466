//! From a publish to the connections of this node, the links to the others, and the inboxes.

mod matched;
mod outward;
mod shared;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytestring::ByteString;
use dashmap::DashMap;
use rollcall_cluster::forward::{Link, Parcel};
use rollcall_cluster::roster::{Lost, Roster};
use rollcall_cluster::{Answer, Cluster, Observer, Unavailable};
use rollcall_proto::message::{Delivery, Message};
use rollcall_proto::packet::{PacketId, QoS};
use rollcall_proto::reason::DisconnectReason;

use crate::farewell::send_away;
use crate::mailbox::{End, Mailbox};
use crate::meters::Meters;
use matched::Matched;
use outward::{Outward, Way};
use shared::Group;

/// Topics whose matches are remembered; when there are more, all are forgotten.
const CACHED_TOPICS: usize = 65_536;

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
    /// For what it does beside its callers.
    me: Weak<Router>,
    /// Set once, before the first connection.
    cluster: OnceLock<Cluster>,
    /// By connection number.
    connections: DashMap<u64, Arc<Mailbox>>,
    cache: DashMap<ByteString, Arc<Matched>>,
    meters: Arc<Meters>,
    /// `drain.rate`
    rate: AtomicU32,
    /// Clients are being sent to other nodes.
    sending_away: AtomicBool,
}

impl Router {
    pub fn new(meters: Arc<Meters>, rate: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| Router {
            me: me.clone(),
            cluster: OnceLock::new(),
            connections: DashMap::new(),
            cache: DashMap::new(),
            meters,
            rate: AtomicU32::new(rate),
            sending_away: AtomicBool::new(false),
        })
    }

    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
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
        let outward = self.outward(cluster, &matched, message)?;
        let is_matched = !matched.local.is_empty() || !matched.nodes.is_empty() || !outward.is_empty();
        let awaited = self.send(cluster, message, outward, receipt)?;
        self.deliver(&matched, message);
        Ok(Routed { matched: is_matched, awaited })
    }

    /// All that is not for this node's own subscribers, but for the members of shared subscriptions, wherever they are.
    fn outward(&self, cluster: &Cluster, matched: &Matched, message: &Arc<Message>) -> Result<Outward, Hold> {
        let nodes = if message.qos == QoS::AtMostOnce { &matched.nodes } else { &matched.live_nodes };
        let mut outward = Outward { targets: matched.durable.of(message), ..Outward::default() };
        for node in nodes {
            if let Some(link) = cluster.links().to(*node)
                && self.is_open(&link, message.qos)?
            {
                outward.links.push((link, Parcel::for_matching(message.clone())));
            }
        }
        for group in &matched.groups {
            if let Some(way) = self.way_to_member(cluster, group, message)? {
                outward.add(way, message);
            }
        }
        Ok(outward)
    }

    /// `None` when no member of the group can get the message, or it is dropped on its way to the chosen one.
    fn way_to_member(&self, cluster: &Cluster, group: &Group, message: &Arc<Message>) -> Result<Option<Way>, Hold> {
        let way = group.choose(message, |node| cluster.links().to(node));
        match &way {
            Some(Way::Link(link, _)) if !self.is_open(link, message.qos)? => Ok(None),
            Some(Way::Link(..) | Way::Mailbox(..) | Way::Inbox(..)) | None => Ok(way),
        }
    }

    /// Whether the link takes a message; one of QoS 0 that it does not take in time is dropped.
    fn is_open(&self, link: &Arc<Link>, qos: QoS) -> Result<bool, Hold> {
        let may_be_dropped = qos == QoS::AtMostOnce;
        if !link.is_full() {
            return Ok(true);
        }
        if may_be_dropped && link.is_silent() {
            self.meters.dropped_link_full.increment(1);
            return Ok(false);
        }
        Err(Hold::Link { link: link.clone(), may_be_dropped })
    }

    /// # Errors
    /// [`Hold`] while a shard has too much to do; nothing was done then.
    fn send(
        &self,
        cluster: &Cluster,
        message: &Arc<Message>,
        outward: Outward,
        receipt: Option<Receipt>,
    ) -> Result<Vec<Awaited>, Hold> {
        let Outward { links, targets, here } = outward;
        let shards = receipt.iter().map(|receipt| receipt.shard);
        let shards = shards.chain(targets.iter().map(|targets| targets.shard).filter(|_| receipt.is_none()));
        for shard in shards {
            if !cluster.shards().has_room(shard) {
                return Err(Hold::Shard(cluster.clone(), shard));
            }
        }
        let mut awaited = Vec::new();
        for (link, parcel) in links {
            let number = link.send(parcel);
            self.meters.forwarded.increment(1);
            if message.qos != QoS::AtMostOnce {
                awaited.push(Awaited::Link(link, number));
            }
        }
        match receipt {
            Some(Receipt { shard, incarnation, epoch, packet_id }) => {
                let answer = cluster.receive(shard, incarnation, epoch, packet_id, message, targets);
                awaited.push(Awaited::Shard(answer));
            }
            None => awaited.extend(cluster.enqueue(message, targets).into_iter().map(Awaited::Shard)),
        }
        for (mailbox, delivery) in here {
            self.put(&mailbox, delivery);
        }
        Ok(awaited)
    }

    /// Into a mailbox of this node, or to another member of the shared subscription if the connection has ended.
    fn put(&self, mailbox: &Mailbox, delivery: Delivery) {
        match mailbox.deliver(delivery) {
            Ok(0) => {}
            Ok(dropped) => self.meters.dropped_mailbox_full.increment(dropped as u64),
            Err(delivery) => self.pass_on(vec![delivery]),
        }
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
        for subscriber in &matched.local {
            let Some(wanted) = subscriber.wanted.of(|| *subscriber.client_id == *message.publisher) else { continue };
            let qos = message.qos.min(wanted.qos);
            let from_inbox = subscriber.durable && qos > QoS::AtMostOnce;
            if from_inbox {
                continue;
            }
            let delivery = Delivery {
                message: message.clone(),
                qos,
                retain: message.retain && wanted.retain_as_published,
                dup: false,
                subscription_ids: wanted.subscription_ids.clone(),
                share: None,
            };
            self.put(&subscriber.mailbox, delivery);
        }
    }

    /// From the cache, unless the routes have changed since.
    fn matched(&self, cluster: &Cluster, topic: &ByteString) -> Arc<Matched> {
        let generation = cluster.replica().generation();
        if let Some(known) = self.cache.get(topic).filter(|known| known.generation == generation) {
            return known.clone();
        }
        let matched = Arc::new(Matched::new(cluster, &self.connections, topic));
        if self.cache.len() >= CACHED_TOPICS {
            self.cache.clear();
        }
        // A copy, so that the cache does not keep the buffer that the PUBLISH was read into.
        self.cache.insert(ByteString::from(&**topic), matched.clone());
        matched
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

    /// One such wish at a time: a second one was made before the first could be seen to do anything.
    fn send_away(&self, destinations: Vec<(String, u64)>) {
        let Some(me) = self.me.upgrade() else { return };
        if self.sending_away.swap(true, Ordering::AcqRel) {
            return;
        }
        let count: u64 = destinations.iter().map(|(_, count)| count).sum();
        let mut mailboxes = self.mailboxes();
        mailboxes.truncate(count as usize);
        tracing::info!(connections = mailboxes.len(), "sending clients to nodes that have fewer");
        let addresses = destinations
            .into_iter()
            .flat_map(|(address, count)| std::iter::repeat_n(ByteString::from(address), count as usize));
        tokio::spawn(async move {
            send_away(&mailboxes, addresses, me.rate.load(Ordering::Relaxed)).await;
            me.sending_away.store(false, Ordering::Release);
        });
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

    fn forwarded(&self, parcel: Parcel) {
        let Parcel { message, addressed, addressees } = parcel;
        if !addressed {
            self.deliver_here(&message);
        }
        for addressee in addressees {
            let connection = addressee.connection;
            let delivery = shared::delivery(message.clone(), addressee);
            match self.connections.get(&connection) {
                Some(mailbox) => self.put(mailbox.value(), delivery),
                None => self.pass_on(vec![delivery]),
            }
        }
    }

    fn will(&self, message: Arc<Message>) {
        let Some(cluster) = self.cluster.get() else { return };
        let matched = self.matched(cluster, &message.topic);
        self.deliver(&matched, &message);
        for group in &matched.groups {
            if let Some((mailbox, delivery)) = group.of_will(&message) {
                self.put(&mailbox, delivery);
            }
        }
    }
}
