//! What must hold between any two batches.

use std::collections::BTreeMap;

use super::*;
use crate::inbox::queue::Inbox;
use crate::pages::PAGES;

impl Shard {
    pub(crate) fn check(&self) {
        let mut holders: BTreeMap<u64, u32> = BTreeMap::new();
        for (client_id, inbox) in self.inboxes(0..PAGES) {
            self.check_inbox(client_id, inbox);
            for (_, queued) in inbox.queue.iter().filter(|(_, queued)| queued.body != 0) {
                *holders.entry(queued.body).or_default() += 1;
            }
        }
        let held = self.topics.bodies.iter().map(|(_, body)| *body);
        for body in held.chain(self.hand_ons.iter().map(|(_, hand_on)| hand_on.body)) {
            *holders.entry(body).or_default() += 1;
        }
        let refs: BTreeMap<u64, u32> = self.bodies.iter().map(|(id, body)| (id, body.refs)).collect();
        assert_eq!(refs, holders, "each body is held by as many as it counts");
        assert!(refs.keys().all(|id| *id < self.bodies.next()));
        self.check_memory();
        self.check_topics();
        for (number, hand_on) in self.hand_ons.iter() {
            assert!(*number == hand_on.number && *number < self.next_hand_on);
            assert!(hand_on.targets.iter().all(|targets| targets.shard != self.number));
        }
    }

    fn check_inbox(&self, client_id: &str, inbox: &Inbox) {
        let mut bytes = 0;
        let mut expiring = Vec::new();
        for (position, queued) in inbox.queue.iter() {
            assert!((1..inbox.next_position).contains(position), "{client_id}");
            assert_eq!(queued.received, queued.body == 0, "{client_id} {position}");
            let Some(body) = self.bodies.get(queued.body) else { continue };
            bytes += u64::from(body.len);
            let expires = body.expires_at != 0 && *position > inbox.sent;
            expiring.extend(expires.then_some((body.expires_at, *position)));
        }
        expiring.sort_unstable();
        let known = inbox.expiring.0.iter().flat_map(|known| known.iter()).map(|(key, ())| *key);
        assert!(known.eq(expiring), "{client_id}");
        assert!(inbox.expiring.0.as_ref().is_none_or(|known| !known.is_empty()), "{client_id}");
        assert_eq!(inbox.bytes, bytes, "{client_id}");
        assert!(inbox.sent < inbox.next_position && inbox.held.is_sorted_by(|a, b| a < b), "{client_id}");
        assert!(!inbox.overflowed || inbox.is_empty(), "{client_id}");
    }

    fn check_memory(&self) {
        let in_memory = self.bodies.iter().filter_map(|(id, body)| match body.to_ref(id) {
            BodyRef::Memory(bytes) => Some((id, bytes)),
            BodyRef::Spilled(_) => None,
        });
        let in_memory: Vec<_> = in_memory.collect();
        assert_eq!(self.memory(), in_memory.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        assert_eq!(self.to_spill(u64::MAX), in_memory);
        assert_eq!(self.bytes(), self.bodies.iter().map(|(_, body)| u64::from(body.len)).sum::<u64>());
    }

    fn check_topics(&self) {
        let expiries = self.topics.bodies.iter().map(|(topic, id)| (self.bodies.get(*id).unwrap().expires_at, topic));
        let mut expiring: Vec<_> = expiries.filter(|(expires_at, _)| *expires_at != 0).collect();
        expiring.sort_unstable();
        assert!(self.topics.expiring.iter().map(|((expires_at, topic), ())| (*expires_at, topic)).eq(expiring));
    }
}

pub(super) fn bytes(shard: &Shard) -> Vec<u8> {
    let mut bytes = Vec::new();
    shard.write_to(&mut bytes, &|id| panic!("{id} is not spilled")).unwrap();
    bytes
}

pub(super) fn reread(shard: &Shard) -> Shard {
    let copy = Shard::read_from(&mut bytes(shard).as_slice()).unwrap();
    copy.check();
    copy
}
