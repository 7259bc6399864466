//! openraft behind one door: its types as we use them. Besides this folder only the desk, the server and the
//! handle call it.

pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod peers;
pub(crate) mod receive;
pub(crate) mod replicated;
#[cfg(test)]
mod tests;
pub(crate) mod trunk;
pub(crate) mod wire;
pub(crate) mod wiring;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, SnapshotPolicy};

/// The roster's group in everything that several groups share.
pub(crate) const ROSTER: u32 = 0;

/// One batch as the leader logged it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// Milliseconds since 1970.
    pub time: u64,
    /// An encoded `Batch` of the group's schema.
    pub batch: Bytes,
}

impl fmt::Display for Stamped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.batch.len(), self.time)
    }
}

/// How a member is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    pub rpc_address: String,
    pub name: String,
}

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Stamped,
        R = (),
        NodeId = u64,
        Node = Member,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, machine::Machine>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, machine::SnapshotFile>;

/// Entries behind a snapshot that stay in the log, so that a follower that lags a little needs no snapshot.
const KEPT_BEHIND_SNAPSHOT: u64 = 500;

pub(crate) fn config(
    cluster: &str,
    heartbeat: Duration,
    election: Duration,
) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: cluster.into(),
        heartbeat_interval: heartbeat.as_millis() as u64,
        election_timeout_min: election.as_millis() as u64,
        election_timeout_max: election.as_millis() as u64 * 4 / 3,
        enable_pre_vote: Some(true),
        // A leader's entries reach its followers before its own disk has them. After a crash it could lack what they hold
        // of its term, and number other entries the same: replicas would differ for ever. So it never goes on in its old
        // term, and another election decides whose log counts.
        enable_leader_restore: Some(false),
        // We know the size of the log, openraft only its length: snapshots are asked for.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 256,
        ..Config::default()
    };
    config.validate().map(Arc::new)
}
