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
            let change = match (old, new) {
                (Some(old), Some(new)) if old.value == new.value => None,
                (Some(_), Some(new)) => Some(new.key.change),
                // Of a listener that has come or gone.
                (_, _) => Some(Change::Restart),
            };
            let stays = match change {
                None => new,
                Some(Change::Reload) => {
                    changes.applied.push(name.clone());
                    new
                }
                Some(Change::Seed) => {
                    changes.only_seeds.push(name.clone());
                    new
                }
                Some(Change::Restart) => {
                    changes.needs_restart.push(name.clone());
                    old
                }
            };
            settings.extend(stays.map(|setting: &Setting| (name.clone(), setting.clone())));
        }
        Ok((Effective::judged(settings)?, changes))
    }
}
