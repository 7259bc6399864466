//! One client that is always there: when it loses its connection it comes back at once, where it is told to or at the next
//! node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::history::{At, Resumption};
use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::wire::{Connect, Version};

/// Shorter than the keep alive.
const PING: Duration = Duration::from_secs(40);
/// A client that was refused goes on to the next node after this.
const AGAIN: Duration = Duration::from_millis(10);
/// Seconds that a persistent session outlives its connection: longer than the run.
const EXPIRY: u32 = 24 * 3_600;

/// Who is there, and how long everybody who was not took to come back.
pub struct Presence {
    pub there: AtomicUsize,
    backs: Mutex<Vec<Duration>>,
    /// In the beginning not all connect at the same moment.
    first: Semaphore,
}

impl Presence {
    pub fn new(at_once: usize) -> Self {
        Self { there: AtomicUsize::new(0), backs: Mutex::default(), first: Semaphore::new(at_once) }
    }

    pub fn backs(&self) -> Vec<Duration> {
        self.backs.lock().clone()
    }
}

pub struct Device {
    connect: Connect,
    scene: Scene,
    presence: Arc<Presence>,
    node: usize,
    lost: Option<At>,
}

impl Device {
    pub fn new(number: usize, scene: &Scene, presence: &Arc<Presence>) -> Self {
        // Two of five are persistent; of both kinds some speak 3.1.1.
        let (persistent, old) = (number % 5 < 2, matches!(number % 10, 0 | 3));
        let version = if old { Version::V311 } else { Version::V5 };
        let expiry = if persistent { EXPIRY } else { 0 };
        let connect = Connect { clean: !persistent, expiry, ..clean(format!("device-{number}"), version) };
        let (scene, presence, node) = (scene.clone(), Arc::clone(presence), number % scene.nodes());
        Self { connect, scene, presence, node, lost: None }
    }

    pub async fn live(mut self) {
        while self.scene.working() {
            match self.come().await {
                None => {
                    self.node = (self.node + 1) % self.scene.nodes();
                    tokio::time::sleep(AGAIN).await;
                }
                Some(visit) => {
                    self.presence.there.fetch_add(1, Ordering::Relaxed);
                    self.be_there(visit).await;
                    self.presence.there.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    async fn come(&self) -> Option<Visit> {
        let presence = Arc::clone(&self.presence);
        let _turn = if self.lost.is_none() { presence.first.acquire().await.ok() } else { None };
        let mut visit = Visit::open(&self.scene, self.node, &self.connect).await.ok()?;
        match self.lost {
            Some(lost) => {
                presence.backs.lock().push(visit.granted() - lost);
                if !self.connect.clean {
                    let client_id = self.connect.client_id.clone();
                    let resumption = Resumption { client_id, from: lost, to: visit.granted(), present: visit.resumed };
                    self.scene.recorder.add(|history| history.resumptions.push(resumption));
                }
            }
            None if !self.connect.clean => visit.subscribe(&self.connect.client_id, 1).await.ok()?,
            None => {}
        }
        Some(visit)
    }

    async fn be_there(&mut self, mut visit: Visit) {
        let mut over = self.scene.over.clone();
        let stayed = tokio::select! {
            lost = stay(&mut visit) => Some(lost),
            _ = over.wait_for(|over| *over) => None,
        };
        if stayed.is_none() {
            visit.leave().await;
            return;
        }
        self.lost = Some(visit.ended());
        let told = visit.elsewhere.as_deref().and_then(|address| address.rsplit(':').next()?.parse::<u16>().ok());
        let told = told.and_then(|port| self.scene.ports.iter().position(|known| *known == port));
        self.node = told.unwrap_or((self.node + 1) % self.scene.nodes());
    }
}

async fn stay(visit: &mut Visit) {
    while visit.stay(PING).await.is_ok() && visit.ping().await.is_ok() {}
}
