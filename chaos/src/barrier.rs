//! Workload for P3: subscribe on one node, publish on another at the SUBACK, and the message must come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinSet;

use crate::client::{Client, Lost};
use crate::cluster::Faults;

const WORKERS: usize = 6;
/// From the PUBACK to the message, at most: a paused node may hold it for as long as it stands still.
const DELIVERY: Duration = Duration::from_secs(30);

/// How the rounds went.
#[derive(Debug, Default)]
pub struct Rounds {
    delivered: u64,
    /// A connection broke, or the publisher's node was hurt: nothing was promised.
    inconclusive: u64,
    missed: Vec<String>,
}

impl Rounds {
    /// # Errors
    /// A message was missed, or too few rounds came to an end for the run to say anything.
    pub fn report(&self) -> Result<(), String> {
        println!("chaos: {} messages delivered, {} rounds inconclusive", self.delivered, self.inconclusive);
        if !self.missed.is_empty() {
            return Err(format!(
                "{} messages missed after their SUBACK: {}",
                self.missed.len(),
                self.missed.join("; ")
            ));
        }
        if self.delivered < 20 { Err("too few rounds to say anything".into()) } else { Ok(()) }
    }
}

pub struct Barrier {
    stop: Arc<AtomicBool>,
    workers: JoinSet<Rounds>,
}

impl Barrier {
    pub fn start(ports: &Arc<[u16]>, faults: Arc<Faults>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(work(worker, Arc::clone(ports), Arc::clone(&faults), Arc::clone(&stop)));
        }
        Self { stop, workers }
    }

    pub async fn stop(mut self) -> Result<Rounds, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Rounds::default();
        while let Some(rounds) = self.workers.join_next().await {
            let rounds = rounds.map_err(|error| error.to_string())?;
            all.delivered += rounds.delivered;
            all.inconclusive += rounds.inconclusive;
            all.missed.extend(rounds.missed);
        }
        Ok(all)
    }
}

async fn work(worker: usize, ports: Arc<[u16]>, faults: Arc<Faults>, stop: Arc<AtomicBool>) -> Rounds {
    let mut rounds = Rounds::default();
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let here = rand::rng().random_range(0..ports.len());
        let there = (here + rand::rng().random_range(1..ports.len())) % ports.len();
        round += 1;
        let topic = format!("barrier/{worker}/{round}");
        let hurt = faults.of(there);
        match one_round(worker, &topic, ports[here], ports[there]).await {
            Ok(()) => rounds.delivered += 1,
            // The publisher's node may have died with the message: it had promised no more than to send it.
            Err(Lost::Silence) if faults.of(there) == hurt => {
                rounds.missed.push(format!("{topic} from node-{there} to node-{here}"));
            }
            Err(Lost::Silence | Lost::Connection(_)) => {
                rounds.inconclusive += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    rounds
}

/// `Silence` only if the message was acknowledged to its publisher and the subscriber waited in vain, still connected.
async fn one_round(worker: usize, topic: &str, here: u16, there: u16) -> Result<(), Lost> {
    let unanswered = |lost: Lost| Lost::Connection(format!("{lost:?}"));
    let mut publisher = Client::connect(&format!("publisher-{worker}"), there).await.map_err(unanswered)?;
    let mut subscriber = Client::connect(&format!("subscriber-{worker}"), here).await.map_err(unanswered)?;
    subscriber.subscribe(topic).await.map_err(unanswered)?;
    publisher.publish(topic).await.map_err(unanswered)?;
    subscriber.message(topic, DELIVERY).await?;
    subscriber.leave().await;
    publisher.leave().await;
    Ok(())
}
