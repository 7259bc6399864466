//! One configuration after another, in a node that runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use super::error::Problems;
use super::resolve::{Effective, Setting};
use super::table::Change;

/// Keys whose values have changed, by what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Changes {
    /// In force.
    pub applied: Vec<String>,
    /// The running node goes on with what it has.
    pub needs_restart: Vec<String>,
    /// They only count where a cluster is formed: this one's are changed over HTTP.
    pub only_seeds: Vec<String>,
}

impl Effective {
    /// What is in force when a node that runs with this one finds `wanted`.
    ///
    /// # Errors
    /// Where what can be changed at once contradicts what cannot.
    pub fn become_as_far_as_possible(&self, wanted: &Effective) -> Result<(Effective, Changes), Problems> {
        let (mut settings, mut changes) = (BTreeMap::new(), Changes::default());
        let names: BTreeSet<&String> = self.settings.keys().chain(wanted.settings.keys()).collect();
        for name in names {
            let (old, new) = (self.settings.get(name), wanted.settings.get(name));
            let is_same = matches!((old, new), (Some(old), Some(new)) if old.value == new.value);
            let stays = match (old.or(new).map(|setting| setting.key.change), new) {
                (_, Some(new)) if is_same => Some(new),
                (Some(Change::Reload), Some(new)) if old.is_some() => {
                    changes.applied.push(name.clone());
                    Some(new)
                }
                (Some(Change::Seed), Some(new)) => {
                    changes.only_seeds.push(name.clone());
                    Some(new)
                }
                // The last are of listeners that have come or gone.
                (Some(Change::Restart) | None, _) | (Some(Change::Reload | Change::Seed), _) => {
                    changes.needs_restart.push(name.clone());
                    old
                }
            };
            settings.extend(stays.map(|setting: &Setting| (name.clone(), setting.clone())));
        }
        Ok((Effective::judged(settings)?, changes))
    }
}
