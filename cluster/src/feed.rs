//! The event log as readers see it: the latest events from memory, older ones from disk.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message as _;
use rollcall_proto::schema::roster::Event;
use rollcall_storage::EventLog;
use tokio::sync::watch;

/// One event, and its rendering once a reader has asked for it.
#[derive(Debug)]
pub struct Recorded {
    pub event: Event,
    rendered: OnceLock<Bytes>,
}

impl Recorded {
    fn new(event: Event) -> Arc<Self> {
        Arc::new(Recorded { event, rendered: OnceLock::new() })
    }

    /// `render` runs once however many readers there are.
    pub fn rendered(&self, render: impl FnOnce(&Event) -> Bytes) -> &Bytes {
        self.rendered.get_or_init(|| render(&self.event))
    }
}

/// Looks at the retention while as many events are appended as are retained.
const LOOKS: u64 = 10;

pub struct EventFeed {
    log: EventLog,
    recent: RwLock<VecDeque<Arc<Recorded>>>,
    /// Held while events are added: from the log as it is applied, and from another node.
    adding: Mutex<()>,
    memory: usize,
    retention: u64,
    last: watch::Sender<u64>,
}

impl EventFeed {
    /// `memory` and `retention` in events.
    pub(crate) fn new(log: EventLog, memory: usize, retention: u64) -> Self {
        let last = watch::Sender::new(log.last());
        EventFeed { log, recent: RwLock::default(), adding: Mutex::new(()), memory, retention, last }
    }

    /// `seq` of the oldest event that can still be read; one above [`Self::last`] when there is none. Files are dropped
    /// whole, so the disk may hold some that are older.
    pub fn first(&self) -> u64 {
        self.log.first().max((self.last() + 1).saturating_sub(self.retention))
    }

    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Changes with every append, to the last `seq`.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// At most `limit` events behind `after`, in order and without a gap; from the oldest there is, if `after` is older.
    ///
    /// # Errors
    /// When the disk fails or a record on it is damaged.
    pub fn read(&self, after: u64, limit: usize) -> io::Result<Vec<Arc<Recorded>>> {
        {
            let recent = self.recent.read();
            let next = after.saturating_add(1);
            if let Some(oldest) = recent.front().map(|record| record.event.seq).filter(|oldest| *oldest <= next) {
                let skip = (next - oldest) as usize;
                return Ok(recent.iter().skip(skip).take(limit).cloned().collect());
            }
        }
        let records = self.log.read(after, limit)?;
        records
            .into_iter()
            .map(|(_, bytes)| Ok(Recorded::new(Event::decode(bytes).map_err(io::Error::other)?)))
            .collect()
    }

    /// Events that are there already are passed over: a replay of the log makes the same ones again.
    pub(crate) fn append(&self, events: Vec<Event>) -> io::Result<()> {
        let _adding = self.adding.lock();
        let known = self.last();
        let fresh: Vec<Event> = events.into_iter().filter(|event| event.seq > known).collect();
        let Some(last) = fresh.last().map(|event| event.seq) else { return Ok(()) };
        let records: Vec<(u64, Bytes)> =
            fresh.iter().map(|event| (event.seq, Bytes::from(event.encode_to_vec()))).collect();
        self.log.append(&records)?;
        let mut recent = self.recent.write();
        recent.extend(fresh.into_iter().map(Recorded::new));
        let excess = recent.len().saturating_sub(self.memory);
        recent.drain(..excess);
        drop(recent);
        let every = (self.retention / LOOKS).max(1);
        if last / every > known / every {
            self.log.retain(self.retention)?;
        }
        self.last.send_replace(last);
        Ok(())
    }

    /// As they are on disk, for a node that is given a snapshot.
    pub(crate) fn read_raw(&self, after: u64, limit: usize) -> io::Result<Vec<(u64, Bytes)>> {
        self.log.read(after, limit)
    }

    /// Takes over records of another node. Where they begin behind a gap, what was here is older than what the others
    /// retain, and goes.
    pub(crate) fn adopt(&self, records: &[(u64, Bytes)]) -> io::Result<()> {
        let Some((first, _)) = records.first() else { return Ok(()) };
        let _adding = self.adding.lock();
        self.recent.write().clear();
        if *first > self.log.last() + 1 {
            self.log.reset(*first)?;
        }
        self.log.append(records)?;
        self.last.send_replace(self.log.last());
        Ok(())
    }

    /// Before the Raft log that the events came from is freed.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }
}

#[cfg(test)]
mod tests;
