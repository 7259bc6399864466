//! Takes a node's batch to whoever leads its group, again and again until it is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rollcall_proto::schema::node::{ConfirmRequest, ProposeRequest, confirm_reply, propose_reply};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Response, Status};

use crate::config::Config;
use crate::desk::{Desk, Logged};
use crate::groups::Groups;
use crate::lease::Leases;
use crate::pending::Flight;
use crate::placement::placement_of;
use crate::raft::peers::Peers;
use crate::replica::Replica;
use crate::roster::NodeId;
use crate::scribe::NotLeader;

/// Before something is offered again: nobody leads, or the leader cannot be reached.
const RETRY: Duration = Duration::from_millis(20);
/// Hints that are followed without having found a leader.
const HINTS_IN_A_ROW: u32 = 2;
/// Questions by which a leader is found at once or not at all: to a member that does not lead, and to whom it names.
const ASKED_AT_ONCE: usize = 3;

/// What couriers of all groups share.
pub(crate) struct Office {
    pub config: Arc<Config>,
    pub replica: Arc<Replica>,
    pub groups: Arc<Groups>,
    pub desk: Arc<Desk>,
    pub peers: Peers,
    pub leases: Arc<Leases>,
}

/// One group's.
#[derive(Clone)]
pub(crate) struct Courier {
    office: Arc<Office>,
    group: u32,
    /// Who led when this node, which has no replica or a mistaken one, was last told.
    known: Option<NodeId>,
    /// Hints followed in a row, none of which led to a leader.
    hints: u32,
    /// Which member a node that knows nothing asks next.
    turn: usize,
    /// Whether this node's own replica may say who leads.
    own_view: bool,
}

impl Courier {
    pub(crate) fn new(office: Arc<Office>, group: u32) -> Self {
        Courier { office, group, known: None, hints: 0, turn: 0, own_view: true }
    }

    /// Asks the group's members, whatever this node's own replica believes.
    pub(crate) fn elsewhere(office: Arc<Office>, group: u32) -> Self {
        Courier { own_view: false, ..Courier::new(office, group) }
    }

    /// Until the batch in flight is settled or given up. Offering it again is harmless: its number is known. `logged` is
    /// told what the leader made of it.
    pub(crate) async fn offer<R>(&mut self, batch: Bytes, flight: &Flight<R>, logged: impl Fn(Logged)) {
        let mut settled = flight.watch();
        while !flight.is_empty() {
            let said = tokio::select! {
                said = self.submit(batch.clone()) => said,
                _ = settled.changed() => continue,
            };
            match said {
                // It comes to this node with the log. Only if that takes very long, ask again.
                Ok(said) => {
                    logged(said);
                    if timeout(self.office.config.claim_timeout, settled.changed()).await.is_err() {
                        tracing::debug!(group = self.group, "a logged batch has not been applied here yet");
                    }
                }
                Err(NotLeader(_)) => sleep(RETRY).await,
            }
        }
    }

    async fn submit(&mut self, batch: Bytes) -> Result<Logged, NotLeader> {
        let Some(leader) = self.leader() else { return Err(self.learn(NotLeader(None))) };
        let office = self.office.clone();
        let within = office.config.rpc_timeout;
        let said = if leader == office.replica.me() {
            timeout(within, office.desk.log(self.group, batch)).await.unwrap_or(Err(NotLeader(None)))
        } else {
            self.submit_to(leader, batch).await
        };
        if said.is_ok() {
            self.remember(leader);
        }
        said.map_err(|no| self.learn(no))
    }

    async fn submit_to(&self, leader: NodeId, batch: Bytes) -> Result<Logged, NotLeader> {
        let address = self.address_of(leader).ok_or(NotLeader(None))?;
        let mut client = self.office.peers.client(&address).map_err(|_| NotLeader(None))?;
        let (group, within) = (self.group, self.office.config.rpc_timeout);
        // A task of its own: the log often brings the batch here before the answer comes, and to cancel the call then,
        // batch after batch, is more work for both ends than to let it be answered.
        let asking =
            tokio::spawn(async move { timeout(within, client.propose(ProposeRequest { batch, group })).await });
        let reply = answered(asking.await.map_err(|_| NotLeader(None))?, &address)?;
        match reply.result {
            Some(propose_reply::Result::Applied(index)) => Ok(Logged { index, outcomes: reply.outcomes }),
            Some(propose_reply::Result::NotLeader(hint)) => Err(NotLeader(hint.leader)),
            None => Err(NotLeader(None)),
        }
    }

    /// An index behind which nothing is that was committed in the group when it was asked; and the group's members, if
    /// they are settled.
    pub(crate) async fn confirm(&mut self) -> Result<(u64, Vec<NodeId>), NotLeader> {
        let Some(leader) = self.leader() else { return Err(self.learn(NotLeader(None))) };
        let office = self.office.clone();
        let said = if leader == office.replica.me() {
            let confirming = timeout(office.config.rpc_timeout, office.desk.confirm(self.group));
            confirming.await.unwrap_or(Err(NotLeader(None)))
        } else {
            self.confirm_with(leader).await
        };
        if said.is_ok() {
            self.remember(leader);
        }
        said.map_err(|no| self.learn(no))
    }

    async fn confirm_with(&self, leader: NodeId) -> Result<(u64, Vec<NodeId>), NotLeader> {
        let address = self.address_of(leader).ok_or(NotLeader(None))?;
        let mut client = self.office.peers.client(&address).map_err(|_| NotLeader(None))?;
        let asking = client.confirm(ConfirmRequest { group: self.group });
        let reply = answered(timeout(self.office.config.rpc_timeout, asking).await, &address)?;
        match reply.result {
            Some(confirm_reply::Result::Index(index)) => Ok((index, reply.members)),
            Some(confirm_reply::Result::NotLeader(hint)) => Err(NotLeader(hint.leader)),
            None => Err(NotLeader(None)),
        }
    }

    /// As [`Self::confirm`], until it is answered.
    pub(crate) async fn confirm_patiently(&mut self) -> u64 {
        loop {
            match self.confirm().await {
                Ok((index, _)) => return index,
                Err(NotLeader(_)) => sleep(RETRY).await,
            }
        }
    }

    /// The group's members by its leader; `None` if it cannot be found at once, or they are not settled.
    pub(crate) async fn settled_members(&mut self) -> Option<Vec<NodeId>> {
        for _ in 0..ASKED_AT_ONCE {
            if let Ok((_, members)) = self.confirm().await {
                return (!members.is_empty()).then_some(members);
            }
        }
        None
    }

    fn leader_known_here(&self) -> Option<NodeId> {
        if !self.own_view {
            return None;
        }
        self.office.groups.get(self.group).and_then(|group| group.leader())
    }

    /// Who is to be asked: whoever was named last, else who leads by this node's own replica, else the members in turn.
    fn leader(&self) -> Option<NodeId> {
        self.known.or_else(|| self.leader_known_here()).or_else(|| {
            let roster = self.office.replica.roster();
            let placement = placement_of(&roster, self.group)?;
            let me = self.office.replica.me();
            let others: Vec<NodeId> = placement.members.iter().copied().filter(|member| *member != me).collect();
            others.get(self.turn % others.len().max(1)).copied()
        })
    }

    /// Where a replica of its own tells who leads, it is the first to hear of another.
    fn remember(&mut self, leader: NodeId) {
        self.hints = 0;
        self.known = self.leader_known_here().is_none().then_some(leader);
    }

    /// A hint is followed, but not for ever: who has stopped may name itself, or two each other. Without one, the next
    /// member is asked.
    fn learn(&mut self, no: NotLeader) -> NotLeader {
        self.known = no.0.filter(|_| self.hints < HINTS_IN_A_ROW);
        if self.known.is_some() {
            self.hints += 1;
        } else {
            self.hints = 0;
            self.turn = self.turn.wrapping_add(1);
        }
        no
    }

    fn address_of(&self, node: NodeId) -> Option<String> {
        let known = self.office.groups.get(self.group).and_then(|group| group.member(node));
        known.map(|member| member.rpc_address).or_else(|| {
            let roster = self.office.replica.roster();
            roster.node(node).map(|node| node.rpc_address.clone())
        })
    }
}

fn answered<T>(
    answer: Result<Result<Response<T>, Status>, tokio::time::error::Elapsed>,
    address: &str,
) -> Result<T, NotLeader> {
    match answer {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => {
            tracing::debug!(%status, %address, "the leader did not answer");
            Err(NotLeader(None))
        }
        Err(_) => Err(NotLeader(None)),
    }
}

/// Commands in a batch by which a lane counts as busy.
const BUSY: u32 = 8;

/// When the next batch leaves. Whoever sends one command after the other's answer waits for nothing but the log; the more
/// commands came together, the longer the next batch gathers more, up to the whole interval: fewer entries for as much.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<(Instant, usize)>,
}

impl Pace {
    pub(crate) async fn keep(&self, interval: Duration) {
        let Some((left, commands)) = self.last else { return };
        let next = left + gap(interval, commands);
        // The runtime's clock ticks in milliseconds: also a sleep that is over already may last until the next.
        if next > Instant::now() {
            sleep_until(next).await;
        }
    }

    pub(crate) fn leaves(&mut self, commands: usize) {
        self.last = Some((Instant::now(), commands));
    }
}

fn gap(interval: Duration, commands: usize) -> Duration {
    let others = u32::try_from(commands.saturating_sub(1)).unwrap_or(BUSY);
    interval * others.min(BUSY) / BUSY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_commands_came_together_the_longer_the_next_batch_gathers_up_to_the_interval() {
        let interval = Duration::from_millis(4);
        assert_eq!(gap(interval, 0), Duration::ZERO);
        assert_eq!(gap(interval, 1), Duration::ZERO);
        assert_eq!(gap(interval, 5), Duration::from_millis(2));
        assert_eq!(gap(interval, 9), interval);
        assert_eq!(gap(interval, usize::MAX), interval);
    }
}
