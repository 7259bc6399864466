//! What the leader of a shard cleans up: inboxes of sessions that have ended, expired messages, origins that will hand on
//! nothing more; and sessions that are to end because their inbox has overflowed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::roster::{self, Overflowed};
use rollcall_proto::schema::shard::{Close, Forget, OriginKind, Sweep, command};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::{ShardReplica, Shards};
use crate::inbox::Source;
use crate::pages::PAGES;
use crate::propose::Proposals;
use crate::replica::Replica;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Pages looked through at one look: all of them in half a minute.
const PAGES_PER_LOOK: usize = PAGES / 128;
/// Inboxes closed, and messages swept, at one look.
const BATCH: usize = 1_000;
/// How long an origin is remembered that has handed on nothing and whose session has ended: longer than any leader of
/// its shard that was cut off may still believe to lead.
const REMEMBERED: Duration = Duration::from_secs(3_600);

pub(crate) struct Janitor {
    pub shards: Arc<Shards>,
    pub roster: Arc<Replica>,
    pub proposals: Proposals,
    pub replica: Arc<ShardReplica>,
    /// 0 while this node does not lead the shard.
    pub leading: watch::Receiver<u64>,
}

impl Janitor {
    /// Until the group stops.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pages = 0..PAGES_PER_LOOK;
        let mut origin = None;
        while self.leading.wait_for(|term| *term != 0).await.is_ok() {
            ticks.tick().await;
            self.end_overflowed().await;
            self.close_ended(pages.clone()).await;
            self.sweep(pages.clone()).await;
            origin = self.forget_origins(origin).await;
            pages = if pages.end >= PAGES { 0..PAGES_PER_LOOK } else { pages.end..pages.end + PAGES_PER_LOOK };
        }
    }

    /// Of sessions that this node's roster, at least as new as the inbox's opening, does not know any more.
    async fn close_ended(&self, pages: Range<usize>) {
        let roster_index = *self.roster.applied().borrow();
        let ended: Vec<Close> = {
            let (shard, roster) = (self.replica.shard(), self.roster.roster());
            let lives = |client_id: &str, incarnation: u64| {
                roster.session(client_id).is_some_and(|session| session.durable && session.incarnation == incarnation)
            };
            let ended = shard.inboxes(pages).filter(|(client_id, inbox)| {
                inbox.roster_index() <= roster_index && !lives(client_id, inbox.incarnation())
            });
            let close = |(client_id, inbox): (&str, &crate::inbox::Inbox)| Close {
                client_id: client_id.to_owned(),
                incarnation: inbox.incarnation(),
                roster_index,
            };
            ended.take(BATCH).map(close).collect()
        };
        for close in ended {
            drop(self.shards.submit(self.replica.number(), command::Kind::Close(close)));
        }
    }

    async fn sweep(&self, pages: Range<usize>) {
        let now = self.replica.log_now();
        let sweep = {
            let shard = self.replica.shard();
            Sweep { client_ids: shard.expired(pages, now, BATCH), topics: shard.expired_topics(now, BATCH) }
        };
        if !sweep.client_ids.is_empty() || !sweep.topics.is_empty() {
            drop(self.shards.submit(self.replica.number(), command::Kind::Sweep(sweep)));
        }
    }

    /// Goes on behind `after`; where it has come.
    async fn forget_origins(&self, after: Option<Source>) -> Option<Source> {
        let old = self.replica.log_now().saturating_sub(REMEMBERED.as_millis() as u64);
        let mut last = None;
        let mut origins = Vec::new();
        {
            let (shard, roster) = (self.replica.shard(), self.roster.roster());
            for (source, mark) in shard.origins(after.as_ref()).take(BATCH) {
                last = Some(source.clone());
                let session = roster.session(&source.client_id);
                let lives = session.is_some_and(|session| match source.kind {
                    OriginKind::ExactlyOnce => session.incarnation == source.incarnation,
                    OriginKind::Will => true,
                });
                if mark.time < old && !lives {
                    origins.push(source.numbered(mark.number()));
                }
            }
            if origins.iter().any(|origin| origin.kind() == OriginKind::Will) {
                // What the roster still has, its next leader brings again: however old it is by a clock that has jumped.
                let pending: BTreeSet<&str> = roster.pending_wills().map(|will| &*will.client_id).collect();
                origins
                    .retain(|origin| origin.kind() != OriginKind::Will || !pending.contains(origin.client_id.as_str()));
            }
        }
        if !origins.is_empty() {
            drop(self.shards.submit(self.replica.number(), command::Kind::Forget(Forget { origins })));
        }
        last
    }

    async fn end_overflowed(&self) {
        for (client_id, incarnation) in self.replica.overflowed() {
            let overflowed = Overflowed { client_id: client_id.to_string(), incarnation };
            if let Err(error) = self.proposals.ask(roster::command::Kind::Overflowed(overflowed)).await {
                tracing::warn!(%error, %client_id, "a session that has overflowed goes on for the moment");
                self.replica.note_overflowed(client_id, incarnation);
                return;
            }
        }
    }
}
