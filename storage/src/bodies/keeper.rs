//! What callers and the thread share, and the thread's work: deleting generations and moving what lives in old ones.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::index::{Index, Name, Slot, cost};
use super::{BodiesOptions, BodiesStats, Generation};
use crate::failure::misuse;

/// What lives is moved once it is less than this part of what was written.
const LIVE_PART: u64 = 4;
/// How much is moved at once; puts wait for it.
const MOVED_AT_ONCE: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Keeper {
    dir: PathBuf,
    options: BodiesOptions,
    /// Held by whoever writes to a generation, opens one or closes one. Taken before `state`.
    writing: Mutex<()>,
    /// Never locked while sled works.
    state: Mutex<State>,
    work: Condvar,
    /// Told when the thread has nothing to do.
    rest: Condvar,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    generations: BTreeMap<u32, Arc<Generation>>,
    /// The one that is written to.
    current: Option<u32>,
    last: u32,
    /// The last record looked at for moving.
    cursor: Option<Name>,
    /// Moving has failed: not tried again before a put has succeeded.
    stuck: bool,
    resting: bool,
    closing: bool,
}

enum Chore {
    /// Nothing lives in it.
    Delete(Arc<Generation>),
    /// What lives in it is to be moved.
    Clear(Arc<Generation>),
}

impl State {
    fn chore(&self) -> Option<Chore> {
        let live_in = |generation: &Generation| self.index.live_in(generation.number);
        let dead = self.generations.values().find(|generation| live_in(generation).records == 0);
        if let Some(dead) = dead {
            return Some(Chore::Delete(dead.clone()));
        }
        let old = |generation: &&Arc<Generation>| self.current != Some(generation.number) && !generation.is_broken();
        let old = self.generations.values().find(old).filter(|_| !self.stuck)?;
        Some(Chore::Clear(old.clone()))
    }

    /// Gives up writing to the current generation if what lives is a small part of it.
    fn seal_if_wasteful(&mut self, compact_above: u64) {
        let Some(current) = self.current.and_then(|number| self.generations.get(&number)) else { return };
        let live = self.index.live_in(current.number);
        if current.held() > compact_above && cost(live.bytes, live.records) < current.held() / LIVE_PART {
            self.current = None;
        }
    }
}

impl Keeper {
    pub(super) fn new(dir: &Path, options: BodiesOptions) -> Keeper {
        let state = State { resting: true, ..State::default() };
        Keeper {
            dir: dir.to_path_buf(),
            options,
            writing: Mutex::new(()),
            state: Mutex::new(state),
            work: Condvar::new(),
            rest: Condvar::new(),
        }
    }

    pub(super) fn put(&self, group: u32, records: &[(u64, Bytes)]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some((id, body)) = records.iter().find(|record| u32::try_from(record.1.len()).is_err()) {
            return Err(misuse(format!("body {id} has {} bytes, and must have less than 4 GiB", body.len())));
        }
        let _writing = self.writing.lock();
        let generation = self.write(records.iter().map(|(id, body)| (group, *id, body)))?;
        let mut state = self.state.lock();
        for (id, body) in records {
            // The length was checked above.
            state.index.insert((group, *id), Slot { generation: generation.number, len: body.len() as u32 });
        }
        state.stuck = false;
        self.look_after(&mut state);
        Ok(())
    }

    /// Writes to the current generation, or to a new one; the caller holds `writing`.
    fn write<'a>(&self, records: impl Iterator<Item = (u32, u64, &'a Bytes)>) -> io::Result<Arc<Generation>> {
        let generation = self.current()?;
        if let Err(error) = generation.put(records) {
            generation.give_up(&error);
            let mut state = self.state.lock();
            state.current = None;
            self.look_after(&mut state);
            return Err(error);
        }
        Ok(generation)
    }

    fn current(&self) -> io::Result<Arc<Generation>> {
        let mut state = self.state.lock();
        if let Some(current) = state.current.and_then(|number| state.generations.get(&number)) {
            return Ok(current.clone());
        }
        state.last += 1;
        let number = state.last;
        drop(state);
        let opened = Arc::new(Generation::open(&self.dir, number, &self.options)?);
        let mut state = self.state.lock();
        state.generations.insert(number, opened.clone());
        state.current = Some(number);
        Ok(opened)
    }

    pub(super) fn get(&self, group: u32, id: u64) -> io::Result<Bytes> {
        let state = self.state.lock();
        let slot = state.index.get((group, id));
        let found = slot.and_then(|slot| Some((slot, state.generations.get(&slot.generation)?.clone())));
        drop(state);
        let Some((slot, generation)) = found else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no body {id} of group {group} is spilled")));
        };
        generation.get(group, id, slot)
    }

    pub(super) fn remove(&self, group: u32, ids: impl IntoIterator<Item = u64>) {
        let mut state = self.state.lock();
        ids.into_iter().for_each(|id| state.index.remove((group, id)));
        self.look_after(&mut state);
    }

    pub(super) fn forget_group(&self, group: u32) {
        let mut state = self.state.lock();
        state.index.forget_group(group);
        self.look_after(&mut state);
    }

    /// Wakes the thread if there is something to do.
    fn look_after(&self, state: &mut State) {
        state.seal_if_wasteful(self.options.compact_above);
        if state.resting && state.chore().is_some() {
            state.resting = false;
            self.work.notify_one();
        }
    }

    pub(super) fn stats(&self) -> BodiesStats {
        let live = self.state.lock().index.live();
        BodiesStats { live_bytes: live.bytes, live_records: live.records, disk_bytes: disk_bytes(&self.dir) }
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_one();
    }

    /// The thread's life.
    pub(super) fn run(&self) {
        loop {
            let mut state = self.state.lock();
            while !state.closing && state.chore().is_none() {
                state.resting = true;
                self.rest.notify_all();
                self.work.wait(&mut state);
            }
            if state.closing {
                return;
            }
            drop(state);
            self.step();
        }
    }

    /// One bounded piece of work, if there still is any once no put is under way.
    fn step(&self) {
        let writing = self.writing.lock();
        let mut state = self.state.lock();
        match state.chore() {
            Some(Chore::Delete(generation)) => {
                state.current = state.current.filter(|&number| number != generation.number);
                state.generations.remove(&generation.number);
                drop(state);
                // Deleting files takes its time; nobody writes to these any more.
                drop(writing);
                drop(generation);
            }
            Some(Chore::Clear(generation)) => {
                drop(state);
                if let Err(error) = self.move_some(&generation) {
                    tracing::warn!(%error, "spilled bodies stay where they are, and their disk space in use");
                    self.state.lock().stuck = true;
                }
            }
            None => {}
        }
    }

    /// Moves some of what lives in the old generation. Nothing can be put meanwhile, so no newer record is overwritten;
    /// what is given up meanwhile stays given up.
    fn move_some(&self, old: &Generation) -> io::Result<()> {
        let state = self.state.lock();
        let (names, last) = state.index.page(old.number, state.cursor, MOVED_AT_ONCE);
        let slots: Vec<_> = names.into_iter().filter_map(|name| Some((name, state.index.get(name)?))).collect();
        drop(state);
        let mut records = Vec::new();
        for &((group, id), slot) in &slots {
            match old.get(group, id, slot) {
                Ok(body) => records.push((group, id, body)),
                Err(error) => {
                    old.give_up(&error);
                    return Err(error);
                }
            }
        }
        if records.is_empty() {
            self.state.lock().cursor = last;
            return Ok(());
        }
        let target = self.write(records.iter().map(|(group, id, body)| (*group, *id, body)))?;
        let mut state = self.state.lock();
        state.cursor = last;
        for (name, slot) in slots {
            if state.index.get(name) == Some(slot) {
                state.index.insert(name, Slot { generation: target.number, ..slot });
            }
        }
        Ok(())
    }

    /// Waits until the thread has done all it had to.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        while !state.resting || state.chore().is_some() {
            self.rest.wait(&mut state);
        }
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // What cannot be looked at is being deleted just now.
    let Ok(items) = std::fs::read_dir(dir) else { return 0 };
    let size = |item: std::fs::DirEntry| match item.metadata() {
        Ok(found) if found.is_dir() => disk_bytes(&item.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    items.flatten().map(size).sum()
}
