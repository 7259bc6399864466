use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GROUPS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Append { group: u32, count: u64, size: usize, wait: bool },
    Vote { group: u32, vote: Vec<u8> },
    Committed { group: u32, committed: Vec<u8> },
    Truncate { group: u32, back: Option<u64> },
    Purge { group: u32, ahead: u64 },
    Forget { group: u32 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS;
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        8 => (group.clone(), 0u64..8, 0usize..500, any::<bool>())
            .prop_map(|(group, count, size, wait)| Step::Append { group, count, size, wait }),
        2 => (group.clone(), bytes.clone()).prop_map(|(group, vote)| Step::Vote { group, vote }),
        2 => (group.clone(), bytes).prop_map(|(group, committed)| Step::Committed { group, committed }),
        2 => (group.clone(), prop::option::weighted(0.9, 0u64..8)).prop_map(|(group, back)| Step::Truncate { group, back }),
        3 => (group.clone(), 0u64..20).prop_map(|(group, ahead)| Step::Purge { group, ahead }),
        1 => group.prop_map(|group| Step::Forget { group }),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default)]
struct Model {
    state: GroupState,
    entries: BTreeMap<u64, Bytes>,
    next: u64,
    life: u64,
}

impl Model {
    fn append(&mut self, count: u64, size: usize) -> Vec<(u64, Bytes)> {
        // Entries that take the place of truncated ones differ from them.
        self.life += 1;
        let batch: Vec<_> =
            (self.next..self.next + count).map(|index| (index, payload(index + self.life * 1000, size))).collect();
        self.entries.extend(batch.iter().cloned());
        self.next += count;
        batch
    }

    fn truncate(&mut self, after: Option<u64>) {
        let purged = self.state.purged.as_ref().map_or(0, |purged| purged.0 + 1);
        let from = after.map_or(0, |after| after + 1).max(purged);
        self.entries.split_off(&from);
        self.next = self.next.min(from);
    }

    fn purge(&mut self, index: u64, meta: Bytes) {
        if self.state.purged.as_ref().is_none_or(|purged| purged.0 < index) {
            self.state.purged = Some((index, meta));
            self.entries = self.entries.split_off(&(index + 1));
            self.next = self.next.max(index + 1);
        }
    }

    fn state(&self) -> GroupState {
        let purged = self.state.purged.as_ref().map(|purged| purged.0);
        GroupState { last_index: self.entries.keys().last().copied().or(purged), ..self.state.clone() }
    }
}

fn same(log: &RaftLog, models: &[Model]) -> Result<(), TestCaseError> {
    for (group, model) in (0..).zip(models) {
        prop_assert_eq!(log.state(group), model.state());
        prop_assert_eq!(all(log, group), model.entries.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(log.size(group), model.entries.values().map(|entry| entry.len() as u64).sum::<u64>());
    }
    Ok(())
}

fn apply(step: Step, log: &RaftLog, models: &mut [Model]) {
    match step {
        Step::Append { group, count, size, wait } => {
            let batch = models[group as usize].append(count, size);
            if wait {
                append(log, group, batch).unwrap();
            } else {
                log.append(group, batch, |result| result.unwrap());
            }
        }
        Step::Vote { group, vote: bytes } => {
            vote(log, group, &bytes).unwrap();
            models[group as usize].state.vote = Some(bytes.into());
        }
        Step::Committed { group, committed } => {
            log.save_committed(group, committed.clone().into()).unwrap();
            models[group as usize].state.committed = Some(committed.into());
        }
        Step::Truncate { group, back } => {
            let model = &mut models[group as usize];
            let after = back.and_then(|back| model.next.checked_sub(back + 1));
            model.truncate(after);
            log.truncate_after(group, after).unwrap();
        }
        Step::Forget { group } => {
            let life = models[group as usize].life;
            models[group as usize] = Model { life, ..Model::default() };
            log.forget(group, |result| result.unwrap());
        }
        Step::Purge { group, ahead } => {
            let model = &mut models[group as usize];
            let first = model.entries.keys().next().copied().unwrap_or(model.next);
            let index = first + ahead;
            let meta = Bytes::from(format!("purged to {index}"));
            model.purge(index, meta.clone());
            log.purge(group, index, meta).unwrap();
        }
        Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_operations_and_restarts_equals_the_model(
        steps in prop::collection::vec(step(), 1..80),
        cache_bytes in prop_oneof![Just(0u64), Just(1500), Just(1 << 20)],
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let options = || RaftLogOptions { cache_bytes, ..small() };
        let mut models: Vec<Model> = (0..GROUPS).map(|_| Model::default()).collect();
        let mut log = RaftLog::open(tmp.path(), options()).unwrap();
        for step in steps {
            if matches!(step, Step::Reopen) {
                drop(log);
                log = RaftLog::open(tmp.path(), options()).unwrap();
            }
            apply(step, &log, &mut models);
            same(&log, &models)?;
        }
        drop(log);
        let log = RaftLog::open(tmp.path(), options()).unwrap();
        same(&log, &models)?;
        prop_assert!(segments(tmp.path()).len() as u64 == log.stats().segments);
    }
}
