//! One node of the broker: the cluster, the router and the listeners, from start to the end of its drain.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytestring::ByteString;
use rollcall_cluster::pem::keep_fresh;
use rollcall_cluster::tls::NodeTls;
use rollcall_cluster::{Cluster, Unavailable};
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::roster::{Limits, NodeState};
use rollcall_proto::schema::shard::{self, InboxLimits};
use rollcall_proto::session::{ClientIdPolicy, KeepAliveGrace, KeepAliveOutside, Overflow, SessionConfig};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::access::Access;
use crate::config::{self, Config, Listener};
use crate::connection::Shared;
use crate::door::Door;
use crate::farewell::send_away;
use crate::gateway::{self, Gateway, Terms};
use crate::mailbox::MailboxLimits;
use crate::meters::Meters;
use crate::refusals::Refusals;
use crate::router::Router;
use crate::transport::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "listeners.{name}.bind {address} cannot be bound: {source}; free the port, or set listeners.{name}.bind to another"
    )]
    Bind { name: String, address: SocketAddr, source: io::Error },
    #[error("listeners.{name}.tls: {source}")]
    Tls { name: String, source: Box<TlsError> },
    #[error(transparent)]
    Cluster(#[from] rollcall_cluster::StartError),
}

pub struct Node {
    pub cluster: Cluster,
    router: Arc<Router>,
    meters: Arc<Meters>,
    /// By the listener's name.
    terms: BTreeMap<String, Arc<ArcSwap<Terms>>>,
    /// Turns true when no more connections are taken.
    closed: watch::Sender<bool>,
    drain: ArcSwap<config::Drain>,
}

/// Between two looks at whether the last connection has gone.
const LOOK: Duration = Duration::from_millis(20);

impl Node {
    /// Binds the listeners and starts the node's part in the cluster. Connections are accepted from now on, and
    /// refused until the node is ready.
    ///
    /// # Errors
    /// [`Error`], when a port or the disk cannot be had.
    pub async fn start(config: &Config) -> Result<Node, Error> {
        let mut bound = Vec::new();
        for (name, listener) in &config.listeners {
            let door = Door::new(listener, config.session.connect_timeout);
            let door = door.map_err(|source| Error::Tls { name: name.clone(), source: Box::new(source) })?;
            let address = listener.bind;
            let socket =
                gateway::bind(address).map_err(|source| Error::Bind { name: name.clone(), address, source })?;
            bound.push((name, listener, door, socket));
        }
        let meters = Arc::new(Meters::new());
        let router = Router::new(meters.clone(), config.drain.rate);
        let cluster = Cluster::start(cluster_config(config), router.clone()).await?;
        router.attach(cluster.clone());
        let refusals = Arc::new(Refusals::new(&config.events));
        let (closed, stop) = watch::channel(false);
        // What an earlier run of this node held may still stand in the roster: no number comes twice.
        let numbers = Arc::new(AtomicU64::new(rand::random::<u64>() >> 1));
        let drain = ArcSwap::from_pointee(config.drain.clone());
        let mut node = Node { cluster, router, meters, terms: BTreeMap::new(), closed, drain };
        for (name, listener, door, socket) in bound {
            tracing::info!(listener = name, bind = %listener.bind, "listening");
            if let Some(identity) = door.identity() {
                let (of, every, identity) = (format!("listeners.{name}.tls"), listener.tls.reload, identity.clone());
                tokio::spawn(async move { keep_fresh(&of, every, move || identity.reload()).await });
            }
            let terms = Arc::new(ArcSwap::from_pointee(node.terms(door, &refusals, config, listener)));
            node.terms.insert(name.clone(), terms.clone());
            let gateway = Gateway { name: name.clone(), listener: socket, terms, numbers: numbers.clone() };
            tokio::spawn(gateway.run(stop.clone()));
        }
        Ok(node)
    }

    fn terms(&self, door: Door, refusals: &Arc<Refusals>, config: &Config, listener: &Listener) -> Terms {
        let shared = Shared {
            cluster: self.cluster.clone(),
            router: self.router.clone(),
            access: Access::new(&config.access),
            refusals: refusals.clone(),
            meters: self.meters.clone(),
            session: Arc::new(session_config(config, listener)),
            mailbox: MailboxLimits { messages: config.inbox.max_messages, bytes: config.inbox.max_bytes as usize },
            write_buffer: config.session.write_buffer as usize,
            event_node: config.events.node,
            max_filters: listener.max_filters,
            drops_oversized: listener.oversize == config::Oversize::Drop,
        };
        Terms { max_connections: listener.max_connections, door, shared: Arc::new(shared) }
    }

    /// Takes up what may change while the node runs; connections that are there keep what they came with.
    pub fn take_up(&self, config: &Config) {
        self.router.set_rate(config.drain.rate);
        self.drain.store(Arc::new(config.drain.clone()));
        let refusals = Arc::new(Refusals::new(&config.events));
        for (name, terms) in &self.terms {
            let Some(listener) = config.listeners.get(name) else { continue };
            let door = terms.load().door.changed(listener, config.session.connect_timeout);
            terms.store(Arc::new(self.terms(door, &refusals, config, listener)));
        }
    }

    /// Stops gracefully: no new connections, leadership handed over, every client told where to go, then the last word
    /// in the roster. Whoever is left at `drain.timeout` is closed by the process's end.
    pub async fn drain(&self) {
        let deadline = Instant::now() + self.drain.load().timeout;
        self.tell(self.cluster.begin_drain()).await;
        self.closed.send_replace(true);
        // Those whose turn does not come in time are closed by the process's end too.
        let _ = timeout_at(deadline, self.send_away()).await;
        let gone = async {
            while self.router.connections() > 0 && Instant::now() < deadline {
                sleep(LOOK).await;
            }
            Ok(())
        };
        self.tell(gone).await;
        self.tell(self.cluster.finish_drain()).await;
        self.cluster.shutdown().await;
        tracing::info!(left = self.router.connections(), "drained");
    }

    /// Waits for the cluster only while it is there: when all nodes stop at once, nobody is left to answer the last.
    async fn tell(&self, telling: impl Future<Output = Result<(), Unavailable>>) {
        let out_of_touch = async {
            while self.cluster.leases().is_in_touch() {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            told = telling => if let Err(error) = told {
                tracing::warn!(%error, "the cluster does not know of a step of this drain");
            },
            () = out_of_touch => tracing::warn!("no majority is left to tell of this drain: stopping without it"),
        }
    }

    /// At `drain.rate` clients per second; 0 sends all at once.
    async fn send_away(&self) {
        let mailboxes = self.router.mailboxes();
        let others = self.other_addresses();
        tracing::info!(connections = mailboxes.len(), "sending clients away");
        send_away(&mailboxes, others.into_iter().cycle(), self.drain.load().rate).await;
    }

    fn other_addresses(&self) -> Vec<ByteString> {
        let roster = self.cluster.roster();
        roster
            .nodes()
            .filter(|node| node.id != self.cluster.me() && node.state() == NodeState::Up && !node.leaving)
            .map(|node| ByteString::from(node.mqtt_address.as_str()))
            .collect()
    }
}

fn cluster_config(config: &Config) -> rollcall_cluster::Config {
    let cluster = &config.cluster;
    let rpc_advertise = cluster.advertised_rpc();
    rollcall_cluster::Config {
        cluster_name: cluster.name.clone(),
        node_name: config.node.name.clone(),
        data_dir: config.node.data_dir.clone(),
        peers: cluster.peers.clone(),
        rpc_bind: cluster.rpc_bind,
        rpc_advertise,
        tls: node_tls(&cluster.tls),
        mqtt_address: mqtt_address(config),
        http_address: reachable(config.http.bind).to_string(),
        version: crate::version().to_owned(),
        limits: Limits {
            max_connections: config.limits.max_connections,
            max_connections_per_node: config.limits.max_connections_per_node,
        },
        shards: cluster.shards,
        replicas: cluster.replicas,
        voters: cluster.voters,
        heartbeat: cluster.heartbeat,
        election: cluster.election,
        route_lease: cluster.route_lease,
        lease: cluster.lease,
        node_timeout: cluster.node_timeout,
        batch_interval: cluster.batch_interval,
        batch_commands: cluster.batch_commands,
        queue: cluster.queue,
        shard_queue: cluster.shard_queue,
        shard_queue_bytes: cluster.shard_queue_bytes as usize,
        claim_timeout: cluster.claim_timeout,
        rpc_timeout: cluster.rpc_timeout,
        link_window: cluster.link_window,
        link_window_bytes: cluster.link_window_bytes as usize,
        snapshot_after: cluster.snapshot_after,
        reap_batch: cluster.reap_batch,
        event_retention: config.events.retention,
        event_memory: config.events.memory,
        inbox_limits: InboxLimits {
            max_messages: config.inbox.max_messages as u64,
            max_bytes: config.inbox.max_bytes,
            overflow: match config.inbox.overflow {
                config::Overflow::DropOldest => shard::Overflow::DropOldest,
                config::Overflow::DropNewest => shard::Overflow::DropNewest,
                config::Overflow::EndSession => shard::Overflow::EndSession,
            }
            .into(),
        },
        inbox_memory: config.inbox.memory,
    }
}

/// The rules of the configuration have seen to it that all are there or none.
fn node_tls(tls: &config::ClusterTls) -> Option<NodeTls> {
    let (ca, cert, key) = (tls.ca.clone()?, tls.cert.clone()?, tls.key.clone()?);
    Some(NodeTls { ca, cert, key, reload: tls.reload })
}

/// `node.advertise_mqtt`, else where the default listener (or the first) can be reached.
fn mqtt_address(config: &Config) -> String {
    if let Some(address) = &config.node.advertise_mqtt {
        return address.clone();
    }
    let listener = config.listeners.get("tcp").or_else(|| config.listeners.values().next());
    let Some(listener) = listener else { return String::new() };
    let address = reachable(listener.bind);
    if address != listener.bind {
        tracing::info!(%address, "advertising this MQTT address; node.advertise_mqtt sets another");
    }
    address.to_string()
}

/// A wildcard is nowhere to connect to: the address that this machine would send from takes its place.
fn reachable(bind: SocketAddr) -> SocketAddr {
    if !bind.ip().is_unspecified() {
        return bind;
    }
    // Connecting a UDP socket sends nothing; it only makes the kernel choose a source address.
    let source = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let ip = source.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
    SocketAddr::new(ip, bind.port())
}

fn session_config(config: &Config, listener: &Listener) -> SessionConfig {
    let defaults = SessionConfig::default();
    SessionConfig {
        connect_timeout: config.session.connect_timeout.as_millis() as u64,
        keep_alive_min: listener.keep_alive_min.as_secs().min(u16::MAX.into()) as u16,
        keep_alive_max: listener.keep_alive_max.as_secs().min(u16::MAX.into()) as u16,
        keep_alive_outside: KeepAliveOutside::Adjust,
        keep_alive_grace: match listener.keep_alive_grace {
            config::KeepAliveGrace::Factor(thousandths) => KeepAliveGrace::Percent(thousandths / 10),
            config::KeepAliveGrace::Plus(extra) => KeepAliveGrace::Plus(extra.as_millis() as u64),
        },
        client_id_max_length: listener.client_id_max_length,
        client_id_policy: match listener.client_id_policy {
            config::ClientIdPolicy::Any => ClientIdPolicy::Any,
            config::ClientIdPolicy::Alphanumeric => ClientIdPolicy::Alphanumeric,
        },
        client_id_required: listener.client_id_required,
        assign_client_id,
        max_packet: u32::try_from(listener.max_packet).unwrap_or(u32::MAX),
        max_qos: QoS::from_bits(listener.max_qos).unwrap_or(QoS::ExactlyOnce),
        retain_available: listener.retain,
        shared_subscriptions: true,
        max_topic_levels: listener.max_topic_levels,
        receive_maximum: NonZeroU16::new(config.session.receive_maximum).unwrap_or(defaults.receive_maximum),
        topic_alias_maximum: config.session.topic_alias_maximum,
        topic_aliases_sent: config.session.topic_aliases_sent,
        outbound_queue: config.inbox.max_messages,
        outbound_queue_bytes: config.inbox.max_bytes as usize,
        overflow: match config.inbox.overflow {
            config::Overflow::DropOldest => Overflow::DropOldest,
            config::Overflow::DropNewest => Overflow::DropNewest,
            config::Overflow::EndSession => Overflow::EndSession,
        },
        ..defaults
    }
}

/// 128 random bits: no two are ever the same.
fn assign_client_id() -> ByteString {
    ByteString::from(format!("auto-{:032x}", rand::random::<u128>()))
}
