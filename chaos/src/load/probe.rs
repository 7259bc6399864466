//! One client per node that does a little of everything there, again and again: how soon it succeeds after a fault is the
//! time to recover.

use std::time::Duration;

use rand::rngs::SmallRng;

use crate::history::Probe;
use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::link::Lost;
use crate::mqtt::wire::Version;

/// For a whole round.
const PATIENCE: Duration = Duration::from_secs(2);
/// Quota exceeded: the crowd was there first, and that is no failure.
const REFUSED: u8 = 0x97;

pub async fn work(scene: Scene, node: usize, mut rng: SmallRng) {
    while scene.working() {
        let from = scene.recorder.now();
        let outcome = tokio::time::timeout(PATIENCE, round(&scene, node)).await;
        let ended = scene.recorder.now();
        if !matches!(outcome, Ok(Err(Lost::Refused(REFUSED)))) {
            let succeeded = matches!(outcome, Ok(Ok(true)));
            scene.recorder.add(|history| history.probes.push(Probe { node, from, ended, succeeded }));
        }
        scene.pause(&mut rng, 50..150).await;
    }
}

async fn round(scene: &Scene, node: usize) -> Result<bool, Lost> {
    let mut visit = Visit::open(scene, node, &clean(format!("probe-{node}"), Version::V5)).await?;
    let topic = format!("probe/{node}");
    visit.subscribe(&topic, 1).await?;
    visit.publish(&topic, "x", false).await?;
    let came = visit.message(PATIENCE, |message| message.topic == topic).await?.is_some();
    visit.leave().await;
    Ok(came)
}
