//! Which nodes hold which shards.

use std::collections::BTreeSet;

use rollcall_proto::schema::roster::{Found, Place, Placement, outcome};

use super::{Effects, Roster, conflict, done};
use crate::pages::fnv1a;

/// Client ids and retained topics fall into so many slots, and slots onto shards in equal runs.
pub const SLOTS: u32 = 4_096;

/// The same on every node and in every version.
pub fn slot_of(key: &str) -> u32 {
    (fnv1a(key) % u64::from(SLOTS)) as u32
}

impl Roster {
    /// The number of shards never changes: a key's shard would.
    pub(super) fn found_shards(&mut self, found: &Found, effects: &mut Effects) {
        self.replicas = found.replicas;
        self.placements = (1..=found.shards).map(|shard| Placement { shard, ..Placement::default() }).collect();
        effects.placed = !self.placements.is_empty();
    }

    /// All of it or nothing.
    pub(super) fn place(&mut self, place: &Place, effects: &mut Effects) -> outcome::Kind {
        for placement in &place.placements {
            if let Err(why) = self.check(placement) {
                return conflict(&format!("shard {}: {why}", placement.shard));
            }
        }
        for placement in &place.placements {
            let current = &mut self.placements[placement.shard as usize - 1];
            let formed = current.formed || placement.formed;
            *current = Placement { formed, ..placement.clone() };
            effects.placed = true;
        }
        done()
    }

    fn check(&self, placement: &Placement) -> Result<(), &'static str> {
        if placement.shard == 0 || placement.shard > self.shard_count() {
            return Err("there is no such shard");
        }
        let distinct: BTreeSet<_> = placement.members.iter().collect();
        if distinct.is_empty() || distinct.len() != placement.members.len() {
            return Err("a shard has members, each of them once");
        }
        if !distinct.iter().all(|member| self.nodes.contains_key(member)) {
            return Err("a member is not a node of this cluster");
        }
        Ok(())
    }

    /// Shard by shard, from 1 on.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Members that each shard is to have.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    pub fn shard_count(&self) -> u32 {
        self.placements.len() as u32
    }

    /// The shard of a client id or of a retained topic; 0 in a cluster without shards.
    pub fn shard_of(&self, key: &str) -> u32 {
        let count = self.shard_count();
        if count == 0 { 0 } else { slot_of(key) * count / SLOTS + 1 }
    }
}
