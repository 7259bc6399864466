//! What the roster's leader does for all: declare the dead, reap, expire, plan; and each node for itself:
//! snapshots, the fence.

use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::roster::{Expire, NodeDown, Reap, command};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::clock::{LogNow, boottime, wall_ms};
use crate::config::Config;
use crate::desk::Desk;
use crate::lease::{Leases, is_lease};
use crate::pages::PAGES;
use crate::placement::Planner;
use crate::propose::Proposals;
use crate::replica::Replica;
use crate::snapshotter::Snapshotter;
use crate::upgrade::Upgrade;

/// Between two looks at what there is to clean up.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Pages of the roster looked through for expired sessions at one look: all of them in half a minute.
const PAGES_PER_LOOK: usize = PAGES / 128;
/// Sessions ended by one command.
const EXPIRE_BATCH: usize = 1_000;

pub(crate) struct Housekeeper {
    pub config: Arc<Config>,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub proposals: Proposals,
    pub snapshotter: Snapshotter,
    pub planner: Planner,
    pub upgrade: Upgrade,
}

impl Housekeeper {
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut page = 0;
        let mut now = LogNow::default();
        loop {
            ticks.tick().await;
            self.snapshotter.look().await;
            let Some(term) = self.desk.leading() else { continue };
            self.desk.judge_divisions(self.config.node_timeout);
            self.declare_dead().await;
            self.reap().await;
            let now = now.look(self.replica.roster().time(), wall_ms(), boottime());
            page = self.expire(page, now).await;
            self.planner.look(term).await;
            self.upgrade.look().await;
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
    async fn expire(&self, page: usize, now: u64) -> usize {
        let pages = page..(page + PAGES_PER_LOOK).min(PAGES);
        let next = if pages.end == PAGES { 0 } else { pages.end };
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
        if *epoch.borrow_and_update() == 0 || !is_lease(*granted.borrow_and_update()) {
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
