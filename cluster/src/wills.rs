//! Wills on their way to everyone: the roster's leader fires those that are due, has retained ones committed by their
//! shards, brings published ones into inboxes, and forgets those that everyone has. Each step can be repeated.

use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::message::Message;
use rollcall_proto::schema::roster::{DropWills, FireWills, MatchWills, WillId, command};
use rollcall_proto::schema::shard::{self, Enqueue, Origin, OriginKind, Retain, ShardTargets};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::{LogNow, boottime, wall_ms};
use crate::config::Config;
use crate::desk::Desk;
use crate::message::from_body;
use crate::propose::{Proposals, Unavailable};
use crate::replica::Replica;
use crate::roster::PendingWill;
use crate::shard::Shards;
use crate::targets::{Gathering, add};

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// Wills of one command.
const BATCH: usize = 1_000;

pub(crate) struct Executor {
    pub config: Arc<Config>,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub proposals: Proposals,
    pub shards: Arc<Shards>,
}

impl Executor {
    pub(crate) async fn run(self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The term this node has led in, and the last will that is in all inboxes it is for.
        let (mut term, mut delivered) = (0, 0);
        let mut now = LogNow::default();
        loop {
            ticks.tick().await;
            match self.desk.leading() {
                Some(leading) if leading == term => {}
                Some(leading) => (term, delivered) = (leading, 0),
                None => continue,
            }
            let now = now.look(self.replica.roster().time(), wall_ms(), boottime());
            if let Err(error) = self.carry(now, &mut delivered).await {
                tracing::warn!(%error, "wills have to wait");
            }
        }
    }

    async fn carry(&self, now: u64, delivered: &mut u64) -> Result<(), Unavailable> {
        self.fire_due(now).await?;
        self.commit_retained().await?;
        self.fill_inboxes(delivered).await?;
        self.drop_delivered(*delivered).await
    }

    async fn fire_due(&self, now: u64) -> Result<(), Unavailable> {
        // The log's time may be behind: what it does not find due is due at a later look.
        let wills = self.replica.roster().due_wills(now, BATCH);
        if wills.is_empty() {
            return Ok(());
        }
        self.proposals.ask(command::Kind::FireWills(FireWills { wills })).await.map(|_| ())
    }

    /// A retained message is matched only after its shard has committed it.
    async fn commit_retained(&self) -> Result<(), Unavailable> {
        let firing: Vec<Arc<PendingWill>> = self.replica.roster().firing().take(BATCH).cloned().collect();
        if firing.is_empty() {
            return Ok(());
        }
        let mut answers = Vec::with_capacity(firing.len());
        for will in &firing {
            let Some(message) = from_body(will.will.message.clone(), None) else { continue };
            let shard = self.replica.roster().shard_of(&message.topic);
            let retain = Retain {
                message: will.will.message.clone(),
                expires_in: will.will.expires_in,
                origin: Some(origin_of(will)),
            };
            answers.push(self.shards.submit(shard, shard::command::Kind::Retain(retain)));
        }
        for answer in answers {
            answer.await?;
        }
        let wills: Vec<WillId> = firing.iter().map(|will| will.id()).collect();
        self.proposals.ask(command::Kind::MatchWills(MatchWills { wills })).await.map(|_| ())
    }

    /// Live sessions were given it as it was matched; persistent ones find it in their inboxes, once.
    async fn fill_inboxes(&self, delivered: &mut u64) -> Result<(), Unavailable> {
        let matched: Vec<Arc<PendingWill>> =
            self.replica.roster().matched_after(*delivered).take(BATCH).cloned().collect();
        let mut answers = Vec::new();
        for will in &matched {
            let Some(message) = from_body(will.will.message.clone(), None) else { continue };
            for ShardTargets { shard, targets } in self.targets(&message) {
                let enqueue = Enqueue {
                    message: will.will.message.clone(),
                    targets,
                    expires_in: will.will.expires_in,
                    origin: Some(origin_of(will)),
                };
                answers.push(self.shards.submit(shard, shard::command::Kind::Enqueue(enqueue)));
            }
        }
        for answer in answers {
            answer.await?;
        }
        if let Some(last) = matched.last() {
            *delivered = last.number;
        }
        Ok(())
    }

    fn targets(&self, message: &Message) -> Vec<ShardTargets> {
        let (mut gathering, mut shared) = (Gathering::default(), Vec::new());
        self.replica.routes().for_each_match(&message.topic, |route| {
            gathering.add(route);
            let members = route.shared.values().filter_map(|group| group.of_will(message));
            shared.extend(members.filter_map(|(client_id, member)| member.target(client_id, message)));
        });
        let roster = self.replica.roster();
        let mut targets = gathering.finish(|client_id| roster.shard_of(client_id)).of(message);
        for target in shared {
            add(&mut targets, roster.shard_of(&target.client_id), target);
        }
        targets
    }

    /// A node that has not applied a match for `cluster.node_timeout` has no lease from after it: its connections are
    /// closed, and nobody there misses the will if a snapshot takes it past the match.
    async fn drop_delivered(&self, delivered: u64) -> Result<(), Unavailable> {
        let longest = self.config.node_timeout.as_millis() as u64;
        let numbers: Vec<u64> = {
            let roster = self.replica.roster();
            let old = roster
                .matched_after(0)
                .take_while(|will| will.number <= delivered && will.matched_at + longest <= roster.time());
            old.take(BATCH).map(|will| will.number).collect()
        };
        if numbers.is_empty() {
            return Ok(());
        }
        self.proposals.ask(command::Kind::DropWills(DropWills { numbers })).await.map(|_| ())
    }
}

fn origin_of(will: &PendingWill) -> Origin {
    Origin { kind: OriginKind::Will.into(), client_id: will.client_id.to_string(), incarnation: 0, number: will.epoch }
}
