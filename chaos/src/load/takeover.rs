//! For P1: one client id connects again on any node while its older connection is open, and the older one then tries to
//! change the session.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::load::Scene;
use crate::load::visit::{Visit, clean};
use crate::mqtt::wire::Version;

/// How long an older connection is watched: longer than a fence and a fault.
const WATCHED: Duration = Duration::from_secs(60);

pub async fn work(scene: Scene, id: usize, mut rng: SmallRng) {
    let mut older = JoinSet::new();
    let mut current: Option<Visit> = None;
    while scene.working() {
        let node = scene.any_node(&mut rng);
        let version = if rng.random_bool(0.7) { Version::V5 } else { Version::V311 };
        let Ok(mut newer) = Visit::open(&scene, node, &clean(format!("taken-{id}"), version)).await else {
            scene.pause(&mut rng, 50..250).await;
            continue;
        };
        if let Some(old) = current.take() {
            older.spawn(old.superseded(newer.granted(), WATCHED));
        }
        let filter = format!("taken/{id}");
        let stays = Duration::from_millis(rng.random_range(20..600));
        let alive = newer.subscribe(&filter, 1).await.is_ok() && newer.stay(stays).await.is_ok();
        match rng.random_range(0..10) {
            _ if !alive => {}
            0 => drop(newer.vanish()),
            1 => drop(newer.leave().await),
            _ => current = Some(newer),
        }
        while older.try_join_next().is_some() {}
    }
    if let Some(last) = current {
        last.leave().await;
    }
    older.join_all().await;
}
