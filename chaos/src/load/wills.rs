//! For P7: clients with wills that end in every way.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::history::{At, Leaving, Resumption, Will};
use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::wire::{self, Connect, Version};

/// Seconds that a session outlives its connection where the will has a delay, which is shorter.
const EXPIRY: u32 = 30;
/// Seconds; the broker counts from when it noticed the end.
pub const LONGEST_DELAY: u32 = 3;

pub async fn work(scene: Scene, worker: usize, mut rng: SmallRng) {
    let mut number = 0u64;
    while scene.working() {
        number += 1;
        let delay = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..=LONGEST_DELAY) };
        let one = One { scene: &scene, token: format!("{worker}.{number}"), delay };
        one.live(&mut rng).await;
        scene.pause(&mut rng, 20..300).await;
    }
}

/// One client, which has one will.
struct One<'a> {
    scene: &'a Scene,
    token: String,
    delay: u32,
}

impl One<'_> {
    fn connect(&self) -> Connect {
        let expiry = if self.delay > 0 { EXPIRY } else { 0 };
        Connect { expiry, ..clean(format!("mortal-{}", self.token), Version::V5) }
    }

    async fn live(&self, rng: &mut SmallRng) {
        let payload = self.token.as_bytes().to_vec();
        let will = wire::Will { topic: format!("wills/{}", self.token), payload, delay: self.delay };
        let connect = Connect { will: Some(will), ..self.connect() };
        let mut visit = match Visit::open(self.scene, self.scene.any_node(rng), &connect).await {
            Ok(visit) => visit,
            Err(_) => return self.record(String::new(), Leaving::Unknown, self.scene.recorder.now()),
        };
        let peer = visit.peer().to_owned();
        if visit.stay(Duration::from_millis(rng.random_range(10..1_500))).await.is_err() {
            let ended = visit.ended();
            return self.record(peer, Leaving::Ungraceful, ended);
        }
        let (leaving, ended) = match rng.random_range(0..5) {
            0 => (Leaving::TakenBack, visit.leave().await),
            1 => (Leaving::Ungraceful, visit.leave_with_will().await),
            2 if self.delay > 1 => self.come_back(visit, rng).await,
            3 => self.be_replaced(visit, rng).await,
            _ => (Leaving::Ungraceful, visit.vanish()),
        };
        self.record(peer, leaving, ended);
    }

    /// Takes the session up again before the delay has run out.
    async fn come_back(&self, visit: Visit, rng: &mut SmallRng) -> (Leaving, At) {
        let ended = visit.vanish();
        tokio::time::sleep(Duration::from_millis(rng.random_range(10..400))).await;
        let node = self.scene.any_node(rng);
        let again = Visit::open(self.scene, node, &Connect { clean: false, ..self.connect() }).await;
        let Ok(again) = again else { return (Leaving::Unknown, ended) };
        let soon = again.granted() - ended < Duration::from_secs(self.delay.into()) * 6 / 10;
        if soon {
            let (client_id, present) = (self.connect().client_id, again.resumed);
            let resumption = Resumption { client_id, from: ended, to: again.granted(), present };
            self.scene.recorder.add(|history| history.resumptions.push(resumption));
        }
        again.leave().await;
        (if soon { Leaving::Resumed } else { Leaving::Unknown }, ended)
    }

    /// A new connection ends the session of the older one, and so its wait for the delay.
    async fn be_replaced(&self, visit: Visit, rng: &mut SmallRng) -> (Leaving, At) {
        let node = self.scene.any_node(rng);
        let opened = Visit::open(self.scene, node, &Connect { expiry: 0, ..self.connect() }).await;
        if let Ok(newer) = opened {
            let granted = newer.granted();
            visit.superseded(granted, Duration::from_secs(60)).await;
            newer.leave().await;
            return (Leaving::Ungraceful, granted);
        }
        (Leaving::Ungraceful, visit.vanish())
    }

    fn record(&self, peer: String, leaving: Leaving, ended: At) {
        let (token, client_id) = (self.token.clone(), self.connect().client_id);
        self.scene.recorder.add(|history| history.wills.push(Will { token, client_id, peer, leaving, ended }));
    }
}
