//! The two clocks: one that measures and never jumps, one that names a date.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since boot, suspended time included (CLOCK_BOOTTIME): what leases are measured by, since a machine that slept
/// must not believe that its lease still runs.
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Milliseconds since 1970. Only a leader at its election and the slewing of log time look at it.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
