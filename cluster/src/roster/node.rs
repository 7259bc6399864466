//! Nodes: they come up with a new epoch each time, drain, stop, and are declared down; what they held is reaped.

use rollcall_proto::schema::roster::{
    Node, NodeDown, NodeEpoch, NodeState, NodeUp, Orphans, Reap, Reason, Recovered, outcome,
};

use super::{Effects, NodeId, Owner, Proposer, Roster, conflict, done, stale};
use crate::pages::PAGES;

impl Roster {
    /// The same boot asking again gets the same epoch; another boot ends the earlier epoch.
    pub(super) fn node_up(&mut self, id: NodeId, up: &NodeUp, effects: &mut Effects) -> outcome::Kind {
        if self.removed.contains(&id) {
            return conflict("it was removed from the cluster; empty its node.data_dir to let it join as a new one");
        }
        let namesake = self.nodes.values().find(|other| other.name == up.name && other.id != id && !is_gone(other));
        if let Some(other) = namesake {
            return conflict(&format!("the name {} belongs to another node of this cluster ({:x})", up.name, other.id));
        }
        let known = self.nodes.get(&id);
        if let Some(node) = known.filter(|node| node.boot == up.boot && self.is_current(id, node.epoch)) {
            return outcome::Kind::NodeEpoch(NodeEpoch { epoch: node.epoch });
        }
        let (ended, leaving) = known.map_or((0, false), |node| (node.epoch, node.leaving));
        if self.is_current(id, ended) {
            self.end_epoch(id, false);
            effects.fenced.push((id, ended));
        }
        let epoch = ended + 1;
        let node = Node {
            id,
            name: up.name.clone(),
            mqtt_address: up.mqtt_address.clone(),
            rpc_address: up.rpc_address.clone(),
            http_address: up.http_address.clone(),
            version: up.version.clone(),
            epoch,
            boot: up.boot,
            since: self.time,
            state: NodeState::Up.into(),
            leaving,
            ..Node::default()
        };
        self.nodes.insert(id, node);
        outcome::Kind::NodeEpoch(NodeEpoch { epoch })
    }

    pub(super) fn node_draining(&mut self, proposer: &Proposer) -> outcome::Kind {
        self.enter(proposer.node, NodeState::Draining);
        done()
    }

    pub(super) fn node_stopped(&mut self, proposer: &Proposer) -> outcome::Kind {
        self.end_epoch(proposer.node, true);
        self.enter(proposer.node, NodeState::Stopped);
        done()
    }

    /// One entry however many sessions the node held: the reaper releases them later.
    pub(super) fn node_down(&mut self, down: &NodeDown, effects: &mut Effects) -> outcome::Kind {
        if !self.is_current(down.node, down.epoch) {
            return stale();
        }
        self.end_epoch(down.node, false);
        self.enter(down.node, NodeState::Down);
        effects.fenced.push((down.node, down.epoch));
        done()
    }

    /// One at a time, so that no group loses two members at once.
    pub(super) fn node_leaving(&mut self, id: NodeId) -> outcome::Kind {
        if let Some(other) = self.leaving().filter(|other| other.id != id) {
            return conflict(&format!("{} is leaving: one node at a time", other.name));
        }
        if self.nodes.len() == 1 {
            return conflict("it is the only node of the cluster");
        }
        let Some(node) = self.nodes.get_mut(&id) else { return stale() };
        node.leaving = true;
        done()
    }

    /// Only one that has stopped and holds nothing more, and then it is a stranger.
    pub(super) fn node_removed(&mut self, id: NodeId, effects: &mut Effects) -> outcome::Kind {
        let Some(node) = self.nodes.get(&id) else { return stale() };
        let holds = self.placements.iter().any(|placement| placement.members.contains(&id))
            || self.orphans.keys().any(|(node, _)| *node == id);
        if !is_gone(node) || holds {
            return conflict("the node still serves");
        }
        self.nodes.remove(&id);
        self.removed.insert(id);
        effects.placed = true;
        done()
    }

    /// Written into the log by hand, where no majority will ever be again.
    pub(super) fn recovered(&mut self, recovered: &Recovered, effects: &mut Effects) -> outcome::Kind {
        let others: Vec<(NodeId, u64)> = self.nodes.values().map(|node| (node.id, node.epoch)).collect();
        for (id, epoch) in others.into_iter().filter(|(id, _)| *id != recovered.node) {
            if self.is_current(id, epoch) {
                self.end_epoch(id, false);
                effects.fenced.push((id, epoch));
            }
            self.enter(id, NodeState::Down);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.leaving = true;
            }
        }
        for placement in &mut self.placements {
            placement.formed = recovered.shards.contains(&placement.shard);
            placement.members = if placement.formed { vec![recovered.node] } else { Vec::new() };
        }
        effects.placed = true;
        done()
    }

    fn enter(&mut self, id: NodeId, state: NodeState) {
        let now = self.time;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.set_state(state);
            node.since = now;
        }
    }

    fn end_epoch(&mut self, id: NodeId, drained: bool) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let remaining = std::mem::take(&mut node.connections);
        if remaining > 0 {
            let orphans = Orphans { node: id, epoch: node.epoch, remaining, next_page: 0, drained };
            self.orphans.insert((id, node.epoch), orphans);
        }
    }

    /// Goes on where the last one stopped, until `limit` sessions (rounded up to a page) are released.
    pub(super) fn reap(&mut self, proposer: &Proposer, reap: &Reap, effects: &mut Effects) -> outcome::Kind {
        let key = (reap.node, reap.epoch);
        let Some(orphans) = self.orphans.get(&key) else { return stale() };
        let mut page = orphans.next_page as usize;
        let mut released = 0;
        while page < PAGES && released < reap.limit && self.orphans.contains_key(&key) {
            released += self.reap_page(proposer, page, key, effects);
            page += 1;
        }
        if page == PAGES {
            self.orphans.remove(&key);
        } else if let Some(orphans) = self.orphans.get_mut(&key) {
            orphans.next_page = page as u32;
        }
        done()
    }

    fn reap_page(&mut self, proposer: &Proposer, page: usize, of: (NodeId, u64), effects: &mut Effects) -> u32 {
        let held: Vec<_> = self
            .sessions
            .page(page)
            .filter(|(_, session)| session.owner.is_some_and(|owner| (owner.node, owner.node_epoch) == of))
            .map(|(client_id, session)| (client_id.to_owned(), session.clone()))
            .collect();
        for (client_id, session) in &held {
            self.end_connection(proposer, client_id, session, Reason::ServerInternalError, "", effects);
            self.leave_offline(client_id, None, true, effects);
        }
        held.len() as u32
    }

    /// Why a connection of an ended epoch ended.
    pub(super) fn reason_of_orphan(&self, owner: Owner) -> Reason {
        match self.orphans.get(&(owner.node, owner.node_epoch)) {
            Some(orphans) if orphans.drained => Reason::GoAway,
            Some(_) | None => Reason::ServerInternalError,
        }
    }

    /// Gives back the place that a connection took on its node.
    pub(super) fn free_slot(&mut self, owner: Owner, living: bool) {
        if living {
            if let Some(node) = self.nodes.get_mut(&owner.node) {
                node.connections -= 1;
            }
            return;
        }
        let key = (owner.node, owner.node_epoch);
        if let Some(orphans) = self.orphans.get_mut(&key) {
            orphans.remaining -= 1;
            if orphans.remaining == 0 {
                self.orphans.remove(&key);
            }
        }
    }
}

/// Whether it leaves the cluster and has stopped, so that another may have its name.
fn is_gone(node: &Node) -> bool {
    node.leaving && matches!(node.state(), NodeState::Down | NodeState::Stopped)
}
