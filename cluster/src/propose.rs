//! The commands of this node, gathered into numbered batches, one in flight, sent to whoever leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rollcall_proto::schema::node::{ProposeRequest, propose_reply};
use rollcall_proto::schema::roster::{Batch, Command, Found, NodeUp, command, outcome};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::desk::{Desk, NotLeader};
use crate::pending::{Answer, Asked};
use crate::raft::ROSTER;
use crate::raft::network::Peers;
use crate::replica::Replica;
use crate::roster::NodeId;

/// Before a batch is offered again: nobody leads, or the leader cannot be reached.
const RETRY: Duration = Duration::from_millis(20);

/// Why a command was not carried out, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the cluster has not answered in time: it may have no leader; try again, or look at /api/v1/cluster")]
    Timeout,
    #[error("this node is not up in the cluster; try another node, or again in a moment")]
    NotUp,
}

/// Where commands enter.
#[derive(Clone)]
pub(crate) struct Proposals {
    queue: mpsc::Sender<Asked>,
    epoch: watch::Receiver<u64>,
    claim_timeout: Duration,
}

impl Proposals {
    /// The answer, once this node has applied the command; at the latest after `cluster.claim_timeout`.
    pub(crate) async fn ask(&self, kind: command::Kind) -> Result<Answer, Unavailable> {
        timeout(self.claim_timeout, self.ask_patiently(kind)).await.unwrap_or(Err(Unavailable::Timeout))
    }

    /// Waits as long as it takes, unless this node goes down.
    pub(crate) async fn ask_patiently(&self, kind: command::Kind) -> Result<Answer, Unavailable> {
        if *self.epoch.borrow() == 0 {
            return Err(Unavailable::NotUp);
        }
        let (reply, answer) = oneshot::channel();
        let asked = Asked { command: Command { kind: Some(kind) }, reply };
        self.queue.send(asked).await.map_err(|_| Unavailable::NotUp)?;
        answer.await.map_err(|_| Unavailable::NotUp)
    }
}

/// The task that empties the queue.
pub(crate) struct Proposer {
    config: Arc<Config>,
    replica: Arc<Replica>,
    desk: Arc<Desk>,
    peers: Peers,
    queue: mpsc::Receiver<Asked>,
    epoch: watch::Receiver<u64>,
    /// Of this epoch's last batch.
    number: u64,
    last_sent: Option<Instant>,
}

impl Proposer {
    pub(crate) fn new(config: Arc<Config>, replica: Arc<Replica>, desk: Arc<Desk>, peers: Peers) -> (Self, Proposals) {
        let (sender, queue) = mpsc::channel(config.queue);
        let epoch = replica.epoch();
        let proposals = Proposals { queue: sender, epoch: replica.epoch(), claim_timeout: config.claim_timeout };
        (Proposer { config, replica, desk, peers, queue, epoch, number: 0, last_sent: None }, proposals)
    }

    pub(crate) async fn run(mut self) {
        loop {
            if *self.epoch.borrow_and_update() == 0 {
                self.arrive().await;
                continue;
            }
            let mut asked = Vec::new();
            tokio::select! {
                first = self.queue.recv() => match first {
                    Some(first) => asked.push(first),
                    None => return,
                },
                // On a quiet node no other command would come to take it along.
                () = self.replica.pending.left_behind() => {}
                _ = self.epoch.changed() => continue,
            }
            if asked.is_empty() && !self.replica.pending.has_abandoned() {
                continue;
            }
            self.pace().await;
            while asked.len() < self.config.batch_commands {
                match self.queue.try_recv() {
                    Ok(next) => asked.push(next),
                    Err(_) => break,
                }
            }
            self.carry(asked).await;
        }
    }

    /// On a quiet node a batch leaves at once; on a busy one the next gathers more.
    async fn pace(&mut self) {
        if let Some(last) = self.last_sent {
            tokio::time::sleep_until(last + self.config.batch_interval).await;
        }
        self.last_sent = Some(Instant::now());
    }

    async fn carry(&mut self, asked: Vec<Asked>) {
        let epoch = *self.epoch.borrow();
        self.number += 1;
        let mut commands: Vec<Command> = asked.iter().map(|asked| asked.command.clone()).collect();
        // At the end, so that the answers of the others keep their places.
        commands.extend(self.replica.pending.take_abandoned());
        metrics::histogram!("rollcall_roster_batch_commands").record(commands.len() as f64);
        let batch = Batch { node: self.replica.me(), node_epoch: epoch, number: self.number, commands };
        self.replica.pending.put(epoch, self.number, asked);
        if *self.replica.epoch().borrow() != epoch {
            self.replica.pending.abandon();
            return;
        }
        self.offer(batch.encode_to_vec().into()).await;
    }

    /// Until the batch in flight is settled or given up. Offering it again is harmless: its number is known.
    async fn offer(&mut self, batch: Bytes) {
        let mut settled = self.replica.pending.watch();
        while !self.replica.pending.is_empty() {
            let logged = tokio::select! {
                logged = self.submit(batch.clone()) => logged,
                _ = settled.changed() => continue,
            };
            match logged {
                // Logged: it comes to this node with the log. Only if that takes very long, ask again.
                Ok(_) => {
                    if timeout(self.config.claim_timeout, settled.changed()).await.is_err() {
                        tracing::debug!("a logged batch has not been applied here yet");
                    }
                }
                Err(NotLeader(_)) => sleep(RETRY).await,
            }
        }
    }

    async fn submit(&self, batch: Bytes) -> Result<u64, NotLeader> {
        match self.desk.leader() {
            Some(leader) if leader == self.replica.me() => {
                timeout(self.config.rpc_timeout, self.desk.log(batch)).await.unwrap_or(Err(NotLeader(None)))
            }
            Some(leader) => self.submit_to(leader, batch).await,
            None => Err(NotLeader(None)),
        }
    }

    async fn submit_to(&self, leader: NodeId, batch: Bytes) -> Result<u64, NotLeader> {
        let address = self.desk.address_of(leader).ok_or(NotLeader(None))?;
        let mut client = self.peers.client(&address).map_err(|_| NotLeader(None))?;
        let asking = client.propose(ProposeRequest { batch, group: ROSTER });
        match timeout(self.config.rpc_timeout, asking).await {
            Ok(Ok(reply)) => match reply.into_inner().result {
                Some(propose_reply::Result::Applied(index)) => Ok(index),
                Some(propose_reply::Result::NotLeader(hint)) => Err(NotLeader(hint.leader)),
                None => Err(NotLeader(None)),
            },
            Ok(Err(status)) => {
                tracing::debug!(%status, %address, "the leader did not take a batch");
                Err(NotLeader(None))
            }
            Err(_) => Err(NotLeader(None)),
        }
    }

    /// Brings this node up with a new epoch.
    async fn arrive(&mut self) {
        self.refuse_waiting();
        let boot = rand::random::<u64>() | 1;
        let commands = [
            command::Kind::Found(Found {
                cluster_id: rand::random::<u64>() | 1,
                limits: Some(self.config.limits),
                ..Found::default()
            }),
            command::Kind::NodeUp(NodeUp {
                boot,
                name: self.config.node_name.clone(),
                mqtt_address: self.config.mqtt_address.clone(),
                rpc_address: self.config.rpc_advertise.clone(),
                http_address: self.config.http_address.clone(),
                version: self.config.version.clone(),
            }),
        ];
        let commands = commands.map(|kind| Command { kind: Some(kind) }).to_vec();
        let (replies, mut answers): (Vec<_>, Vec<_>) = commands
            .iter()
            .map(|command| {
                let (reply, answer) = oneshot::channel();
                (Asked { command: command.clone(), reply }, answer)
            })
            .unzip();
        let batch = Batch { node: self.replica.me(), node_epoch: 0, number: boot, commands };
        self.replica.pending.put(0, boot, replies);
        self.offer(batch.encode_to_vec().into()).await;
        let Some(answer) = answers.pop() else { return };
        match answer.await.map(|answer| answer.outcome) {
            Ok(outcome::Kind::NodeEpoch(granted)) => {
                tracing::info!(epoch = granted.epoch, "this node is up in the cluster");
                self.number = 0;
            }
            Ok(outcome::Kind::Conflict(conflict)) => {
                tracing::error!(why = conflict.why, "the cluster refuses this node; give it another node.name");
                sleep(self.config.node_timeout).await;
            }
            Ok(other) => tracing::warn!(?other, "an unexpected answer to this node's arrival"),
            Err(_) => {}
        }
    }

    /// What waited for an epoch that has ended: its callers learn it by their reply's end.
    fn refuse_waiting(&mut self) {
        while let Ok(asked) = self.queue.try_recv() {
            drop(asked);
        }
    }
}
