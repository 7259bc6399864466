//! The two clocks: one that measures and never jumps, one that names a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspended time included (CLOCK_BOOTTIME): what leases are measured by, since a machine that slept
/// must not believe that its lease still runs.
pub fn boottime() -> Duration {
    #[cfg(test)]
    if let Some(simulated) = crate::simulation::boottime() {
        return simulated;
    }
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Milliseconds since 1970. Only a leader at its election and the slewing of log time look at it.
pub fn wall_ms() -> u64 {
    #[cfg(test)]
    if let Some(simulated) = crate::simulation::wall_ms() {
        return simulated;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What time it is by a log between its entries: by the last one that was seen and what has passed since, which is ahead of
/// the wall clock where a former leader's was.
#[derive(Debug, Default)]
pub struct LogNow {
    time: u64,
    since: Duration,
}

impl LogNow {
    /// `logged` is the time of the last entry, `boot` that since boot.
    pub fn look(&mut self, logged: u64, wall: u64, boot: Duration) -> u64 {
        if logged != self.time {
            *self = LogNow { time: logged, since: boot };
        }
        wall.max(self.time + (boot - self.since).as_millis() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_by_a_log_that_is_ahead_of_the_wall_clock() {
        let mut now = LogNow::default();
        let second = Duration::from_secs;
        assert_eq!(now.look(5_000, 1_000, second(10)), 5_000);
        assert_eq!(now.look(5_000, 4_000, second(13)), 8_000, "nothing was logged meanwhile");
        assert_eq!(now.look(6_000, 4_000, second(14)), 6_000);
        assert_eq!(now.look(6_000, 9_000, second(15)), 9_000, "the wall clock is ahead");
    }
}
