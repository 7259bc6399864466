//! This node's copy of one shard, and what follows from it while entries are applied: answers, wake-ups, spilling.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use prost::Message as _;
use rollcall_proto::schema::shard::{Batch, Outcome, Stale, outcome};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use super::Lane;
use super::spill::{Space, Spill};
use crate::clock::wall_ms;
use crate::inbox::{BodyRef, Effects, Shard};
use crate::raft::replicated::{Frozen, Replicated};
use crate::roster::NodeId;

pub struct ShardReplica {
    number: u32,
    me: NodeId,
    shard: RwLock<Shard>,
    /// Index of the last entry that the shard has seen; stored under its lock.
    seen: AtomicU64,
    spill: Arc<Spill>,
    /// Where the shard's spilled bodies are. Who looked one up before it changed finds the same under its id after it.
    space: Mutex<Space>,
    /// The last attempt to spill failed.
    in_memory: AtomicBool,
    /// The shard has moved off this node: nothing more is applied here.
    ended: AtomicBool,
    /// Index of the last applied entry.
    applied: watch::Sender<u64>,
    /// Where this node's own batches come from.
    lane: Arc<Lane>,
    /// Who reads which inbox.
    readers: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
    /// There may be something new to hand on.
    hand_ons: Notify,
    /// Sessions that are to end.
    overflowed: Mutex<Vec<(Arc<str>, u64)>>,
}

/// One reader's ear at an inbox; the last one to come is told.
pub(crate) struct Watch {
    replica: Arc<ShardReplica>,
    client_id: Arc<str>,
    filled: Arc<Notify>,
}

impl Watch {
    /// Waits until something may have come since the last time.
    pub(crate) async fn changed(&self) {
        self.filled.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut readers = self.replica.readers.lock();
        if readers.get(&self.client_id).is_some_and(|filled| Arc::ptr_eq(filled, &self.filled)) {
            readers.remove(&self.client_id);
        }
    }
}

impl ShardReplica {
    pub(crate) fn new(number: u32, me: NodeId, lane: Arc<Lane>, spill: Arc<Spill>) -> Arc<Self> {
        Arc::new(ShardReplica {
            number,
            me,
            shard: RwLock::new(Shard::new(number)),
            seen: AtomicU64::new(0),
            space: Mutex::new(spill.space()),
            spill,
            in_memory: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            applied: watch::Sender::new(0),
            lane,
            readers: Mutex::default(),
            hand_ons: Notify::new(),
            overflowed: Mutex::default(),
        })
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Hold it briefly, entries wait meanwhile.
    pub fn shard(&self) -> RwLockReadGuard<'_, Shard> {
        self.shard.read()
    }

    /// A copy, which shares all pages with the original, and the index it is exactly the state of; `None` while an entry is
    /// being applied.
    pub(crate) fn exactly(&self) -> Option<(u64, Shard)> {
        let applied = *self.applied.borrow();
        let shard = self.shard.read();
        (self.seen.load(Ordering::Acquire) <= applied).then(|| (applied, shard.clone()))
    }

    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Waits until the entry at that index is applied here. Whether it is: a replica that has ended may be behind for ever.
    pub(crate) async fn wait_applied(&self, index: u64) -> bool {
        // Never closed: this very struct holds the sender.
        let _ = self.applied().wait_for(|applied| *applied >= index || self.has_ended()).await;
        !self.has_ended()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whoever reads here has to go on elsewhere, and is told.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.applied.send_modify(|_| {});
        self.readers.lock().values().for_each(|filled| filled.notify_one());
    }

    /// Log time as this node may reckon it between entries; milliseconds since 1970.
    pub(crate) fn log_now(&self) -> u64 {
        self.shard().time().max(wall_ms())
    }

    /// Is told from now on what comes into that inbox.
    pub(crate) fn watch(self: &Arc<Self>, client_id: &Arc<str>) -> Watch {
        let filled = Arc::new(Notify::new());
        self.readers.lock().insert(client_id.clone(), filled.clone());
        Watch { replica: self.clone(), client_id: client_id.clone(), filled }
    }

    /// Waits until there may be something new to hand on; what came since the last time counts.
    pub(crate) fn hand_ons_changed(&self) -> Notified<'_> {
        self.hand_ons.notified()
    }

    /// Sessions that are to end; each is named once.
    pub(crate) fn overflowed(&self) -> Vec<(Arc<str>, u64)> {
        std::mem::take(&mut self.overflowed.lock())
    }

    pub(crate) fn note_overflowed(&self, client_id: Arc<str>, incarnation: u64) {
        self.overflowed.lock().push((client_id, incarnation));
    }

    /// The bytes of a message; `NotFound` if it has gone since it was looked up.
    pub(crate) fn body(&self, body: BodyRef) -> io::Result<Bytes> {
        match body {
            BodyRef::Memory(bytes) => Ok(bytes),
            BodyRef::Spilled(id) => self.spill.get(self.space(), id),
        }
    }

    fn space(&self) -> Space {
        *self.space.lock()
    }

    /// Of a batch that has been applied: what is remembered of it. A node's later epoch has made it stale.
    pub(crate) fn outcomes_of(&self, batch: &Batch) -> Vec<Outcome> {
        match self.shard().last_outcomes(batch.node) {
            Some((epoch, number, outcomes)) if (epoch, number) == (batch.node_epoch, batch.number) => outcomes.to_vec(),
            Some(_) | None => {
                let stale = || Outcome { kind: Some(outcome::Kind::Stale(Stale {})) };
                batch.commands.iter().map(|_| stale()).collect()
            }
        }
    }

    fn carry_out(&self, effects: &Effects) {
        {
            let readers = self.readers.lock();
            let waiting = effects.filled.iter().filter_map(|client_id| readers.get(client_id));
            waiting.for_each(|filled| filled.notify_one());
        }
        if effects.hand_ons {
            self.hand_ons.notify_one();
        }
        for (client_id, incarnation) in &effects.overflowed {
            self.note_overflowed(client_id.clone(), *incarnation);
        }
        if effects.dropped > 0 {
            metrics::counter!("rollcall_inbox_dropped_total").increment(effects.dropped);
        }
        self.spill.release(self.space(), &effects.freed);
    }

    /// Brings the bodies in memory back to what they may take.
    fn relieve(&self, shard: &mut Shard) {
        let over = shard.memory().saturating_sub(self.spill.budget());
        if over == 0 {
            return;
        }
        let chosen = shard.to_spill(over + self.spill.budget() / 16);
        let space = self.space();
        if !self.put(space, &chosen) {
            return;
        }
        let ids: Vec<u64> = chosen.into_iter().map(|(id, _)| id).collect();
        let gone = shard.spilled(&ids);
        self.spill.release(space, &gone);
    }

    /// Whether they are spilled. Else they stay where they are, which is said once; the disk's own troubles show elsewhere.
    fn put(&self, space: Space, bodies: &[(u64, Bytes)]) -> bool {
        let put = self.spill.put(space, bodies);
        let failed_before = self.in_memory.swap(put.is_err(), Ordering::Relaxed);
        if let Err(error) = &put
            && !failed_before
        {
            tracing::error!(shard = self.number, %error, "messages cannot be spilled: they stay in memory");
        }
        put.is_ok()
    }
}

impl Replicated for ShardReplica {
    fn apply(&self, index: u64, time: u64, batch: &Bytes) -> io::Result<()> {
        let batch = Batch::decode(batch.clone()).map_err(io::Error::other)?;
        let effects = {
            let mut shard = self.shard.write();
            self.seen.store(index, Ordering::Release);
            let effects = shard.apply(time, &batch);
            self.relieve(&mut shard);
            effects
        };
        self.carry_out(&effects);
        if batch.node == self.me {
            self.lane.answer(batch.node_epoch, batch.number, index, &effects.outcomes);
        }
        Ok(())
    }

    fn advance(&self, index: u64) {
        self.applied.send_replace(index);
    }

    fn time(&self) -> u64 {
        self.shard().time()
    }

    fn weight(&self) -> u64 {
        self.shard().bytes()
    }

    fn freeze(self: Arc<Self>) -> Box<dyn Frozen> {
        // First: what is freed from now on stays to be read.
        let kept = self.spill.keep();
        let shard = self.shard().clone();
        Box::new(FrozenShard { shard, space: self.space(), spill: self.spill.clone(), _kept: kept })
    }

    fn restore(&self, mut reader: &mut dyn Read, index: u64) -> io::Result<()> {
        let space = self.spill.space();
        let shard = Shard::read_spilling(&mut reader, self.spill.budget(), &mut |bodies| self.put(space, bodies));
        let read = shard.map_err(io::Error::other).and_then(|shard| {
            io::copy(reader, &mut io::sink())?;
            Ok(shard)
        });
        let shard = read.inspect_err(|_| self.spill.forget(space))?;
        let old = {
            let mut current = self.shard.write();
            self.seen.store(index, Ordering::Release);
            *current = shard;
            std::mem::replace(&mut *self.space.lock(), space)
        };
        self.spill.forget(old);
        // The batch in flight may be among what the snapshot has replaced.
        if let Some((epoch, number, outcomes)) = self.shard().last_outcomes(self.me) {
            self.lane.answer(epoch, number, index, outcomes);
        }
        self.readers.lock().values().for_each(|filled| filled.notify_one());
        self.hand_ons.notify_one();
        self.advance(index);
        Ok(())
    }
}

impl Drop for ShardReplica {
    fn drop(&mut self) {
        self.spill.forget(self.space());
    }
}

struct FrozenShard {
    shard: Shard,
    space: Space,
    spill: Arc<Spill>,
    /// Spilled bodies stay as long as this does.
    _kept: super::spill::Kept,
}

impl Frozen for FrozenShard {
    /// A shard makes no events.
    fn seq(&self) -> u64 {
        0
    }

    fn write_to(&self, mut out: &mut dyn Write) -> io::Result<()> {
        self.shard.write_to(&mut out, &|id| self.spill.get(self.space, id))
    }
}
