//! What operators ask of members: to drain, to leave.

use std::collections::BTreeSet;

use rollcall_proto::schema::node::DrainRequest;
use rollcall_proto::schema::roster::{NodeLeaving, NodeState, command, outcome};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Cluster;
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
        let unreachable = |why: String| Refused::Unreachable(why);
        let mut client = self.inner.peers.client(&address).map_err(|error| unreachable(error.to_string()))?;
        match timeout(self.inner.config.rpc_timeout, client.drain(DrainRequest { node })).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(unreachable(status.message().into())),
            Err(_) => Err(unreachable(format!("{address} does not answer"))),
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

/// Why the cluster cannot do without the node.
fn without(roster: &Roster, voters: &BTreeSet<NodeId>, node: NodeId) -> Option<String> {
    if roster.nodes().count() == 1 {
        return Some("it is the only node of the cluster".into());
    }
    let is_up = |id: &NodeId| {
        let known = roster.node(*id).filter(|known| !known.leaving && *id != node);
        known.is_some_and(|known| matches!(known.state(), NodeState::Up | NodeState::Draining))
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
