//! This node's commands for the roster, gathered into numbered batches, one in flight, sent to whoever leads.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rollcall_proto::schema::roster::{Batch, Command, Found, NodeUp, command, outcome};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::courier::{Courier, Pace};
use crate::pending::{Answer, Asked};
use crate::replica::Replica;

/// Bytes of commands in one batch, but for the last: far below what one message between nodes may have, also where every
/// claim brings a will.
const BATCH_BYTES: usize = 4 << 20;

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
    courier: Courier,
    queue: mpsc::Receiver<Asked>,
    epoch: watch::Receiver<u64>,
    /// Of this epoch's last batch.
    number: u64,
    pace: Pace,
}

impl Proposer {
    pub(crate) fn new(config: Arc<Config>, replica: Arc<Replica>, courier: Courier) -> (Self, Proposals) {
        let (sender, queue) = mpsc::channel(config.queue);
        let epoch = replica.epoch();
        let proposals = Proposals { queue: sender, epoch: replica.epoch(), claim_timeout: config.claim_timeout };
        (Proposer { config, replica, courier, queue, epoch, number: 0, pace: Pace::default() }, proposals)
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
            self.pace.keep(self.config.batch_interval).await;
            let mut bytes: usize = asked.iter().map(|asked| asked.command.encoded_len()).sum();
            while asked.len() < self.config.batch_commands && bytes < BATCH_BYTES {
                let Ok(next) = self.queue.try_recv() else { break };
                bytes += next.command.encoded_len();
                asked.push(next);
            }
            self.pace.leaves(asked.len());
            self.carry(asked).await;
        }
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
        self.courier.offer(batch.encode_to_vec().into(), self.replica.pending.flight(), |_| {}).await;
    }

    /// Brings this node up with a new epoch.
    async fn arrive(&mut self) {
        self.refuse_waiting();
        let boot = rand::random::<u64>() | 1;
        let commands = [
            command::Kind::Found(Found {
                cluster_id: rand::random::<u64>() | 1,
                limits: Some(self.config.limits),
                shards: self.config.shards,
                replicas: self.config.replicas,
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
        self.courier.offer(batch.encode_to_vec().into(), self.replica.pending.flight(), |_| {}).await;
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
