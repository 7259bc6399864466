//! From a configuration to a running node.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rollcall_proto::schema::node::node_server::NodeServer;
use rollcall_storage::DataDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;

use super::{Cluster, Inner, StartError};
use crate::config::Config;
use crate::courier::{Courier, Office};
use crate::desk::Desk;
use crate::disk::Disk;
use crate::feed::EventFeed;
use crate::follow::Follower;
use crate::forward::{Links, Received};
use crate::groups::{Ground, Group, Groups};
use crate::housekeeper::{Housekeeper, watch_fence};
use crate::join::Admission;
use crate::lease::Leases;
use crate::member::{Formation, peers_hash};
use crate::placement::{Planner, Steward};
use crate::propose::Proposer;
use crate::raft::ROSTER;
use crate::raft::peers::{MAX_MESSAGE, Peers};
use crate::raft::wiring::{Wire, accept};
use crate::reach::Reach;
use crate::replica::{Observer, Replica};
use crate::server::Server;
use crate::shard::Shards;
use crate::shard::spill::Spill;
use crate::snapshotter::Snapshotter;
use crate::tls::Tls;
use crate::told::Told;
use crate::upgrade::Upgrade;
use crate::wills::Executor;

impl Cluster {
    /// Opens the disk, binds the port and starts this node's part; it joins in the background, see
    /// [`Self::readiness`].
    ///
    /// # Errors
    /// [`StartError`]; nothing on disk was changed then.
    pub async fn start(config: Config, observer: Arc<dyn Observer>) -> Result<Cluster, StartError> {
        let listener = bind(&config).await?;
        let disk = Disk::open(&config)?;
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        if let Some(tls) = tls.clone() {
            tokio::spawn(tls.keep_fresh());
        }
        let wires = accept(listener, tls.clone(), config.rpc_timeout);
        Self::start_on(config, disk, tls, wires, observer).await
    }

    /// On a disk that is open, with the connections that other nodes make.
    pub(crate) async fn start_on(
        config: Config,
        disk: Disk,
        tls: Option<Arc<Tls>>,
        wires: ReceiverStream<io::Result<Wire>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Cluster, StartError> {
        let config = Arc::new(config);
        let Disk { data_dir, log, events, bodies } = disk;
        let spill = Spill::new(bodies, config.inbox_memory / u64::from(config.shards.max(1)), log.clone());
        let feed = EventFeed::new(events, config.event_memory, config.event_retention);
        let replica = Arc::new(Replica::new(data_dir.node_id(), feed, observer));
        let peers = Peers::new(config.rpc_timeout, tls);
        let raft_config = crate::raft::config(&config.cluster_name, config.heartbeat, config.election)
            .map_err(|error| StartError::Timing(error.to_string()))?;
        let groups = Groups::new(Ground {
            me: replica.me(),
            log,
            snapshots: data_dir.snapshots(),
            peers: peers.clone(),
            rpc_address: config.rpc_advertise.clone(),
            raft_config,
        });
        let roster = groups.start_roster(replica.clone()).await?;
        let desk = Arc::new(Desk::new(groups.clone(), roster.clone(), replica.clone(), config.route_lease));
        let leases = Arc::new(Leases::new(config.route_lease, config.lease));
        let office = Arc::new(Office { config, replica, groups, desk, peers, leases });
        Ok(Self::assemble(office, &roster, data_dir, spill, wires))
    }

    fn assemble(
        office: Arc<Office>,
        roster: &Arc<Group>,
        data_dir: DataDir,
        spill: Arc<Spill>,
        wires: ReceiverStream<io::Result<Wire>>,
    ) -> Cluster {
        let Office { config, replica, groups, desk, peers, leases } = &*office;
        let links = Links::new(config.clone(), replica.clone(), peers.clone());
        let courier = Courier::new(office.clone(), ROSTER);
        let (proposer, proposals) = Proposer::new(config.clone(), replica.clone(), courier);
        let shards = Shards::new(office.clone());
        let barrier = watch::Sender::new(0);
        let drain_asked = watch::Sender::new(false);
        let disk = watch_disk(groups.clone(), leases.clone(), replica.clone());
        let inner = Inner {
            config: config.clone(),
            replica: replica.clone(),
            leases: leases.clone(),
            links,
            desk: desk.clone(),
            proposals: proposals.clone(),
            barrier: barrier.subscribe(),
            groups: groups.clone(),
            shards: shards.clone(),
            disk,
            draining: AtomicBool::new(false),
            drain_asked: drain_asked.clone(),
            peers: peers.clone(),
            _data_dir: data_dir,
        };
        let server = Server {
            config: config.clone(),
            peers_hash: peers_hash(&config.peers),
            groups: groups.clone(),
            replica: replica.clone(),
            desk: desk.clone(),
            admission: Admission { office: office.clone(), group: roster.clone(), proposals: proposals.clone() },
            drain_asked: drain_asked.clone(),
            told: Told::default(),
            received: Arc::new(Received::default()),
            leases: leases.clone(),
            peers: peers.clone(),
        };
        tokio::spawn(serve(server, wires));
        arrive(&office, roster, proposer);
        let announcing = desk.clone();
        tokio::spawn(async move { announcing.run().await });
        tokio::spawn(watch_fence(leases.clone(), replica.clone()));
        let housekeeper = Housekeeper {
            config: config.clone(),
            replica: replica.clone(),
            desk: desk.clone(),
            proposals: proposals.clone(),
            snapshotter: Snapshotter::new(groups.clone(), config.snapshot_after),
            planner: Planner::new(office.clone(), roster.clone(), proposals.clone()),
            upgrade: Upgrade::new(office.clone(), roster.clone(), proposals.clone()),
        };
        tokio::spawn(housekeeper.run());
        let (config, replica, desk, peers, leases) =
            (config.clone(), replica.clone(), desk.clone(), peers.clone(), leases.clone());
        let executor = Executor {
            config: config.clone(),
            replica: replica.clone(),
            desk: desk.clone(),
            proposals: proposals.clone(),
            shards: shards.clone(),
        };
        tokio::spawn(executor.run());
        tokio::spawn(Steward::new(office.clone(), shards, spill, proposals).run());
        let reach = Reach::default();
        tokio::spawn(reach.clone().keep(office.clone()));
        tokio::spawn(Follower { config, replica, desk, peers, leases, reach, barrier }.run());
        Cluster { inner: Arc::new(inner) }
    }
}

/// Brings this node into its cluster; from then on its commands leave.
fn arrive(office: &Office, roster: &Group, proposer: Proposer) {
    let formation = Formation {
        config: office.config.clone(),
        raft: roster.raft.clone(),
        replica: office.replica.clone(),
        peers: office.peers.clone(),
    };
    tokio::spawn(formation.clone().watch_removal());
    tokio::spawn(async move {
        formation.run().await;
        proposer.run().await;
    });
}

async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    TcpListener::bind(config.rpc_bind).await.map_err(|source| StartError::Bind {
        key: "cluster.rpc_bind",
        address: config.rpc_bind.to_string(),
        source,
    })
}

async fn serve(server: Server, wires: ReceiverStream<io::Result<Wire>>) {
    let service = NodeServer::new(server).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(wires);
    if let Err(error) = serving.await {
        tracing::error!(%error, "the node-to-node listener has failed");
    }
}

/// A node whose log has failed can no longer promise anything: it gives up its leases for good, closes its connections
/// and leaves the deciding to the others.
fn watch_disk(groups: Arc<Groups>, leases: Arc<Leases>, replica: Arc<Replica>) -> watch::Receiver<Option<String>> {
    let (failed, disk) = watch::channel(None);
    let runtime = tokio::runtime::Handle::current();
    let log = groups.log().clone();
    log.on_failure(move |why| {
        tracing::error!(why, "the disk failed: this node stops serving");
        metrics::gauge!("rollcall_disk_failed").set(1.0);
        failed.send_replace(Some(why));
        leases.give_up_for_good();
        replica.observer().fenced();
        runtime.spawn(async move { groups.shutdown().await });
    });
    disk
}
