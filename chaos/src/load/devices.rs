//! Clean devices: they connect to any node, subscribe, publish, and leave in every way; in a storm all at once.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::link::Lost;
use crate::mqtt::wire::Version;

/// Milliseconds that most connections last, and the others.
const SHORT_MS: std::ops::Range<u64> = 50..800;
const LONG_MS: std::ops::Range<u64> = 2_000..20_000;

pub async fn work(scene: Scene, device: usize, mut rng: SmallRng) {
    let mut visits = 0u64;
    while scene.working() {
        visits += 1;
        let storms = *scene.storm.borrow();
        let node = scene.any_node(&mut rng);
        let version = if rng.random_bool(0.7) { Version::V5 } else { Version::V311 };
        match Visit::open(&scene, node, &clean(format!("device-{device}"), version)).await {
            Err(_) => scene.pause(&mut rng, 50..250).await,
            Ok(mut visit) => {
                let stayed = be_there(&mut visit, device, visits, &mut rng).await;
                // In a storm nobody says goodbye.
                if stayed.is_ok() && *scene.storm.borrow() == storms && rng.random_bool(0.6) {
                    visit.leave().await;
                }
            }
        }
    }
}

async fn be_there(visit: &mut Visit, device: usize, number: u64, rng: &mut SmallRng) -> Result<(), Lost> {
    if rng.random_bool(0.3) {
        visit.subscribe(&format!("device/{device}/{number}"), 1).await?;
    }
    for _ in 0..rng.random_range(0..3) {
        visit.publish(&format!("telemetry/{device}"), "21.5", false).await?;
    }
    let range = if rng.random_bool(0.3) { LONG_MS } else { SHORT_MS };
    let hold = rng.random_range(range);
    visit.stay_until_storm(Duration::from_millis(hold)).await?;
    visit.ping().await
}
