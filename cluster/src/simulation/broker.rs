//! The least broker there can be around a node's cluster: it claims, subscribes, publishes and delivers as the program
//! does, without MQTT and without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::roster::{Claim, Reason, Release, Subscription, SubscriptionOptions, Will};
use rollcall_proto::schema::shard::Acknowledge;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::chance;
use crate::cluster::{Claimed, Cluster, Subscribed};
use crate::forward::Parcel;
use crate::message::to_body;
use crate::replica::Observer;
use crate::roster::{Lost, Roster};
use crate::shard::InboxReader;
use crate::targets::Gathering;
use crate::{Answer, Unavailable};

/// Messages read out of an inbox in one turn.
const PER_TURN: usize = 16;
/// How long the last record of an inbox may take.
const RECORDING: Duration = Duration::from_secs(2);
/// Retained messages read for a subscription.
const RETAINED: usize = 16;

/// What a client says.
pub(super) enum Says {
    Subscribe { filter: String, qos: QoS },
    Unsubscribe(String),
    Publish { topic: String, payload: Bytes, qos: QoS, retain: bool },
    Acknowledge(u64),
    Ping,
    Leave,
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Told {
    Granted {
        present: bool,
    },
    Refused,
    Subscribed(bool),
    Unsubscribed(bool),
    Published,
    Pong,
    GoAway,
    TakenOver,
    /// With its position in the inbox, if it comes from there.
    Message {
        topic: String,
        payload: Bytes,
        position: Option<u64>,
    },
}

/// A connection that a client begins.
pub(super) struct Hello {
    pub client_id: String,
    pub peer: String,
    pub persistent: bool,
    pub will: Option<Arc<Message>>,
    pub says: UnboundedReceiver<Says>,
    pub told: UnboundedSender<Told>,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The session has another owner already.
    Lost,
    Fenced,
    Drained,
    Left,
    Vanished,
}

struct Connection {
    mailbox: UnboundedSender<(String, Bytes)>,
    end: UnboundedSender<End>,
}

pub(super) struct Broker {
    cluster: Cluster,
    connections: Arc<Connections>,
}

/// Known before the cluster is.
#[derive(Default)]
pub(super) struct Connections {
    by_number: Mutex<BTreeMap<u64, Connection>>,
    last: AtomicU64,
    cluster: Mutex<Option<Cluster>>,
}

impl Connections {
    /// Numbers never return in a later run of the node.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Connections { last: AtomicU64::new(chance::draw() >> 1), ..Connections::default() })
    }

    fn end_all(&self, how: End) {
        for connection in self.by_number.lock().values() {
            let _ = connection.end.send(how);
        }
    }

    fn deliver(&self, cluster: &Cluster, message: &Message) {
        let mut found = BTreeSet::new();
        cluster.replica().routes().for_each_match(&message.topic, |route| {
            let from_inbox = |durable: bool, qos: u32| durable && qos > 0 && message.qos > QoS::AtMostOnce;
            let live = route.local.values().filter(|local| !from_inbox(local.durable, local.options.qos));
            found.extend(live.map(|local| local.connection));
        });
        let connections = self.by_number.lock();
        for connection in found.iter().filter_map(|number| connections.get(number)) {
            drop(connection.mailbox.send((message.topic.to_string(), message.payload.clone())));
        }
    }

    fn deliver_here(&self, message: &Message) {
        if let Some(cluster) = &*self.cluster.lock() {
            self.deliver(cluster, message);
        }
    }
}

impl Observer for Connections {
    fn lost(&self, lost: &Lost) {
        if let Some(connection) = self.by_number.lock().get(&lost.owner.connection) {
            let _ = connection.end.send(End::Lost);
        }
    }

    fn fenced(&self) {
        self.end_all(End::Fenced);
    }

    fn replaced(&self, roster: &Roster) {
        let Some(me) = self.cluster.lock().as_ref().map(Cluster::me) else { return };
        let held: BTreeSet<u64> =
            roster.owners().filter(|owner| owner.node == me).map(|owner| owner.connection).collect();
        for (_, gone) in self.by_number.lock().iter().filter(|(number, _)| !held.contains(number)) {
            let _ = gone.end.send(End::Lost);
        }
    }

    fn forwarded(&self, parcel: Parcel) {
        self.deliver_here(&parcel.message);
    }

    fn send_away(&self, _: Vec<(String, u64)>) {}

    fn will(&self, message: Arc<Message>) {
        self.deliver_here(&message);
    }
}

impl Broker {
    pub(super) fn new(cluster: Cluster, connections: Arc<Connections>) -> Arc<Self> {
        *connections.cluster.lock() = Some(cluster.clone());
        Arc::new(Broker { cluster, connections })
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The node has crashed: the two no longer hold each other.
    pub(super) fn forget(&self) {
        self.connections.cluster.lock().take();
    }

    /// As an operator's SIGTERM does; the process may then end.
    pub(super) async fn drain(&self) -> Result<(), Unavailable> {
        // Clients are told whether or not the cluster knows.
        let begun = self.cluster.begin_drain().await;
        self.connections.end_all(End::Drained);
        while !self.connections.by_number.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun?;
        self.cluster.finish_drain().await
    }

    /// One connection from its CONNECT to its end.
    pub(super) async fn serve(self: Arc<Self>, hello: Hello) {
        if self.cluster.readiness().is_err() {
            drop(hello.told.send(Told::Refused));
            return;
        }
        let number = self.connections.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (mailbox, incoming) = unbounded_channel();
        let (end, ended) = unbounded_channel();
        self.connections.by_number.lock().insert(number, Connection { mailbox, end });
        self.claim(number, hello, incoming, ended).await;
        self.connections.by_number.lock().remove(&number);
    }

    async fn claim(
        &self,
        number: u64,
        hello: Hello,
        incoming: UnboundedReceiver<(String, Bytes)>,
        mut ended: UnboundedReceiver<End>,
    ) {
        let claim = Claim {
            client_id: hello.client_id.clone(),
            connection: number,
            protocol_level: 5,
            clean_start: !hello.persistent,
            keep_alive: 60,
            session_expiry: if hello.persistent { 3_600 } else { 0 },
            peername: hello.peer.clone(),
            will: hello.will.as_deref().map(|will| Will { message: to_body(will), ..Will::default() }),
            ..Claim::default()
        };
        match self.cluster.claim(claim).await {
            Ok(Claimed::Granted { epoch, session_present, inbox }) => {
                let session = Session { hello, epoch, inbox: inbox.map(|inbox| *inbox), sent: 0 };
                match ended.try_recv() {
                    Ok(how) => session.give_back(&self.cluster, how).await,
                    Err(_) => {
                        drop(session.hello.told.send(Told::Granted { present: session_present }));
                        session.run(self, incoming, ended).await;
                    }
                }
            }
            Ok(Claimed::Refused(_)) | Err(_) => drop(hello.told.send(Told::Refused)),
        }
    }

    /// Until everybody has it whom it must have reached before the PUBACK.
    async fn publish(&self, message: &Arc<Message>) -> Result<(), Unavailable> {
        if message.retain {
            self.cluster.leases().route().await;
            self.cluster.retain(message).await?;
        }
        let (links, answers) = self.route(message).await;
        for (link, number) in links {
            link.received(number).await;
        }
        for answer in answers {
            answer.await?;
        }
        Ok(())
    }

    async fn route(&self, message: &Arc<Message>) -> (Vec<(Arc<crate::forward::Link>, u64)>, Vec<Answer>) {
        let cluster = &self.cluster;
        loop {
            cluster.leases().route().await;
            let (mut nodes, mut gathering) = (BTreeSet::new(), Gathering::default());
            cluster.replica().routes().for_each_match(&message.topic, |route| {
                let wanted = |live_only: usize| message.qos == QoS::AtMostOnce || live_only > 0;
                nodes.extend(route.remote.iter().filter(|(_, it)| wanted(it.live_only)).map(|(node, _)| *node));
                gathering.add(route);
            });
            let targets = gathering.finish(|client_id| cluster.shard_of(client_id)).of(message);
            let links: Vec<_> = nodes.iter().filter_map(|node| cluster.links().to(*node)).collect();
            if let Some(full) = links.iter().find(|link| link.is_full()) {
                full.room(message.qos == QoS::AtMostOnce).await;
                continue;
            }
            if let Some(full) = targets.iter().find(|targets| !cluster.shards().has_room(targets.shard)) {
                cluster.shards().room(full.shard).await;
                continue;
            }
            let sent = links.into_iter().map(|link| {
                let number = link.send(Parcel::for_matching(message.clone()));
                (link, number)
            });
            let sent = sent.collect();
            let answers = cluster.enqueue(message, targets);
            self.connections.deliver(cluster, message);
            return (sent, answers);
        }
    }
}

/// A connection that owns its session.
struct Session {
    hello: Hello,
    epoch: u64,
    inbox: Option<InboxReader>,
    sent: u64,
}

impl Session {
    async fn run(
        mut self,
        broker: &Broker,
        mut incoming: UnboundedReceiver<(String, Bytes)>,
        mut ended: UnboundedReceiver<End>,
    ) {
        let mut behind = self.inbox.is_some();
        let how = loop {
            let changed = async {
                match &self.inbox {
                    _ if behind => {}
                    Some(inbox) => inbox.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(how) = ended.recv() => break how,
                says = self.hello.says.recv() => match says {
                    None => break End::Vanished,
                    Some(Says::Leave) => break End::Left,
                    Some(says) => {
                        let answered = tokio::select! {
                            biased;
                            Some(how) = ended.recv() => break how,
                            answered = self.answer(broker, says) => answered,
                        };
                        answered.into_iter().for_each(|told| drop(self.hello.told.send(told)));
                    }
                },
                Some((topic, payload)) = incoming.recv() => {
                    drop(self.hello.told.send(Told::Message { topic, payload, position: None }));
                }
                () = changed => behind = self.read(),
            }
        };
        self.give_back(&broker.cluster, how).await;
    }

    /// What the client is told, the answer last.
    async fn answer(&self, broker: &Broker, says: Says) -> Vec<Told> {
        let (cluster, client_id) = (&broker.cluster, &*self.hello.client_id);
        match says {
            Says::Subscribe { filter, qos } => {
                let options = Some(SubscriptionOptions { qos: qos as u32, ..SubscriptionOptions::default() });
                let wanted = vec![Subscription { filter: filter.clone(), options }];
                match cluster.subscribe(client_id, self.epoch, wanted, 0).await {
                    Ok(Subscribed::After { .. }) => self.retained(broker, &filter).await,
                    Ok(Subscribed::TooMany) | Err(_) => vec![Told::Subscribed(false)],
                }
            }
            Says::Unsubscribe(filter) => {
                let done = cluster.unsubscribe(client_id, self.epoch, vec![filter]).await;
                vec![Told::Unsubscribed(done.is_ok())]
            }
            Says::Publish { topic, payload, qos, retain } => {
                let (topic, publisher) = (topic.into(), client_id.into());
                let message = Message { topic, payload, qos, retain, properties: None, publisher, expires_at: None };
                // One that is not taken is not answered, so that its client sends it again.
                broker.publish(&Arc::new(message)).await.map_or(Vec::new(), |()| vec![Told::Published])
            }
            Says::Acknowledge(position) => {
                self.acknowledge(cluster, vec![position], false);
                Vec::new()
            }
            Says::Ping => vec![Told::Pong],
            Says::Leave => Vec::new(),
        }
    }

    /// A topic's retained message, which is looked up behind the SUBACK's barrier.
    async fn retained(&self, broker: &Broker, filter: &str) -> Vec<Told> {
        let mut told = vec![Told::Subscribed(true)];
        if filter.contains(['#', '+']) {
            return told;
        }
        let shard = broker.cluster.shard_of(filter);
        loop {
            if let Ok(page) = broker.cluster.retained(shard, filter, None, RETAINED).await {
                told.extend(page.messages.iter().map(|message| Told::Message {
                    topic: message.topic.to_string(),
                    payload: message.payload.clone(),
                    position: None,
                }));
                return told;
            }
        }
    }

    /// Whether there may be more.
    fn read(&mut self) -> bool {
        let Some(inbox) = &mut self.inbox else { return false };
        let Ok(messages) = inbox.read(PER_TURN) else { return false };
        let more = messages.len() == PER_TURN;
        for message in messages {
            self.sent = self.sent.max(message.position);
            let Some(body) = &message.message else { continue };
            let (topic, payload) = (body.topic.to_string(), body.payload.clone());
            drop(self.hello.told.send(Told::Message { topic, payload, position: Some(message.position) }));
        }
        more
    }

    fn acknowledge(&self, cluster: &Cluster, done: Vec<u64>, closed: bool) -> Option<Answer> {
        let inbox = self.inbox.as_ref()?;
        let record = Acknowledge {
            client_id: self.hello.client_id.clone(),
            incarnation: inbox.incarnation(),
            epoch: self.epoch,
            done,
            sent: self.sent,
            closed,
            ..Acknowledge::default()
        };
        Some(cluster.acknowledge(inbox.shard(), record))
    }

    async fn give_back(mut self, cluster: &Cluster, how: End) {
        let reason = match how {
            End::Lost => return drop(self.hello.told.send(Told::TakenOver)),
            End::Fenced => Reason::ServerInternalError,
            End::Drained => Reason::GoAway,
            End::Left => Reason::Normal,
            End::Vanished => Reason::TcpClosed,
        };
        let waits = matches!(how, End::Left | End::Drained);
        if !waits {
            // Closed at once, whatever the cluster says.
            self.hello.told = unbounded_channel().0;
        }
        if let Some(answer) = self.acknowledge(cluster, Vec::new(), true) {
            // Who comes next is sent again what is not recorded.
            drop(timeout(RECORDING, answer).await);
        }
        let (client_id, told) = (self.hello.client_id, self.hello.told);
        let (reason, without_will) = (reason.into(), how == End::Left);
        cluster.release(Release { client_id, epoch: self.epoch, reason, without_will, ..Release::default() }).await;
        if how == End::Drained {
            drop(told.send(Told::GoAway));
        }
    }
}
