//! What operators ask of members: to drain, to leave.

use std::collections::BTreeSet;
use std::future::Future;

use rollcall_proto::schema::node::{Destination, DrainRequest, SendAwayRequest};
use rollcall_proto::schema::roster::{Node, NodeLeaving, NodeState, command, outcome};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Cluster;
use crate::balance::{Move, moves};
use crate::propose::Unavailable;
use crate::raft::ROSTER;
use crate::roster::{NodeId, Roster};

/// Why a node is not asked to drain, or may not leave.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Now(String),
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Cluster {
    /// Turns true when an operator has asked this node to stop gracefully.
    pub fn drain_asked(&self) -> watch::Receiver<bool> {
        self.inner.drain_asked.subscribe()
    }

    /// Asks the node to stop gracefully; it has not when this returns.
    ///
    /// # Errors
    /// [`Refused`] where it does not serve, or cannot be reached.
    pub async fn drain(&self, node: NodeId) -> Result<(), Refused> {
        let (state, address) = {
            let roster = self.roster();
            let known = roster.node(node).ok_or_else(|| Refused::Now("there is no such node".into()))?;
            (known.state(), known.rpc_address.clone())
        };
        match state {
            NodeState::Up | NodeState::Draining => {}
            NodeState::Stopped => return Err(Refused::Now("the node has stopped already".into())),
            NodeState::Down | NodeState::Unspecified => return Err(Refused::Now("the node is down".into())),
        }
        if node == self.me() {
            self.inner.drain_asked.send_replace(true);
            return Ok(());
        }
        let mut client = self.inner.peers.client(&address).map_err(unreachable)?;
        self.within(client.drain(DrainRequest { node })).await
    }

    /// Has the nodes that hold more than 5 % above the mean send their surplus to those below it, at `drain.rate`. Clients of
    /// 5.0 are told where to go; others are closed, and go where their load balancer sends them.
    ///
    /// # Errors
    /// [`Refused`] where a node cannot be reached; the others were asked then.
    pub async fn rebalance(&self) -> Result<Vec<Move>, Refused> {
        let (moves, nodes) = {
            let roster = self.roster();
            let open = roster.nodes().filter(|node| node.state() == NodeState::Up && !node.leaving);
            let nodes: Vec<Node> = open.cloned().collect();
            let has: Vec<(NodeId, u64)> = nodes.iter().map(|node| (node.id, node.connections)).collect();
            (moves(&has), nodes)
        };
        let mut failed = None;
        for node in &nodes {
            let address = |id| nodes.iter().find(|node| node.id == id).map(|node| node.mqtt_address.clone());
            let own = moves.iter().filter(|step| step.from == node.id);
            let destinations: Vec<(String, u64)> =
                own.filter_map(|step| Some((address(step.to)?, step.count))).collect();
            if !destinations.is_empty()
                && let Err(error) = self.ask_to_send_away(node, destinations).await
            {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(moves), Err)
    }

    async fn ask_to_send_away(&self, node: &Node, destinations: Vec<(String, u64)>) -> Result<(), Refused> {
        if node.id == self.me() {
            self.inner.replica.observer().send_away(destinations);
            return Ok(());
        }
        let destinations = destinations.into_iter().map(|(address, count)| Destination { address, count }).collect();
        let mut client = self.inner.peers.client(&node.rpc_address).map_err(unreachable)?;
        self.within(client.send_away(SendAwayRequest { node: node.id, destinations })).await
    }

    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<(), Refused> {
        match timeout(self.inner.config.rpc_timeout, asking).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(unreachable(status.message())),
            Err(_) => Err(unreachable("it does not answer")),
        }
    }

    /// Has the node leave the cluster: what it holds moves to others, it drains if it is up, and then it is a member no
    /// more. It still is when this returns.
    ///
    /// # Errors
    /// [`Refused`] where too few would be left, or another one is leaving.
    pub async fn remove(&self, node: NodeId) -> Result<(), Refused> {
        let voters = self.inner.groups.get(ROSTER).map(|group| group.voters()).unwrap_or_default();
        if let Some(why) = without(&self.roster(), &voters, node) {
            return Err(Refused::Now(why));
        }
        let answer = self.inner.proposals.ask(command::Kind::NodeLeaving(NodeLeaving { node })).await?;
        match &answer.outcome {
            outcome::Kind::Done(_) => Ok(()),
            outcome::Kind::Conflict(conflict) => Err(Refused::Now(conflict.why.clone())),
            _ => Err(Refused::Now("there is no such node".into())),
        }
    }
}

fn unreachable(why: impl std::fmt::Display) -> Refused {
    Refused::Unreachable(why.to_string())
}

/// Why the cluster cannot do without the node.
fn without(roster: &Roster, voters: &BTreeSet<NodeId>, node: NodeId) -> Option<String> {
    if roster.nodes().count() == 1 {
        return Some("it is the only node of the cluster".into());
    }
    let is_up = |id: &NodeId| {
        let known = roster.node(*id).filter(|known| !known.leaving && *id != node);
        known.is_some_and(|known| roster.is_current(known.id, known.epoch))
    };
    let judge = |name: String, members: &BTreeSet<NodeId>| {
        // One of those that are no members takes its place.
        let substitute = roster.nodes().any(|other| is_up(&other.id) && !members.contains(&other.id));
        let size = members.len() - 1 + usize::from(substitute);
        let living = members.iter().filter(|id| is_up(id)).count() + usize::from(substitute);
        (living * 2 <= size).then(|| {
            format!(
                "{name} would be left with {living} of {size} voters up, which is no majority: start the others first"
            )
        })
    };
    if voters.contains(&node)
        && let Some(why) = judge("the roster".into(), voters)
    {
        return Some(why);
    }
    let mut held = roster.placements().iter().filter(|placement| placement.members.contains(&node));
    held.find_map(|placement| judge(format!("shard {}", placement.shard), &placement.members.iter().copied().collect()))
}
