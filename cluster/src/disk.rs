//! All that a node keeps on its disk, opened.

use rollcall_storage::{Bodies, BodiesOptions, DataDir, EventLog, EventLogOptions, Identity, RaftLog, RaftLogOptions};

use crate::cluster::StartError;
use crate::config::Config;

pub(crate) struct Disk {
    pub data_dir: DataDir,
    pub log: RaftLog,
    pub events: EventLog,
    pub bodies: Bodies,
}

impl Disk {
    /// # Errors
    /// [`StartError`]; nothing on disk was changed then.
    pub(crate) fn open(config: &Config) -> Result<Disk, StartError> {
        let data_dir = data_dir(config)?;
        let log = RaftLog::open(&data_dir.raft_log(), RaftLogOptions::default())?;
        Self::beside(config, data_dir, log)
    }

    /// What else there is.
    pub(crate) fn beside(config: &Config, data_dir: DataDir, log: RaftLog) -> Result<Disk, StartError> {
        let events = EventLog::open(&data_dir.events(), event_log_options(config.event_retention))?;
        let bodies = Bodies::open(&data_dir.bodies(), BodiesOptions::default())?;
        Ok(Disk { data_dir, log, events, bodies })
    }
}

pub(crate) fn data_dir(config: &Config) -> Result<DataDir, StartError> {
    let identity = Identity { cluster: config.cluster_name.clone(), node: config.node_name.clone() };
    Ok(DataDir::open(&config.data_dir, &identity, rand::random::<u64>() >> 1 | 1)?)
}

/// Whole segments are dropped, so a short retention needs small ones.
fn event_log_options(retention: u64) -> EventLogOptions {
    /// Bytes, roughly, and segments per retention.
    const EVENT: u64 = 128;
    const SEGMENTS: u64 = 8;
    let largest = EventLogOptions::default().segment_size;
    EventLogOptions { segment_size: (retention * EVENT / SEGMENTS).clamp(16 << 10, largest) }
}
