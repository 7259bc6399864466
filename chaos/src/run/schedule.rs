//! Which fault follows which, for how long and on whom: a function of the seed alone. When each one begins depends on how
//! soon the cluster has overcome the one before.

use std::time::Duration;

use clap::ValueEnum;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

/// Milliseconds between the healing of one fault and the next.
const QUIET_MS: std::ops::Range<u64> = 500..2_500;
/// Where a minority is more than one node, how often more than one is hurt at once.
const SEVERAL: f64 = 0.3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// SIGKILL, and a new start after a while.
    Kill,
    /// SIGKILL for all nodes at once.
    KillAll,
    /// SIGSTOP, for less than a node's lease.
    Pause,
    /// SIGSTOP until the node has been declared down.
    LongPause,
    /// No other node is reached from one, nor reaches it.
    Partition,
    /// The same, for the roster's leader.
    PartitionLeader,
    /// What one node sends to the others does not arrive, or what they send to it.
    OneWay,
    /// Two nodes do not reach each other.
    CutPair,
    /// The network around a node comes and goes several times a second.
    Flap,
    /// All that passes to and from a node takes longer.
    Slow,
    /// Packets between all nodes are lost, and sent again.
    Lossy,
    /// SIGTERM for node after node, each started again before the next.
    RollingRestart,
    /// All devices vanish at once, and come back at once.
    Storm,
    /// A node's writes fail for lack of space; then it is killed and started again. Needs a C compiler.
    DiskFull,
    /// A node's wall clock is ahead or behind, and meanwhile the leader is cut off, so that there is an election.
    /// Needs a C compiler.
    ClockJump,
    /// A new node joins, serves for a while, and is removed again.
    Join,
    /// SIGKILL for a node whose disk is lost, and a new start with an empty one: it takes the place of what it was.
    Replace,
}

impl Fault {
    /// For the library that does it.
    pub fn needs_compiler(self) -> bool {
        matches!(self, Self::DiskFull | Self::ClockJump)
    }

    pub fn ends_processes(self) -> bool {
        match self {
            Self::Kill | Self::KillAll | Self::RollingRestart | Self::DiskFull | Self::Join | Self::Replace => true,
            Self::Pause
            | Self::LongPause
            | Self::Partition
            | Self::PartitionLeader
            | Self::OneWay
            | Self::CutPair
            | Self::Flap
            | Self::Slow
            | Self::Lossy
            | Self::Storm
            | Self::ClockJump => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::KillAll => "kill -9 of all",
            Self::Pause => "SIGSTOP",
            Self::LongPause => "long SIGSTOP",
            Self::Partition => "partition",
            Self::PartitionLeader => "partition of the leader",
            Self::OneWay => "one-way partition",
            Self::CutPair => "cut of a pair",
            Self::Flap => "flapping link",
            Self::Slow => "latency",
            Self::Lossy => "loss",
            Self::RollingRestart => "rolling restart",
            Self::Storm => "reconnect storm",
            Self::DiskFull => "full disk",
            Self::ClockJump => "clock jump",
            Self::Join => "join and removal",
            Self::Replace => "loss of a disk",
        }
    }

    /// Milliseconds that it lasts.
    fn lasts(self) -> std::ops::Range<u64> {
        match self {
            Self::Kill => 200..4_000,
            Self::KillAll => 100..2_000,
            Self::Pause => 300..5_000,
            Self::LongPause => LONG_PAUSE_MS..15_000,
            Self::Partition | Self::PartitionLeader => 1_000..14_000,
            Self::OneWay => 1_000..9_000,
            Self::CutPair => 2_000..14_000,
            Self::Flap | Self::Slow | Self::Lossy | Self::ClockJump => 3_000..8_000,
            Self::RollingRestart => 100..1_000,
            Self::Storm => 1_000..2_000,
            Self::DiskFull => 500..4_000,
            Self::Join => MEMBERSHIP_MS..15_000,
            // Its death may be known before it comes back, or it has to wait for that.
            Self::Replace => MEMBERSHIP_MS..14_000,
        }
    }
}

/// Longer than `cluster.node_timeout`.
const LONG_PAUSE_MS: u64 = 11_000;
/// Short runs have no time for moving replicas.
const MEMBERSHIP_MS: u64 = 6_000;

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub fault: Fault,
    /// How long the cluster is left alone before it.
    pub quiet: Duration,
    pub lasts: Duration,
    /// All nodes; it is done to the first `count` of them.
    pub order: Vec<usize>,
    pub count: usize,
    /// Which of two ways it is done in.
    pub turned: bool,
}

/// Without an end.
pub struct Schedule {
    rng: SmallRng,
    kinds: Vec<Fault>,
    /// Every kind comes once before any comes again.
    deck: Vec<Fault>,
    nodes: usize,
    most: Duration,
}

impl Schedule {
    /// No fault of these kinds lasts longer than `most`; those that have to are left out.
    pub fn new(seed: u64, kinds: &[Fault], nodes: usize, most: Duration) -> Self {
        let fits = |kind: &&Fault| Duration::from_millis(kind.lasts().start) <= most;
        let kinds = kinds.iter().filter(fits).copied().collect();
        Self { rng: SmallRng::seed_from_u64(seed), kinds, deck: Vec::new(), nodes, most }
    }

    pub fn kinds(&self) -> &[Fault] {
        &self.kinds
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.deck.shuffle(&mut self.rng);
        }
        let fault = self.deck.pop()?;
        let mut order: Vec<usize> = (0..self.nodes).collect();
        order.shuffle(&mut self.rng);
        let minority = self.nodes.saturating_sub(1) / 2;
        let several = minority > 1 && self.rng.random_bool(SEVERAL);
        let count = if several { self.rng.random_range(2..=minority) } else { 1 };
        let quiet = Duration::from_millis(self.rng.random_range(QUIET_MS));
        let lasts = Duration::from_millis(self.rng.random_range(fault.lasts())).min(self.most);
        let turned = self.rng.random_bool(0.5);
        Some(Planned { fault, quiet, lasts, order, count, turned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(20);

    fn first(seed: u64, count: usize) -> Vec<Planned> {
        Schedule::new(seed, Fault::value_variants(), 5, MOST).take(count).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_one_others() {
        assert_eq!(first(7, 50), first(7, 50));
        assert_ne!(first(7, 50), first(8, 50));
    }

    #[test]
    fn every_kind_comes_before_any_comes_again() {
        let kinds = Fault::value_variants();
        let planned = first(3, kinds.len());
        assert!(kinds.iter().all(|kind| planned.iter().any(|it| it.fault == *kind)));
    }

    #[test]
    fn a_majority_is_never_hurt_and_nothing_lasts_too_long() {
        for it in first(11, 200) {
            assert!((1..=2).contains(&it.count) && it.order.len() == 5);
            assert!(it.lasts <= MOST);
        }
        let short = Schedule::new(1, Fault::value_variants(), 3, Duration::from_secs(5));
        let too_long = [Fault::LongPause, Fault::Join, Fault::Replace];
        assert!(too_long.iter().all(|kind| !short.kinds().contains(kind)));
        assert!(short.take(100).all(|it| it.lasts <= Duration::from_secs(5) && it.count == 1));
    }
}
