//! What was said last of whom: who tries again and again, and fails for the same reason, is told of once.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Those of whom is remembered what was said; when there are more, all is forgotten.
const REMEMBERED: usize = 1_024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<BTreeMap<String, String>>>);

impl Told {
    /// Whether anything else was said of `whom` last, or nothing.
    pub(crate) fn is_new(&self, whom: &str, what: &str) -> bool {
        let mut told = self.0.lock();
        if told.get(whom).is_some_and(|last| last == what) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(whom.to_owned(), what.to_owned());
        true
    }
}
