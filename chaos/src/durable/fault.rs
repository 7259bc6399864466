//! One fault after the other on a minority of the nodes, and now and then the death of all of them at once.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::index::sample;

use crate::cluster::Cluster;

/// Milliseconds between the healing of one fault and the next.
const QUIET_MS: std::ops::Range<u64> = 500..3_500;
/// Milliseconds that a node stays away.
const AWAY_MS: std::ops::Range<u64> = 200..6_000;
/// Milliseconds of a pause: the longest ones outlast the time after which a node is declared down.
const PAUSE_MS: std::ops::Range<u64> = 300..13_000;
/// Milliseconds that the whole cluster stays away.
const ALL_AWAY_MS: std::ops::Range<u64> = 100..2_000;
/// Where a minority is more than one node, how often more than one is hurt at once.
const SEVERAL: f64 = 0.3;

/// What may happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL, and a new start after a while.
    Kill,
    /// SIGTERM, and a new start a while after it has ended.
    Drain,
    /// SIGSTOP for a while.
    Pause,
}

/// What was done to the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    kills: u32,
    drains: u32,
    pauses: u32,
    /// Times that all nodes were killed at once.
    all: u32,
}

impl Done {
    pub fn total(&self) -> u32 {
        self.kills + self.drains + self.pauses + self.all
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, drains, pauses, all } = self;
        write!(f, "{kills} kills, {drains} drains, {pauses} pauses, {all} times all nodes killed at once")
    }
}

/// What is to be done to the cluster.
#[derive(Debug)]
pub struct Faults<'a> {
    pub kinds: &'a [Fault],
    pub time: Duration,
    /// How many times all nodes are killed at once.
    pub all: u32,
}

impl Faults<'_> {
    /// Hurts nodes until the time is over; at the end every node is ready.
    ///
    /// # Errors
    /// A node ended unasked or not as it should, or did not become ready again.
    pub async fn inject(&self, cluster: &mut Cluster, rng: &mut SmallRng) -> Result<Done, String> {
        let started = Instant::now();
        let mut done = Done::default();
        while started.elapsed() < self.time || done.all < self.all {
            sleep_ms(rng.random_range(QUIET_MS)).await;
            for index in 0..cluster.size() {
                cluster.still_runs(index)?;
            }
            let at = started.elapsed();
            // The deaths of all are spread over the time.
            if done.all < self.all && at >= self.time * (done.all + 1) / (self.all + 1) {
                let away = rng.random_range(ALL_AWAY_MS);
                println!("chaos: {:5.1} s  kill all nodes, away for {away} ms", at.as_secs_f32());
                kill(cluster, &(0..cluster.size()).collect::<Vec<_>>(), away).await?;
                done.all += 1;
            } else {
                self.hurt_some(cluster, at, &mut done, rng).await?;
            }
            // The next fault may only come when this one is overcome.
            cluster.all_ready().await?;
        }
        Ok(done)
    }

    async fn hurt_some(
        &self,
        cluster: &mut Cluster,
        at: Duration,
        done: &mut Done,
        rng: &mut SmallRng,
    ) -> Result<(), String> {
        let minority = (cluster.size() - 1) / 2;
        let count = if minority > 1 && rng.random_bool(SEVERAL) { rng.random_range(2..=minority) } else { 1 };
        let victims = sample(rng, cluster.size(), count).into_vec();
        let fault = self.kinds[rng.random_range(0..self.kinds.len())];
        let away = rng.random_range(if fault == Fault::Pause { PAUSE_MS } else { AWAY_MS });
        println!("chaos: {:5.1} s  {fault:?} {victims:?}, away for {away} ms", at.as_secs_f32());
        match fault {
            Fault::Kill => {
                done.kills += 1;
                kill(cluster, &victims, away).await
            }
            Fault::Drain => {
                done.drains += 1;
                drain(cluster, &victims, away).await
            }
            Fault::Pause => {
                done.pauses += 1;
                pause(cluster, &victims, away).await
            }
        }
    }
}

async fn kill(cluster: &mut Cluster, victims: &[usize], away: u64) -> Result<(), String> {
    for &victim in victims {
        cluster.kill(victim)?;
    }
    sleep_ms(away).await;
    victims.iter().try_for_each(|&victim| cluster.spawn(victim))
}

/// One after the other, as an operator would.
async fn drain(cluster: &mut Cluster, victims: &[usize], away: u64) -> Result<(), String> {
    for &victim in victims {
        cluster.drain(victim).await?;
    }
    sleep_ms(away).await;
    victims.iter().try_for_each(|&victim| cluster.spawn(victim))
}

async fn pause(cluster: &mut Cluster, victims: &[usize], away: u64) -> Result<(), String> {
    for &victim in victims {
        cluster.pause(victim)?;
    }
    sleep_ms(away).await;
    victims.iter().try_for_each(|&victim| cluster.resume(victim))
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
