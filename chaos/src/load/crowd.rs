//! For P2: more clients than the limit leaves room for, on all nodes at once, now and then.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::link::Lost;
use crate::mqtt::wire::Version;

/// Of each period the crowd comes for the first part.
const PERIOD_MS: u128 = 10_000;
const CROWDED_MS: u128 = 3_000;
/// Quota exceeded.
const REFUSED: u8 = 0x97;

pub async fn work(scene: Scene, number: usize, mut rng: SmallRng) {
    while scene.working() {
        let begun = scene.recorder.now().as_millis() / PERIOD_MS;
        if scene.recorder.now().as_millis() % PERIOD_MS > CROWDED_MS {
            scene.pause(&mut rng, 50..300).await;
            continue;
        }
        let node = scene.any_node(&mut rng);
        match Visit::open(&scene, node, &clean(format!("crowd-{number}-{begun}"), Version::V5)).await {
            Err(lost) => {
                if lost == Lost::Refused(REFUSED) {
                    scene.recorder.add(|history| history.refused_by_limit += 1);
                }
                scene.pause(&mut rng, 100..400).await;
            }
            Ok(mut visit) => {
                let hold = Duration::from_millis(rng.random_range(200..1_500));
                if visit.stay(hold).await.is_ok() && visit.ping().await.is_ok() {
                    visit.leave().await;
                }
            }
        }
    }
}
