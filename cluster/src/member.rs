//! Becoming a member: the initial ones form the cluster together, later ones join it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::node::{self as wire, HelloReply, HelloRequest, JoinRequest, join_reply};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::raft::peers::Peers;
use crate::raft::{Member, Raft};
use crate::replica::Replica;
use crate::roster::level::LEVEL;
use crate::server::PROTOCOL;

/// Between two rounds of asking peers that have not all answered.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Between two questions of a node that is not up, whether it is still a member.
const STILL_ONE: Duration = Duration::from_secs(2);

/// Brings an empty node into its cluster.
#[derive(Clone)]
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
        if matches!(self.raft.is_initialized().await, Ok(true)) && self.is_removed().await {
            return std::future::pending().await;
        }
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

    /// A node that was removed while it was away is told nothing by the log: it asks before it comes up, and as long as it
    /// cannot. Several that a recovered cluster has left behind could otherwise be a majority of their own.
    async fn is_removed(&self) -> bool {
        let others = self.config.peers.iter().filter(|address| **address != self.config.rpc_advertise);
        let asking = others.map(|address| async move {
            let removed = self.hello(address).await.is_ok_and(|reply| reply.removed);
            removed.then(|| {
                tracing::error!(
                    told_by = address,
                    "this node was removed from the cluster: empty its node.data_dir to let it join as a new one"
                );
            })
        });
        futures_util::future::join_all(asking).await.into_iter().flatten().next().is_some()
    }

    /// Until that is known.
    pub(crate) async fn watch_removal(self) {
        loop {
            sleep(STILL_ONE).await;
            let is_up = *self.replica.epoch().borrow() != 0;
            if !is_up && matches!(self.raft.is_initialized().await, Ok(true)) && self.is_removed().await {
                return;
            }
        }
    }

    /// What this round came to.
    async fn attempt(&self) -> String {
        let mut listed = self.config.peers.clone();
        listed.sort();
        listed.dedup();
        let mut members = BTreeMap::from([(self.replica.me(), self.myself())]);
        let mut missing = None;
        for address in listed.iter().filter(|address| **address != self.config.rpc_advertise) {
            let reply = match self.hello(address).await {
                Ok(reply) => reply,
                Err(why) => {
                    missing.get_or_insert(format!("waiting for {address} to form the cluster: {why}"));
                    continue;
                }
            };
            if reply.formed && reply.member {
                return format!("{address} has a cluster already: waiting to be contacted by its leader");
            }
            if reply.formed {
                return self.join(address).await;
            }
            if reply.peers_hash != peers_hash(&self.config.peers) {
                missing.get_or_insert(format!("{address} has another cluster.peers than this node: make them equal"));
            }
            members.insert(reply.node, Member { rpc_address: address.clone(), name: reply.name });
        }
        if let Some(missing) = missing {
            return missing;
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

    /// A peer has a cluster that does not know this node: it comes later than the initial members.
    async fn join(&self, address: &str) -> String {
        let Member { rpc_address, name } = self.myself();
        let request = JoinRequest {
            cluster: self.config.cluster_name.clone(),
            protocol: PROTOCOL,
            member: Some(wire::Member { id: self.replica.me(), rpc_address, name }),
            passed_on: false,
            level: LEVEL,
        };
        let Ok(mut client) = self.peers.client(address) else { return format!("{address} is no address") };
        match timeout(self.config.rpc_timeout * 2, client.join(request)).await {
            Ok(Ok(reply)) => match reply.into_inner().result {
                Some(join_reply::Result::Joined(_)) => {
                    format!("{address} has let this node into its cluster: waiting to be contacted by its leader")
                }
                Some(join_reply::Result::Refused(why)) => format!("{address} does not let this node join: {why}"),
                Some(join_reply::Result::NotLeader(_)) | None => {
                    format!("{address} has a cluster already, but no leader that could let this node join")
                }
            },
            Ok(Err(status)) => format!("{address} does not let this node join: {}", status.message()),
            Err(_) => format!("{address} has not answered whether this node may join"),
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
            Ok(Err(status)) => Err(reason(&status)),
            Err(_) => Err("no answer".into()),
        }
    }
}

/// With what lies under it: that a certificate is not trusted stands far below "transport error".
fn reason(status: &tonic::Status) -> String {
    let mut said = status.message().to_owned();
    let mut under = std::error::Error::source(status);
    while let Some(error) = under {
        let text = error.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        under = error.source();
    }
    said
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
