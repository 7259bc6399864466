//! Figures over many measured rounds.

use std::fmt;
use std::time::Duration;

/// Measured durations; prints as p50, p99 and maximum.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    pub fn add(&mut self, one: Duration) {
        self.0.push(one);
    }

    pub fn merge(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The duration that `share` (0 to 1) of the rounds stayed within. Zero when nothing was measured.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (self.quantile(0.5), self.quantile(0.99), self.quantile(1.0));
        write!(out, "n={} p50={p50:.1?} p99={p99:.1?} max={max:.1?}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_smallest_duration_that_covers_the_share() {
        let mut rounds = Latencies::default();
        (1..=100).rev().for_each(|ms| rounds.add(Duration::from_millis(ms)));
        assert_eq!(rounds.quantile(0.5), Duration::from_millis(50));
        assert_eq!(rounds.quantile(0.99), Duration::from_millis(99));
        assert_eq!(rounds.quantile(1.0), Duration::from_millis(100));
        assert_eq!(Latencies::default().quantile(0.99), Duration::ZERO);
    }
}
