//! For P3 and P8: a message is retained on one node, and from its PUBACK on whoever subscribes on any node gets it, or a
//! later one.

use rand::rngs::SmallRng;

use crate::history::{At, Round, Wanted};
use crate::load::visit::{Visit, clean};
use crate::load::{DELIVERY, Scene};
use crate::mqtt::link::Lost;
use crate::mqtt::wire::{Publish, Version};

pub async fn work(scene: Scene, worker: usize, mut rng: SmallRng) {
    let topic = format!("retained/{worker}");
    let mut number = 0u64;
    // The last one that was acknowledged, when it was sent and where.
    let mut kept: Option<(u64, At, usize)> = None;
    // Those that were not: nobody knows when they come into force, if ever, so one may take the place of a later one.
    let mut open = Vec::new();
    while scene.working() {
        number += 1;
        let (here, there) = scene.two_nodes(&mut rng);
        let sent = scene.recorder.now();
        if retain(&scene, there, &topic, worker, number).await.is_ok() {
            kept = Some((number, sent, there));
        } else {
            open.push(number);
        }
        match kept {
            Some(kept) => look(&scene, here, &topic, worker, kept, &open).await,
            None => scene.pause(&mut rng, 50..250).await,
        }
        scene.pause(&mut rng, 20..300).await;
    }
    // Once more when all is healed.
    if let Some(kept) = kept {
        let here = scene.any_node(&mut rng);
        look(&scene, here, &topic, worker, kept, &open).await;
    }
}

async fn retain(scene: &Scene, there: usize, topic: &str, worker: usize, number: u64) -> Result<(), Lost> {
    let mut visit = Visit::open(scene, there, &clean(format!("retainer-{worker}"), Version::V5)).await?;
    visit.publish(topic, &number.to_string(), true).await?;
    visit.leave().await;
    Ok(())
}

async fn look(
    scene: &Scene,
    here: usize,
    topic: &str,
    worker: usize,
    (least, published, there): (u64, At, usize),
    open: &[u64],
) {
    let number = |message: &Publish| std::str::from_utf8(&message.payload).ok()?.parse::<u64>().ok();
    let is_later = |number: u64| number >= least || open.contains(&number);
    let looked = async {
        let mut visit = Visit::open(scene, here, &clean(format!("looker-{worker}"), Version::V5)).await?;
        visit.subscribe(topic, 1).await?;
        let found = visit.message(DELIVERY, |message| number(message).is_some_and(is_later)).await;
        visit.leave().await;
        found
    };
    let looked: Result<Option<()>, Lost> = looked.await;
    let round = Round {
        wanted: Wanted::Retained,
        topic: format!("{topic} number {least}"),
        here,
        there,
        published,
        ended: scene.recorder.now(),
        arrived: looked == Ok(Some(())),
        broke: looked.is_err(),
    };
    scene.recorder.add(|history| history.rounds.push(round));
}
