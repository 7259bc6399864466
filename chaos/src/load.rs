//! What clients do while the cluster is hurt. Each kind of work writes into the history what it did and saw.

pub mod barrier;
pub mod crowd;
pub mod devices;
pub mod list;
pub mod listener;
pub mod probe;
pub mod retained;
pub mod stream;
pub mod takeover;
pub mod visit;
pub mod wills;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::watch;

use crate::history::Recorder;

/// From a publish to its arrival, at most: a fault may hold it for as long as it lasts.
const DELIVERY: Duration = Duration::from_secs(30);

/// What all clients share.
#[derive(Clone)]
pub struct Scene {
    pub ports: Arc<[u16]>,
    pub http: Arc<[u16]>,
    /// How many of these nodes are there, or should be.
    pub nodes: Arc<AtomicUsize>,
    pub recorder: Arc<Recorder>,
    /// The work is over.
    pub over: watch::Receiver<bool>,
    /// Counts the reconnect storms.
    pub storm: watch::Receiver<u64>,
}

impl Scene {
    pub fn working(&self) -> bool {
        !*self.over.borrow()
    }

    pub fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    pub fn any_node(&self, rng: &mut SmallRng) -> usize {
        rng.random_range(0..self.nodes())
    }

    /// A node, and another one.
    pub fn two_nodes(&self, rng: &mut SmallRng) -> (usize, usize) {
        let nodes = self.nodes();
        let here = rng.random_range(0..nodes);
        (here, (here + rng.random_range(1..nodes)) % nodes)
    }

    /// Sleeps so many milliseconds, unless the work is over before.
    pub async fn pause(&self, rng: &mut SmallRng, ms: std::ops::Range<u64>) {
        let time = Duration::from_millis(rng.random_range(ms));
        let mut over = self.over.clone();
        // Either end of the wait is fine.
        let _ = tokio::time::timeout(time, over.wait_for(|over| *over)).await;
    }
}
