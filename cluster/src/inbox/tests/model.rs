//! Any commands in any order, against a shard written down as naively as can be.

mod naive;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::check::{bytes, reread};
use super::*;
use naive::Naive;
use rollcall_proto::schema::shard::Outcome;
use wishes::{FILTERS, IDS, Step, step, to_command};

/// The shard on one node, which spills messages as it likes.
struct Replica {
    shard: Shard,
    disk: BTreeMap<u64, Bytes>,
}

impl Replica {
    /// Spills while it reads, as there is more than fits.
    fn read(snapshot: &[u8]) -> Replica {
        const MEMORY: u64 = 60;
        let mut disk = BTreeMap::new();
        let mut spill = |bodies: &[(u64, Bytes)]| {
            disk.extend(bodies.iter().cloned());
            true
        };
        let shard = Shard::read_spilling(&mut &*snapshot, MEMORY, &mut spill).unwrap();
        assert!(shard.memory() <= MEMORY);
        Replica { shard, disk }
    }

    fn apply(&mut self, now: u64, batch: &Batch) -> Effects {
        let effects = self.shard.apply(now, batch);
        for id in &effects.freed {
            assert!(self.disk.remove(id).is_some(), "{id} was not spilled, or is freed again");
        }
        effects
    }

    fn spill(&mut self, bytes: u64) {
        let chosen = self.shard.to_spill(bytes);
        let ids: Vec<u64> = chosen.iter().map(|(id, _)| *id).collect();
        self.disk.extend(chosen);
        assert!(self.shard.spilled(&ids).is_empty());
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.shard.write_to(&mut bytes, &|id| Ok(self.disk[&id].clone())).unwrap();
        bytes
    }
}

/// The log as several nodes write it.
#[derive(Default)]
struct Author {
    now: u64,
    epochs: BTreeMap<u64, u64>,
    numbers: BTreeMap<u64, u64>,
    /// With its answers.
    log: Vec<(Batch, Vec<Outcome>)>,
}

impl Author {
    fn write(&mut self, node: u64, kinds: Vec<command::Kind>) -> Batch {
        let number = self.numbers.entry(node).or_default();
        *number += 1;
        batch(node, *self.epochs.entry(node).or_insert(1), *number, kinds)
    }

    fn next_epoch(&mut self, node: u64) {
        *self.epochs.entry(node).or_insert(1) += 1;
        self.numbers.insert(node, 0);
    }
}

fn agrees(shard: &Shard, naive: &Naive) {
    for id in IDS {
        assert_eq!(naive::seen(shard, id), naive.inboxes.get(id).map(|inbox| inbox.seen(naive.time)), "{id}");
    }
    assert_eq!(shard.inbox_count(), naive.inboxes.len());
    for filter in FILTERS {
        let page = shard.retained(filter, None, 100, shard.time());
        let found: Vec<_> = page.items.iter().map(|item| (item.topic.to_string(), text(Some(&item.body)))).collect();
        assert_eq!(found, naive.retained(filter), "{filter}");
    }
    let handing: Vec<_> = shard.hand_ons(0, 1000).iter().map(naive::handed).collect();
    assert_eq!(handing, naive.hand_ons);
    let marks: BTreeSet<_> = shard.origins(None).map(|(source, mark)| naive::mark(source, mark)).collect();
    assert_eq!(marks, naive.marks());
}

/// What a batch that was logged before does when it comes again: nothing.
fn again(shard: &Shard, batch: &Batch, outcomes: &[Outcome]) -> Effects {
    let (epoch, number, _) = shard.last_outcomes(batch.node).unwrap();
    let outcomes = match (batch.node_epoch < epoch, batch.number < number) {
        (true, _) => vec![Outcome { kind: Some(STALE) }; batch.commands.len()],
        (false, true) => Vec::new(),
        (false, false) => outcomes.to_vec(),
    };
    Effects { outcomes, ..Effects::default() }
}

/// One replica keeps everything in memory, the other spills; a third goes on from a snapshot made halfway.
fn live_through(steps: &[Step]) {
    let mut plain = Replica { shard: Shard::new(HERE), disk: BTreeMap::new() };
    let mut spilling = Replica { shard: Shard::new(HERE), disk: BTreeMap::new() };
    let mut copy = None;
    let mut naive = Naive::new(1_000);
    let mut author = Author { now: 1_000, ..Author::default() };
    for (at, step) in steps.iter().enumerate() {
        if at == steps.len() / 2 {
            copy = Some(Replica::read(&spilling.bytes()));
        }
        match step {
            Step::Wait { millis } => author.now += millis,
            Step::NextEpoch { node } => author.next_epoch(*node),
            Step::Spill { bytes } => spilling.spill(*bytes),
            Step::Again { back } => {
                let Some((batch, outcomes)) = author.log.iter().rev().nth(*back) else { continue };
                let expected = again(&plain.shard, batch, outcomes);
                for replica in [Some(&mut plain), Some(&mut spilling), copy.as_mut()].into_iter().flatten() {
                    assert_eq!(replica.apply(author.now, batch), expected);
                }
                naive.apply(author.now, &[]);
            }
            Step::Batch { node, wishes } => {
                let kinds: Vec<_> = wishes.iter().map(|wish| to_command(&naive, wish)).collect();
                let told = naive.apply(author.now, &kinds);
                let batch = author.write(*node, kinds);
                let effects = plain.apply(author.now, &batch);
                author.log.push((batch.clone(), effects.outcomes.clone()));
                told.is(&effects);
                agrees(&plain.shard, &naive);
                for other in [Some(&mut spilling), copy.as_mut()].into_iter().flatten() {
                    assert_eq!(other.apply(author.now, &batch).without_freed(), effects.without_freed());
                }
            }
        }
        plain.shard.check();
    }
    spilling.shard.check();
    let expected = bytes(&plain.shard);
    assert!(expected == spilling.bytes(), "where messages lie is no part of the state");
    assert!(copy.is_none_or(|copy| copy.bytes() == expected), "a snapshot carries everything");
    assert!(bytes(&reread(&plain.shard)) == expected);
}

impl Effects {
    fn without_freed(&self) -> Effects {
        Effects {
            outcomes: self.outcomes.clone(),
            filled: self.filled.clone(),
            freed: Vec::new(),
            hand_ons: self.hand_ons,
            dropped: self.dropped,
            overflowed: self.overflowed.clone(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_logged_the_shard_does_what_a_naive_one_does(steps in vec(step(), 1..80)) {
        live_through(&steps);
    }
}
