//! The handle to this node's part in the cluster.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use rollcall_proto::schema::node::node_server::NodeServer;
use rollcall_proto::schema::roster::{
    Claim, Kick, Limits, NodeDraining, NodeStopped, Reason, Release, Subscribe, Subscription, Unsubscribe, command,
    outcome,
};
use rollcall_storage::{
    DataDir, DataDirError, EventLog, EventLogError, EventLogOptions, Identity, LogError, RaftLog, RaftLogOptions,
    SnapshotError, Snapshots,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

use crate::config::Config;
use crate::desk::Desk;
use crate::feed::EventFeed;
use crate::follow::Follower;
use crate::forward::{Links, Received};
use crate::lease::Leases;
use crate::member::{Formation, Housekeeper, peers_hash, watch_fence};
use crate::pending::{Answer, Ticket};
use crate::propose::{Proposals, Proposer, Unavailable};
use crate::raft::log::LogStore;
use crate::raft::machine::Machine;
use crate::raft::network::{MAX_MESSAGE, Network, Peers};
use crate::raft::{ROSTER, Raft};
use crate::replica::{Observer, Replica};
use crate::roster::{NodeId, Roster};
use crate::server::Server;

/// Why this node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Events(#[from] EventLogError),
    #[error("{key} {address} cannot be bound: {source}; free the port, or set {key} to another")]
    Bind { key: &'static str, address: String, source: io::Error },
    #[error("the node's state cannot be read: {0}")]
    State(io::Error),
    #[error("cluster.heartbeat and cluster.election do not fit together: {0}")]
    Timing(String),
    #[error("Raft cannot start: {0}")]
    Raft(String),
}

/// Why this node may not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("this node is not up in the cluster yet: it waits for its peers, or for a leader")]
    Joining,
    #[error("this node has no lease: it cannot reach a majority of the cluster")]
    Fenced,
    #[error("this node is draining")]
    Draining,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    Granted { epoch: u64, session_present: bool },
    Refused(Reason),
}

/// What a subscription came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// Every node knows it; it follows this event's `seq`.
    After(u64),
    /// The session would hold more than it may: nothing was changed.
    TooMany,
}

/// What Raft says of one group.
#[derive(Debug, Clone)]
pub struct Groups {
    pub leader: Option<NodeId>,
    pub term: u64,
    /// Of the last entry in this node's log.
    pub last_index: u64,
    pub applied_index: u64,
    pub voters: Vec<NodeId>,
}

#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    replica: Arc<Replica>,
    leases: Arc<Leases>,
    links: Arc<Links>,
    desk: Arc<Desk>,
    proposals: Proposals,
    barrier: watch::Receiver<u64>,
    raft: Raft,
    log: RaftLog,
    draining: AtomicBool,
    _data_dir: DataDir,
}

impl Cluster {
    /// Opens the disk, binds the port and starts this node's part; it joins in the background, see
    /// [`Self::readiness`].
    ///
    /// # Errors
    /// [`StartError`]; nothing on disk was changed then.
    pub async fn start(config: Config, observer: Arc<dyn Observer>) -> Result<Cluster, StartError> {
        let config = Arc::new(config);
        let identity = Identity { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
        let listener = bind(&config).await?;
        let data_dir = DataDir::open(&config.data_dir, &identity, rand::random::<u64>() >> 1 | 1)?;
        let log = RaftLog::open(&data_dir.raft_log(), RaftLogOptions::default())?;
        let snapshots = Snapshots::open(&data_dir.snapshots(), ROSTER)?;
        let events = EventLog::open(&data_dir.events(), event_log_options(config.event_retention))?;
        let feed = EventFeed::new(events, config.event_memory, config.event_retention);
        let replica = Arc::new(Replica::new(data_dir.node_id(), feed, observer));
        let peers = Peers::new(config.rpc_timeout);
        let machine = Machine::open(replica.clone(), snapshots.clone()).map_err(StartError::State)?;
        let network = Network { peers: peers.clone(), rpc_address: config.rpc_advertise.clone() };
        let raft_config = crate::raft::config(&config.cluster_name, config.heartbeat, config.election)
            .map_err(|error| StartError::Timing(error.to_string()))?;
        let store = LogStore::new(log.clone(), ROSTER);
        let raft = Raft::new(replica.me(), raft_config, network, store, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        Ok(Self::assemble(Parts { config, data_dir, log, snapshots, replica, peers, raft, listener }))
    }

    fn assemble(parts: Parts) -> Cluster {
        let Parts { config, data_dir, log, snapshots, replica, peers, raft, listener } = parts;
        let desk = Arc::new(Desk::new(raft.clone(), replica.clone(), config.route_lease));
        let leases = Arc::new(Leases::new(config.route_lease, config.lease));
        let links = Links::new(config.clone(), replica.clone(), peers.clone());
        let (proposer, proposals) = Proposer::new(config.clone(), replica.clone(), desk.clone(), peers.clone());
        let barrier = watch::Sender::new(0);
        let cluster = Cluster {
            inner: Arc::new(Inner {
                config: config.clone(),
                replica: replica.clone(),
                leases: leases.clone(),
                links,
                desk: desk.clone(),
                proposals: proposals.clone(),
                barrier: barrier.subscribe(),
                raft: raft.clone(),
                log: log.clone(),
                draining: AtomicBool::new(false),
                _data_dir: data_dir,
            }),
        };
        let server = Server {
            config: config.clone(),
            peers_hash: peers_hash(&config.peers),
            raft: raft.clone(),
            replica: replica.clone(),
            desk: desk.clone(),
            snapshots: snapshots.clone(),
            received: Arc::new(Received::default()),
            peers: peers.clone(),
        };
        tokio::spawn(serve(server, listener));
        let formation =
            Formation { config: config.clone(), raft: raft.clone(), replica: replica.clone(), peers: peers.clone() };
        tokio::spawn(async move {
            formation.run().await;
            proposer.run().await;
        });
        let announcing = desk.clone();
        tokio::spawn(async move { announcing.run().await });
        tokio::spawn(watch_fence(leases.clone(), replica.clone()));
        tokio::spawn(
            Housekeeper {
                config: config.clone(),
                raft,
                replica: replica.clone(),
                desk: desk.clone(),
                proposals,
                snapshots,
                log,
                covered: 0,
            }
            .run(),
        );
        tokio::spawn(Follower { config, replica, desk, peers, leases, barrier }.run());
        cluster
    }

    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub fn me(&self) -> NodeId {
        self.inner.replica.me()
    }

    /// This node's copy of the roster; hold it briefly, entries wait meanwhile.
    pub fn roster(&self) -> impl Deref<Target = Roster> + '_ {
        self.inner.replica.roster()
    }

    pub fn replica(&self) -> &Arc<Replica> {
        &self.inner.replica
    }

    pub fn events(&self) -> &EventFeed {
        self.inner.replica.feed()
    }

    pub fn leases(&self) -> &Arc<Leases> {
        &self.inner.leases
    }

    pub fn links(&self) -> &Arc<Links> {
        &self.inner.links
    }

    /// # Errors
    /// Why this node may not take connections.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if self.inner.draining.load(Ordering::Acquire) {
            Err(NotReady::Draining)
        } else if *self.inner.replica.epoch().borrow() == 0 {
            Err(NotReady::Joining)
        } else if !self.inner.leases.may_keep_connections() {
            Err(NotReady::Fenced)
        } else {
            Ok(())
        }
    }

    /// Asks for the ownership of a session for one of this node's connections.
    ///
    /// # Errors
    /// [`Unavailable`] when the cluster does not answer. Should the claim be granted after all, it is released again.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, Unavailable> {
        let client_id = claim.client_id.clone();
        let mut answer = self.inner.proposals.ask(command::Kind::Claim(claim)).await?;
        match answer.outcome {
            outcome::Kind::Granted(granted) => {
                let moved = if granted.session_present {
                    self.moved_everywhere(&client_id, granted.epoch, &answer).await
                } else {
                    Ok(())
                };
                // Until here the session goes back by itself if the caller goes.
                answer.ticket.take().into_iter().for_each(Ticket::take);
                moved?;
                Ok(Claimed::Granted { epoch: granted.epoch, session_present: granted.session_present })
            }
            outcome::Kind::Refused(reason) => {
                Ok(Claimed::Refused(Reason::try_from(reason).unwrap_or(Reason::ServerInternalError)))
            }
            outcome::Kind::Stale(_) => Err(Unavailable::NotUp),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a session back; waits until it is done or this node has gone down, which gives back everything.
    pub async fn release(&self, release: Release) {
        match self.inner.proposals.ask_patiently(command::Kind::Release(release)).await {
            Ok(_) | Err(Unavailable::NotUp) => {}
            Err(error) => tracing::warn!(%error, "a release was not confirmed"),
        }
    }

    /// Returns only when every node that may match a publish knows the subscriptions.
    ///
    /// # Errors
    /// [`Unavailable`]; [`Unavailable::NotUp`] also when the session is no longer owned at that epoch.
    pub async fn subscribe(
        &self,
        client_id: &str,
        epoch: u64,
        subscriptions: Vec<Subscription>,
        max_filters: u32,
    ) -> Result<Subscribed, Unavailable> {
        let command = Subscribe { client_id: client_id.into(), epoch, subscriptions, max_filters };
        let answer = self.inner.proposals.ask(command::Kind::Subscribe(command)).await?;
        match &answer.outcome {
            outcome::Kind::Subscribed(subscribed) => {
                self.everywhere(&answer).await?;
                Ok(Subscribed::After(subscribed.after))
            }
            outcome::Kind::TooMany(_) => Ok(Subscribed::TooMany),
            outcome::Kind::Stale(_) => Err(Unavailable::NotUp),
            other => Err(unexpected(other)),
        }
    }

    /// For each filter whether there was a subscription; returns only when no node matches them any more.
    ///
    /// # Errors
    /// As [`Self::subscribe`].
    pub async fn unsubscribe(
        &self,
        client_id: &str,
        epoch: u64,
        filters: Vec<String>,
    ) -> Result<Vec<bool>, Unavailable> {
        let command = Unsubscribe { client_id: client_id.into(), epoch, filters };
        let answer = self.inner.proposals.ask(command::Kind::Unsubscribe(command)).await?;
        match &answer.outcome {
            outcome::Kind::Unsubscribed(unsubscribed) => {
                self.everywhere(&answer).await?;
                Ok(unsubscribed.existed.clone())
            }
            outcome::Kind::Stale(_) => Err(Unavailable::NotUp),
            other => Err(unexpected(other)),
        }
    }

    /// A resumed session's subscriptions have moved here: no publish after the CONNACK may look for them elsewhere.
    async fn moved_everywhere(&self, client_id: &str, epoch: u64, answer: &Answer) -> Result<(), Unavailable> {
        let moved = self.roster().session(client_id).is_some_and(|session| !session.subscriptions.is_empty());
        if !moved {
            return Ok(());
        }
        let passed = self.everywhere(answer).await;
        if passed.is_err() {
            let reason = Reason::ServerInternalError.into();
            self.release(Release { client_id: client_id.into(), epoch, reason, ..Release::default() }).await;
        }
        passed
    }

    /// The barrier: a lease that still runs somewhere holds it for at most one route lease.
    async fn everywhere(&self, answer: &Answer) -> Result<(), Unavailable> {
        let mut barrier = self.inner.barrier.clone();
        // What changed nothing has nothing to wait for but the last change before it.
        let changed = answer.index.min(self.inner.replica.route_index());
        let passed = barrier.wait_for(|index| *index >= changed);
        match timeout(self.inner.config.claim_timeout, passed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Timeout),
        }
    }

    /// Closes a session's connection; with `purge` ends the session too. Whether there was such a session.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn kick(&self, client_id: &str, purge: bool) -> Result<bool, Unavailable> {
        let command = Kick { client_id: client_id.into(), purge };
        let answer = self.inner.proposals.ask(command::Kind::Kick(command)).await?;
        Ok(matches!(answer.outcome, outcome::Kind::Done(_)))
    }

    /// # Errors
    /// [`Unavailable`]
    pub async fn set_limits(&self, limits: Limits) -> Result<(), Unavailable> {
        self.inner.proposals.ask(command::Kind::SetLimits(limits)).await.map(|_| ())
    }

    /// No new connections from now on, and another leader, so that what follows holds up nobody.
    ///
    /// # Errors
    /// [`Unavailable`] when the cluster does not answer; the node then stops without the others knowing why.
    pub async fn begin_drain(&self) -> Result<(), Unavailable> {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.proposals.ask(command::Kind::NodeDraining(NodeDraining {})).await?;
        if self.inner.desk.leading().is_none() {
            return Ok(());
        }
        if let Some(next) = self.inner.desk.successor()
            && let Err(error) = self.inner.raft.trigger().transfer_leader(next).await
        {
            tracing::warn!(%error, "leadership could not be handed over");
        }
        Ok(())
    }

    /// The last word of this node: whatever it still held is released as drained.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn finish_drain(&self) -> Result<(), Unavailable> {
        self.inner.proposals.ask(command::Kind::NodeStopped(NodeStopped {})).await.map(|_| ())
    }

    /// Stops Raft; what was acknowledged is on disk already.
    pub async fn shutdown(&self) {
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "Raft did not stop cleanly");
        }
        if let Err(error) = self.events().sync() {
            tracing::error!(%error, "the event log was not synced; it will be made again from the log");
        }
    }

    /// What Raft says of the roster's group.
    pub fn groups(&self) -> Groups {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        Groups {
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            voters: metrics.membership_config.voter_ids().collect(),
        }
    }

    /// Flushes of the write-ahead log so far, its bytes, and how long the last flush took.
    pub fn log_stats(&self) -> (u64, u64, Duration) {
        let stats = self.inner.log.stats();
        (stats.syncs, stats.written_bytes, stats.last_sync)
    }
}

struct Parts {
    config: Arc<Config>,
    data_dir: DataDir,
    log: RaftLog,
    snapshots: Snapshots,
    replica: Arc<Replica>,
    peers: Peers,
    raft: Raft,
    listener: TcpListener,
}

/// Whole segments are dropped, so a short retention needs small ones.
fn event_log_options(retention: u64) -> EventLogOptions {
    /// Bytes, roughly, and segments per retention.
    const EVENT: u64 = 128;
    const SEGMENTS: u64 = 8;
    let largest = EventLogOptions::default().segment_size;
    EventLogOptions { segment_size: (retention * EVENT / SEGMENTS).clamp(16 << 10, largest) }
}

async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    TcpListener::bind(config.rpc_bind).await.map_err(|source| StartError::Bind {
        key: "cluster.rpc_bind",
        address: config.rpc_bind.to_string(),
        source,
    })
}

async fn serve(server: Server, listener: TcpListener) {
    let service = NodeServer::new(server).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(incoming);
    if let Err(error) = serving.await {
        tracing::error!(%error, "the node-to-node listener has failed");
    }
}

fn unexpected(outcome: &outcome::Kind) -> Unavailable {
    tracing::error!(?outcome, "the roster gave an answer that does not fit the command");
    Unavailable::NotUp
}

#[cfg(test)]
mod tests;
