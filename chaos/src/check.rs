//! One checker per promise: each a function of the history of a run alone, and nothing of what it says depends on when or
//! where it is asked.

pub mod p1_one_owner;
pub mod p2_exact_limits;
pub mod p3_suback;
pub mod p4_majority_of_disks;
pub mod p5_events_are_the_log;
pub mod p6_watchable;
pub mod p7_wills;
pub mod p8_nothing_acknowledged_is_lost;
pub mod p9_rolling_restart;
#[cfg(test)]
pub mod sample;

use crate::history::History;

/// How many violations of one promise are told in words; all are counted.
const EXAMPLES: usize = 10;

/// What one checker found.
#[derive(Debug)]
pub struct Verdict {
    pub promise: &'static str,
    /// How often the promise could have been broken.
    pub checked: u64,
    pub broken: u64,
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn new(promise: &'static str) -> Self {
        Self { promise, checked: 0, broken: 0, examples: Vec::new() }
    }

    /// One occasion on which the promise was to hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.violation(1, otherwise);
        }
    }

    pub fn violation(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.broken += count;
        if count > 0 && self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }
}

pub fn all(history: &History) -> Vec<Verdict> {
    vec![
        p1_one_owner::check(history),
        p2_exact_limits::check(history),
        p3_suback::check(history),
        p4_majority_of_disks::check(history),
        p5_events_are_the_log::check(history),
        p6_watchable::check(history),
        p7_wills::check(history),
        p8_nothing_acknowledged_is_lost::check(history),
        p9_rolling_restart::check(history),
    ]
}
