//! Messages of a shard, each stored once however many inboxes, topics and hand-ons hold it.

use std::ops::Bound;

use bytes::Bytes;

use super::Effects;
use crate::sorted::SortedMap;

/// A message as some holder refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyRef {
    Memory(Bytes),
    /// The bytes are wherever this node has put them, under this id.
    Spilled(u64),
}

/// Where the bytes are. That is this node's own affair: it is neither compared nor written to snapshots.
#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    Spilled,
}

#[derive(Debug, Clone)]
pub(super) struct Body {
    /// Milliseconds since 1970; 0 never.
    pub expires_at: u64,
    /// Inboxes, topics and hand-ons that hold it; never 0 between two commands.
    pub refs: u32,
    /// Of the encoded message.
    pub len: u32,
    place: Place,
}

#[derive(Debug, Clone)]
pub(super) struct Bodies {
    bodies: SortedMap<u64, Body>,
    /// Ids rise by one per stored body, on every replica alike.
    next: u64,
    /// Bytes of all messages.
    bytes: u64,
    /// Bytes of those in memory.
    memory: u64,
    /// Whatever lies before it is spilled.
    spill_from: u64,
}

/// A message on its way to whoever will hold it: stored when the first of them asks for it, held here until all have.
pub(super) struct Parcel<'a> {
    message: &'a [u8],
    expires_at: u64,
    body: Option<u64>,
}

impl<'a> Parcel<'a> {
    pub fn new(message: &'a [u8], expires_at: u64) -> Self {
        Parcel { message, expires_at, body: None }
    }

    pub fn body(&mut self, bodies: &mut Bodies) -> u64 {
        *self.body.get_or_insert_with(|| bodies.store(self.message, self.expires_at))
    }

    pub fn close(self, bodies: &mut Bodies, effects: &mut Effects) {
        if let Some(body) = self.body {
            bodies.release(body, &mut effects.freed);
        }
    }
}

impl Default for Bodies {
    fn default() -> Self {
        // 0 is no body.
        Bodies { bodies: SortedMap::default(), next: 1, bytes: 0, memory: 0, spill_from: 1 }
    }
}

impl Body {
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    pub fn to_ref(&self, id: u64) -> BodyRef {
        match &self.place {
            Place::Memory(bytes) => BodyRef::Memory(bytes.clone()),
            Place::Spilled => BodyRef::Spilled(id),
        }
    }
}

impl Bodies {
    /// Held once, by whoever stores it. It is copied, since `message` may be a view of a whole log entry that would
    /// stay alive with it.
    pub fn store(&mut self, message: &[u8], expires_at: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        self.put(id, Bytes::copy_from_slice(message), expires_at, 1);
        id
    }

    fn put(&mut self, id: u64, message: Bytes, expires_at: u64, refs: u32) {
        self.bytes += message.len() as u64;
        self.memory += message.len() as u64;
        let len = message.len() as u32;
        self.bodies.insert(id, Body { expires_at, refs, len, place: Place::Memory(message) });
    }

    pub fn get(&self, id: u64) -> Option<&Body> {
        self.bodies.get(&id)
    }

    pub fn hold(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.refs += 1;
        }
    }

    /// One holder less; with the last one the body goes, and its id into `freed` if its bytes are spilled.
    pub fn release(&mut self, id: u64, freed: &mut Vec<u64>) {
        let Some(body) = self.bodies.get_mut(&id) else { return };
        body.refs -= 1;
        if body.refs > 0 {
            return;
        }
        let Some(body) = self.bodies.remove(&id) else { return };
        self.bytes -= u64::from(body.len);
        match body.place {
            Place::Memory(bytes) => self.memory -= bytes.len() as u64,
            Place::Spilled => freed.push(id),
        }
    }

    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    /// Of all messages, wherever they are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn memory(&self) -> u64 {
        self.memory
    }

    pub fn to_spill(&self, bytes: u64) -> Vec<(u64, Bytes)> {
        let mut chosen = Vec::new();
        let mut gathered = 0;
        for (id, body) in self.bodies.range_from(Bound::Included(&self.spill_from)) {
            if gathered >= bytes {
                break;
            }
            if let Place::Memory(message) = &body.place {
                gathered += message.len() as u64;
                chosen.push((*id, message.clone()));
            }
        }
        chosen
    }

    /// Lets go of the bytes; ids that have gone meanwhile are given back.
    pub fn spilled(&mut self, ids: &[u64]) -> Vec<u64> {
        let mut gone = Vec::new();
        for id in ids {
            let Some(body) = self.bodies.get_mut(id) else {
                gone.push(*id);
                continue;
            };
            if let Place::Memory(bytes) = std::mem::replace(&mut body.place, Place::Spilled) {
                self.memory -= bytes.len() as u64;
            }
        }
        let rest = self.bodies.range_from(Bound::Included(&self.spill_from));
        let first = rest.into_iter().find(|(_, body)| matches!(body.place, Place::Memory(_)));
        self.spill_from = first.map_or(self.next, |(id, _)| *id);
        gone
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Body)> {
        self.bodies.iter().map(|(id, body)| (*id, body))
    }

    /// As a snapshot has them: nobody holds them yet.
    pub fn restore(&mut self, id: u64, message: Bytes, expires_at: u64) {
        self.put(id, message, expires_at, 0);
    }

    /// After all are restored.
    pub fn restore_next(&mut self, next: u64) {
        self.next = next;
    }
}
