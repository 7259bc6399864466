//! Becoming a member, and what the leader does for all: declare the dead, reap, expire; and each for itself: snapshots,
//! the fence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::node::{HelloReply, HelloRequest};
use rollcall_proto::schema::roster::{Expire, NodeDown, Reap, command};
use rollcall_storage::{RaftLog, Snapshots};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::Config;
use crate::desk::Desk;
use crate::lease::Leases;
use crate::propose::Proposals;
use crate::raft::network::Peers;
use crate::raft::{Member, ROSTER, Raft};
use crate::replica::Replica;
use crate::roster::pages::PAGES;
use crate::server::PROTOCOL;

/// Between two rounds of asking peers that have not all answered.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Between two looks at what there is to clean up.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Pages of the roster looked through for expired sessions at one look: all of them in half a minute.
const PAGES_PER_LOOK: usize = PAGES / 128;
/// Sessions ended by one command.
const EXPIRE_BATCH: usize = 1_000;

/// Brings an empty node into its cluster.
pub(crate) struct Formation {
    pub config: Arc<Config>,
    pub raft: Raft,
    pub replica: Arc<Replica>,
    pub peers: Peers,
}

impl Formation {
    /// Returns once this node is a member. The initial members form only together: while one of them does not answer,
    /// or has a cluster already, an empty node forms nothing.
    pub(crate) async fn run(self) {
        let mut said = String::new();
        loop {
            match self.raft.is_initialized().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => return tracing::error!(%error, "Raft has stopped"),
            }
            let what = self.attempt().await;
            if what != said {
                tracing::info!("{what}");
                said = what;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// What this round came to.
    async fn attempt(&self) -> String {
        let mut listed = self.config.peers.clone();
        listed.sort();
        listed.dedup();
        let mut members = BTreeMap::from([(self.replica.me(), self.myself())]);
        for address in listed.iter().filter(|address| **address != self.config.rpc_advertise) {
            let reply = match self.hello(address).await {
                Ok(reply) => reply,
                Err(why) => return format!("waiting for {address} to form the cluster: {why}"),
            };
            if reply.formed {
                return format!("{address} has a cluster already: waiting to be contacted by its leader");
            }
            if reply.peers_hash != peers_hash(&self.config.peers) {
                return format!("{address} has another cluster.peers than this node: make them equal");
            }
            members.insert(reply.node, Member { rpc_address: address.clone(), name: reply.name });
        }
        if members.len() != listed.len().max(1) {
            return "two of cluster.peers are one and the same node: list each once".into();
        }
        if listed.first().is_some_and(|first| *first != self.config.rpc_advertise) {
            return "all peers have answered: the first of them forms the cluster".into();
        }
        let count = members.len();
        match self.raft.initialize(members).await {
            Ok(()) => format!("formed a cluster of {count}"),
            Err(error) => format!("the cluster could not be formed: {error}"),
        }
    }

    fn myself(&self) -> Member {
        Member { rpc_address: self.config.rpc_advertise.clone(), name: self.config.node_name.clone() }
    }

    async fn hello(&self, address: &str) -> Result<HelloReply, String> {
        let mut client = self.peers.client(address).map_err(|error| error.to_string())?;
        let request = HelloRequest {
            cluster: self.config.cluster_name.clone(),
            node: self.replica.me(),
            name: self.config.node_name.clone(),
            protocol: PROTOCOL,
        };
        match timeout(self.config.rpc_timeout, client.hello(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("no answer".into()),
        }
    }
}

/// The same on every node that lists the same peers, in whatever order.
pub(crate) fn peers_hash(peers: &[String]) -> u64 {
    let mut sorted = peers.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted
        .join(",")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

pub(crate) struct Housekeeper {
    pub config: Arc<Config>,
    pub raft: Raft,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub proposals: Proposals,
    pub snapshots: Snapshots,
    pub log: RaftLog,
    /// Bytes of log that were there when the last snapshot was asked for, less what was freed since.
    pub covered: u64,
}

impl Housekeeper {
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut page = 0;
        loop {
            ticks.tick().await;
            self.snapshot_if_due().await;
            if self.desk.leading().is_none() {
                continue;
            }
            self.declare_dead().await;
            self.reap().await;
            page = self.expire(page).await;
        }
    }

    /// When the log since the last one outgrows both the bound and the state, so that a large state is not written
    /// again and again.
    async fn snapshot_if_due(&mut self) {
        let size = self.log.size(ROSTER);
        self.covered = self.covered.min(size);
        let state = self.snapshots.latest().map_or(0, |snapshot| snapshot.len);
        if size - self.covered <= self.config.snapshot_after.max(state) {
            return;
        }
        self.covered = size;
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::error!(%error, "no snapshot can be taken: Raft has stopped");
        }
    }

    async fn declare_dead(&self) {
        for (node, epoch) in self.desk.overdue(self.config.node_timeout) {
            tracing::warn!(node = format!("{node:x}"), epoch, "a node is gone: declaring it down");
            self.command(command::Kind::NodeDown(NodeDown { node, epoch })).await;
        }
    }

    async fn reap(&self) {
        let orphans: Vec<_> = self.replica.roster().orphans().copied().collect();
        for orphans in orphans {
            tracing::info!(remaining = orphans.remaining, "releasing the sessions of a node that is gone");
            let reap = Reap { node: orphans.node, epoch: orphans.epoch, limit: self.config.reap_batch };
            while self.replica.roster().orphans().any(|left| (left.node, left.epoch) == (reap.node, reap.epoch)) {
                if !self.command(command::Kind::Reap(reap)).await {
                    return;
                }
            }
        }
    }

    /// Looks through some pages; where to go on.
    async fn expire(&self, page: usize) -> usize {
        let pages = page..(page + PAGES_PER_LOOK).min(PAGES);
        let next = if pages.end == PAGES { 0 } else { pages.end };
        let now = crate::clock::wall_ms();
        let client_ids = self.replica.roster().expired(pages, now, EXPIRE_BATCH);
        if !client_ids.is_empty() {
            self.command(command::Kind::Expire(Expire { client_ids })).await;
        }
        next
    }

    async fn command(&self, kind: command::Kind) -> bool {
        match self.proposals.ask(kind).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "housekeeping has to wait");
                false
            }
        }
    }
}

/// Closes this node's connections when its lease has run out.
pub(crate) async fn watch_fence(leases: Arc<Leases>, replica: Arc<Replica>) {
    let mut granted = leases.watch();
    let mut epoch = replica.epoch();
    loop {
        if *epoch.borrow_and_update() == 0 || *granted.borrow_and_update() == 0 {
            leases.give_up();
            granted.mark_unchanged();
            tokio::select! {
                closed = granted.changed() => if closed.is_err() { return },
                closed = epoch.changed() => if closed.is_err() { return },
            }
            continue;
        }
        let left = leases.node_left();
        if left.is_zero() {
            tracing::warn!("no quorum has renewed this node's lease: closing its connections");
            metrics::counter!("rollcall_node_fences_total").increment(1);
            leases.give_up();
            replica.observer().fenced();
            continue;
        }
        tokio::select! {
            () = sleep(left) => {}
            closed = granted.changed() => if closed.is_err() { return },
            closed = epoch.changed() => if closed.is_err() { return },
        }
    }
}
