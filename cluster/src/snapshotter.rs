//! When a group's log gives way to a snapshot; one group at a time on a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollcall_storage::Pin;
use tokio::time::Instant;

use crate::groups::{Group, Groups};

/// Without new log for so long, a group counts as quiet.
const QUIET: Duration = Duration::from_secs(5);
/// What a quiet group's log may take on disk.
const QUIET_LOG: u64 = 1 << 20;
/// What its snapshot may take besides what is known to be in it.
const SHRUNK: u64 = 16 << 20;
/// A snapshot that is not there by then is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two requests to free the same entries: a follower may still be reading them.
const PURGE_AGAIN: Duration = Duration::from_secs(5);

/// What is known of one group's log.
struct Account {
    size: u64,
    /// Bytes of log that were there when the last snapshot was asked for, less what was freed since.
    covered: u64,
    changed: Instant,
}

/// A snapshot that has been asked for.
struct UnderWay {
    group: u32,
    /// It holds at least that.
    index: u64,
    /// Entries to be freed then, besides those that are freed anyway.
    purge: u64,
    asked: Instant,
}

pub(crate) struct Snapshotter {
    groups: Arc<Groups>,
    /// Bytes of log that are kept before a snapshot replaces them.
    after: u64,
    accounts: BTreeMap<u32, Account>,
    under_way: Option<UnderWay>,
    purged: Option<(Pin, Instant)>,
}

impl Snapshotter {
    pub(crate) fn new(groups: Arc<Groups>, after: u64) -> Self {
        Snapshotter { groups, after, accounts: BTreeMap::new(), under_way: None, purged: None }
    }

    pub(crate) async fn look(&mut self) {
        let groups = self.groups.all();
        self.accounts.retain(|number, _| groups.iter().any(|group| group.number == *number));
        for group in &groups {
            self.measure(group.number);
        }
        if !self.finish().await {
            return;
        }
        for group in &groups {
            if let Some(purge) = self.due(group) {
                return self.ask(group, purge).await;
            }
        }
    }

    fn measure(&mut self, number: u32) {
        let size = self.groups.log().size(number);
        let account =
            self.accounts.entry(number).or_insert_with(|| Account { size: 0, covered: 0, changed: Instant::now() });
        account.covered = account.covered.min(size);
        if account.size != size {
            account.size = size;
            account.changed = Instant::now();
        }
    }

    /// Whether nothing is under way any more.
    async fn finish(&mut self) -> bool {
        let Some(under_way) = self.under_way.take() else { return true };
        let Some(group) = self.groups.get(under_way.group) else { return true };
        if group.snapshots.latest().is_some_and(|snapshot| snapshot.index >= under_way.index) {
            purge(&group, under_way.purge).await;
            return true;
        }
        if under_way.asked.elapsed() > PATIENCE {
            tracing::warn!(group = group.number, "a snapshot has not come");
            return true;
        }
        self.under_way = Some(under_way);
        false
    }

    /// Up to which entry the log is to be freed with a snapshot, if one is due; 0 leaves that to Raft.
    fn due(&self, group: &Group) -> Option<u64> {
        let account = self.accounts.get(&group.number)?;
        let (index, state) = group.snapshots.latest().map_or((0, 0), |latest| (latest.index, latest.len));
        let applied = group.metrics().last_applied.map_or(0, |id| id.index);
        let fresh = account.size - account.covered;
        // So that a large state is not written again and again.
        let bound = self.after.max(state);
        if let Some(pin) = self.pin(group.number, bound) {
            return Some(pin.up_to);
        }
        if applied <= index {
            return None;
        }
        if fresh > bound {
            return Some(0);
        }
        if account.changed.elapsed() < QUIET {
            return None;
        }
        // The time to give disk back: log that a small snapshot replaces, or a snapshot of what is no longer there.
        let weight = group.replicated.weight();
        let small = fresh > QUIET_LOG.max(weight / 16);
        let shrunk = state > 4 * weight + SHRUNK;
        (small || shrunk).then_some(applied)
    }

    /// What the group keeps of the oldest file while all files take more than the bound, unless it was to be freed just
    /// now.
    fn pin(&self, group: u32, bound: u64) -> Option<Pin> {
        let pin = self.groups.log().oldest_pin().filter(|pin| pin.group == group)?;
        let tried = self.purged.is_some_and(|(last, at)| last == pin && at.elapsed() < PURGE_AGAIN);
        (!tried && self.groups.log().stats().disk_bytes > bound).then_some(pin)
    }

    async fn ask(&mut self, group: &Group, purge_to: u64) {
        if let Some(pin) = self.groups.log().oldest_pin().filter(|pin| pin.group == group.number) {
            self.purged = Some((pin, Instant::now()));
        }
        let latest = group.snapshots.latest().map_or(0, |snapshot| snapshot.index);
        if purge_to != 0 && purge_to <= latest {
            return purge(group, purge_to).await;
        }
        let index = group.metrics().last_applied.map_or(0, |id| id.index);
        if index <= latest {
            return;
        }
        if let Some(account) = self.accounts.get_mut(&group.number) {
            account.covered = account.size;
        }
        self.under_way = Some(UnderWay { group: group.number, index, purge: purge_to, asked: Instant::now() });
        if let Err(error) = group.raft.trigger().snapshot().await {
            tracing::error!(group = group.number, %error, "no snapshot can be taken: Raft has stopped");
            self.under_way = None;
        }
    }
}

async fn purge(group: &Group, up_to: u64) {
    if up_to != 0
        && let Err(error) = group.raft.trigger().purge_log(up_to).await
    {
        tracing::error!(group = group.number, %error, "the log cannot be freed: Raft has stopped");
    }
}
