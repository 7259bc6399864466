//! What was measured of many equal things.

use std::time::{Duration, Instant};

use super::Broker;

/// How many, in what time, with how much CPU time of the broker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    count: usize,
    time: Duration,
    cpu: Duration,
}

impl Figure {
    pub fn add(&mut self, count: usize, time: Duration, cpu: Duration) {
        self.count += count;
        self.time += time;
        self.cpu += cpu;
    }

    /// Of `count` things that `work` has the broker do.
    pub async fn of<T>(broker: &Broker, count: usize, work: impl Future<Output = T>) -> (Self, T) {
        let (started, cpu) = (Instant::now(), broker.cpu());
        let done = work.await;
        (Self { count, time: started.elapsed(), cpu: broker.cpu() - cpu }, done)
    }

    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Microseconds.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64
    }
}
