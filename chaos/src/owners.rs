//! Workload for P1: for each client id two workers connect against each other, on any nodes, and leave in every way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinSet;

use crate::client::Client;

const IDS: usize = 20;
const WORKERS_PER_ID: usize = 2;

/// What the clients know of their connections.
#[derive(Debug, Default)]
pub struct Owned {
    /// By client id: CONNACKs that said yes, and attempts in all.
    pub by_id: BTreeMap<String, (u64, u64)>,
}

impl Owned {
    pub fn total(&self) -> u64 {
        self.by_id.values().map(|(accepted, _)| accepted).sum()
    }
}

pub struct Owners {
    stop: Arc<AtomicBool>,
    workers: JoinSet<(String, u64, u64)>,
}

impl Owners {
    pub fn start(ports: &Arc<[u16]>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for worker in 0..IDS * WORKERS_PER_ID {
            let client_id = format!("owner-{}", worker % IDS);
            workers.spawn(work(client_id, Arc::clone(ports), Arc::clone(&stop)));
        }
        Self { stop, workers }
    }

    /// Ends all connections and tells what the clients saw.
    pub async fn stop(self) -> Owned {
        self.stop.store(true, Ordering::Relaxed);
        let mut owned = Owned::default();
        for (client_id, accepted, attempts) in self.workers.join_all().await {
            let both = owned.by_id.entry(client_id).or_default();
            both.0 += accepted;
            both.1 += attempts;
        }
        owned
    }
}

async fn work(client_id: String, ports: Arc<[u16]>, stop: Arc<AtomicBool>) -> (String, u64, u64) {
    let (mut accepted, mut attempts) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let (port, hold, polite) = {
            let mut rng = rand::rng();
            (ports[rng.random_range(0..ports.len())], rng.random_range(50..800), rng.random_bool(0.5))
        };
        attempts += 1;
        let Ok(mut client) = Client::connect(&client_id, port).await else {
            // A device waits before it tries again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        accepted += 1;
        if client.stay(Duration::from_millis(hold)).await && polite {
            client.leave().await;
        }
    }
    (client_id, accepted, attempts)
}
