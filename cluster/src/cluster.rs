//! The handle to this node's part in the cluster.

mod members;
mod start;
mod status;

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rollcall_proto::schema::roster::{
    Claim, Granted, Kick, Limits, NodeDraining, NodeStopped, Reason, Release, Subscribe, Subscription, TurnedAway,
    Unsubscribe, command, outcome,
};
use rollcall_storage::{BodiesError, DataDir, DataDirError, EventLogError, LogError};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Config;
use crate::desk::Desk;
use crate::feed::EventFeed;
use crate::forward::Links;
use crate::groups::{GroupError, Groups};
use crate::lease::Leases;
use crate::pending::{Answer, Ticket};
use crate::propose::{Proposals, Unavailable};
use crate::raft::peers::Peers;
use crate::replica::Replica;
use crate::roster::{NodeId, Roster, Session};
use crate::shard::{InboxReader, Shards};
use crate::tls::NodeTlsError;

pub use members::Refused;
pub use status::GroupStatus;

/// Why this node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Events(#[from] EventLogError),
    #[error(transparent)]
    Bodies(#[from] BodiesError),
    #[error("{key} {address} cannot be bound: {source}; free the port, or set {key} to another")]
    Bind { key: &'static str, address: String, source: io::Error },
    #[error("cluster.heartbeat and cluster.election do not fit together: {0}")]
    Timing(String),
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("cluster.tls: {0}")]
    Tls(#[from] NodeTlsError),
}

/// Why this node may not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error("this node is not up in the cluster yet: it waits for its peers, or for a leader")]
    Joining,
    #[error("this node has no lease: it cannot reach a majority of the cluster")]
    Fenced,
    #[error("this node is draining")]
    Draining,
    #[error("the disk failed: {0}")]
    Disk(String),
}

/// What a claim came to.
pub enum Claimed {
    /// With the inbox of a session that has one.
    Granted {
        epoch: u64,
        session_present: bool,
        inbox: Option<Box<InboxReader>>,
    },
    Refused(Reason),
}

/// What a subscription came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscribed {
    /// Every node knows it; it follows the event of that `seq`. One per filter: whether it was subscribed before.
    After { seq: u64, existed: Vec<bool> },
    /// The session would hold more than it may: nothing was changed.
    TooMany,
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
    groups: Arc<Groups>,
    shards: Arc<Shards>,
    /// Why the disk has failed, if it has.
    disk: watch::Receiver<Option<String>>,
    draining: AtomicBool,
    drain_asked: watch::Sender<bool>,
    peers: Peers,
    _data_dir: DataDir,
}

impl Cluster {
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

    pub fn shards(&self) -> &Arc<Shards> {
        &self.inner.shards
    }

    /// # Errors
    /// Why this node may not take connections.
    pub fn readiness(&self) -> Result<(), NotReady> {
        if let Some(why) = &*self.inner.disk.borrow() {
            Err(NotReady::Disk(why.clone()))
        } else if self.inner.draining.load(Ordering::Acquire) {
            Err(NotReady::Draining)
        } else if *self.inner.replica.epoch().borrow() == 0 || !self.roster().placements().iter().all(|p| p.formed) {
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
                let taken = self.take_up(&client_id, &granted, &answer).await;
                // Until here the session goes back by itself if the caller goes.
                answer.ticket.take().into_iter().for_each(Ticket::take);
                if taken.is_err() {
                    self.give_back(&client_id, granted.epoch).await;
                }
                let (epoch, session_present) = (granted.epoch, granted.session_present);
                Ok(Claimed::Granted { epoch, session_present, inbox: taken?.map(Box::new) })
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

    /// Makes the event of a connection that this node has refused.
    ///
    /// # Errors
    /// [`Unavailable`]: there may be no such event.
    pub async fn turned_away(&self, who: TurnedAway) -> Result<(), Unavailable> {
        self.inner.proposals.ask(command::Kind::TurnedAway(who)).await.map(|_| ())
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
                Ok(Subscribed::After { seq: subscribed.after, existed: subscribed.existed.clone() })
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

    /// A resumed session's subscriptions have moved here: no publish after the CONNACK may look for them elsewhere. And
    /// no connection before this one may change its inbox any more.
    async fn take_up(
        &self,
        client_id: &str,
        granted: &Granted,
        answer: &Answer,
    ) -> Result<Option<InboxReader>, Unavailable> {
        let moved = |session: &Session| !session.subscriptions.is_empty();
        if granted.session_present && self.roster().session(client_id).is_some_and(moved) {
            self.everywhere(answer).await?;
        }
        if !granted.durable {
            return Ok(None);
        }
        let opening = self.open_inbox(client_id, granted.incarnation, granted.epoch, answer.index);
        let opened = timeout(self.inner.config.claim_timeout, opening).await;
        opened.unwrap_or(Err(Unavailable::Timeout)).map(Some)
    }

    /// No CONNACK was sent, so there is no will yet [MQTT-3.1.2-7].
    async fn give_back(&self, client_id: &str, epoch: u64) {
        let reason = Reason::ServerInternalError.into();
        let without_will = true;
        self.release(Release { client_id: client_id.into(), epoch, reason, without_will, ..Release::default() }).await;
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
        self.hand_over().await;
        Ok(())
    }

    /// The last word of this node: whatever it still held is released as drained, and it routes nothing any more.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn finish_drain(&self) -> Result<(), Unavailable> {
        self.inner.leases.give_up_routes_for_good();
        self.inner.proposals.ask(command::Kind::NodeStopped(NodeStopped {})).await.map(|_| ())
    }

    /// Stops all groups; what was acknowledged is on disk already.
    pub async fn shutdown(&self) {
        self.inner.groups.shutdown().await;
        if let Err(error) = self.events().sync() {
            tracing::error!(%error, "the event log was not synced; it will be made again from the log");
        }
    }

    /// Flushes of the write-ahead log so far, its bytes, and how long the last flush took.
    pub fn log_stats(&self) -> (u64, u64, Duration) {
        let stats = self.inner.groups.log().stats();
        (stats.syncs, stats.written_bytes, stats.last_sync)
    }
}

fn unexpected(outcome: &outcome::Kind) -> Unavailable {
    tracing::error!(?outcome, "the roster gave an answer that does not fit the command");
    Unavailable::NotUp
}

#[cfg(test)]
mod tests;
