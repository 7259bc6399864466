//! What all clients count while they work, and what they find broken at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many findings are told in words; all are counted.
const EXAMPLES: u64 = 20;

#[derive(Debug, Default)]
pub struct Tally {
    pub connected: AtomicU64,
    pub published: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Answered with a failure: such a message is not owed.
    pub refused: AtomicU64,
    pub delivered: AtomicU64,
    broken: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl Tally {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A promise that one client saw broken; the run goes on to find the others.
    pub fn broken(&self, what: &str) {
        if self.broken.fetch_add(1, Ordering::Relaxed) < EXAMPLES {
            eprintln!("chaos: {what}");
            self.told.lock().push(what.to_owned());
        }
    }

    /// The findings that were told.
    pub fn findings(&self) -> Vec<String> {
        self.told.lock().clone()
    }

    /// # Errors
    /// The number of findings, if there were any.
    pub fn verdict(&self) -> Result<(), String> {
        match self.broken.load(Ordering::Relaxed) {
            0 => Ok(()),
            broken => Err(format!("{broken} times a client saw what a broker must not do, told above")),
        }
    }

    /// Prints how it goes every so often; never ends by itself.
    pub async fn tell(&self, every: Duration) {
        let started = Instant::now();
        let (mut acknowledged, mut delivered) = (0, 0);
        loop {
            tokio::time::sleep(every).await;
            let now =
                [&self.acknowledged, &self.delivered, &self.published, &self.refused, &self.connected, &self.broken]
                    .map(|counter| counter.load(Ordering::Relaxed));
            println!(
                "chaos: {:5.1} s  {} acknowledged ({}/s), {} delivered ({}/s), {} open, {} connections, {} findings",
                started.elapsed().as_secs_f32(),
                now[0],
                (now[0] - acknowledged) / every.as_secs(),
                now[1],
                (now[1] - delivered) / every.as_secs(),
                now[2].saturating_sub(now[0] + now[3]),
                now[4],
                now[5]
            );
            (acknowledged, delivered) = (now[0], now[1]);
        }
    }
}
