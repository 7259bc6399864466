//! The clients of a simulation: all kinds at once, each by itself, at any node that is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rollcall_chaos::durable::plan::{self, Stream};
use rollcall_chaos::history::{Leaving, Resumption, Round, Wanted, Will};
use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use tokio::time::timeout;

use super::broker::Says;
use super::record::Phase;
use super::visit::{Gone, Scene, Visit, Wish};

/// How long a message that was promised is waited for.
const DELIVERY: Duration = Duration::from_secs(20);
/// How long one that must not come is.
const NOTHING: Duration = Duration::from_millis(60);
/// Between two looks at whether everything has come.
const LOOK: Duration = Duration::from_millis(50);
/// Messages published at least, however short the faults were.
const LEAST: u32 = 5;

/// One client id connects again and again, anywhere.
pub(super) async fn takeovers(scene: Scene, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut older = tokio::task::JoinSet::new();
    let mut current: Option<Visit> = None;
    while scene.record.is_working() {
        let node = scene.any_node(&mut rng);
        let Ok(mut newer) = scene.open(node, Wish::clean(format!("taken-{seed}")), &mut rng).await else {
            scene.pause(&mut rng, 20..120).await;
            continue;
        };
        if let (Some(old), Some(granted)) = (current.take(), newer.log.granted) {
            older.spawn_local(old.superseded(granted));
        }
        let alive = newer.subscribe("taken", QoS::AtLeastOnce).await.is_ok();
        scene.pause(&mut rng, 20..300).await;
        let alive = alive && newer.ping().await.is_ok();
        match rng.random_range(0..8) {
            _ if !alive => {}
            0 => drop(newer),
            1 => newer.leave().await,
            _ => current = Some(newer),
        }
    }
    if let Some(last) = current {
        last.leave().await;
    }
    older.join_all().await;
}

/// Subscribe at one node, publish at another; sometimes a retained message first, or an unsubscription last.
pub(super) async fn rounds(scene: Scene, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut number = 0;
    while scene.record.is_working() {
        number += 1;
        let topic = format!("rounds/{seed}/{number}");
        if round(&scene, seed, &topic, &mut rng).await.is_err() {
            scene.pause(&mut rng, 20..120).await;
        }
    }
}

async fn round(scene: &Scene, seed: u64, topic: &str, rng: &mut SmallRng) -> Result<(), Gone> {
    let (here, there) = (scene.any_node(rng), scene.any_node(rng));
    let mut publisher = scene.open(there, Wish::clean(format!("publisher-{seed}")), rng).await?;
    let retained = rng.random_bool(0.3);
    let note = |wanted, published, came: &Result<bool, Gone>| {
        let (topic, arrived) = (topic.to_owned(), matches!(came, Ok(true)));
        let (ended, broke) = (scene.record.now(), came.is_err());
        let round = Round { wanted, topic, here, there, published, ended, arrived, broke };
        scene.record.add(|history| history.rounds.push(round));
    };
    let published = scene.record.now();
    if retained {
        publisher.publish(topic, Bytes::from_static(b"retained"), true).await?;
    }
    let mut subscriber = scene.open(here, Wish::clean(format!("subscriber-{seed}")), rng).await?;
    subscriber.subscribe(topic, QoS::AtLeastOnce).await?;
    if retained {
        let came = subscriber.comes(b"retained", DELIVERY).await;
        note(Wanted::Retained, published, &came);
        came?;
    }
    let published = scene.record.now();
    publisher.publish(topic, Bytes::from_static(b"live"), false).await?;
    let came = subscriber.comes(b"live", DELIVERY).await;
    note(Wanted::Live, published, &came);
    came?;
    subscriber.unsubscribe(topic).await?;
    let published = scene.record.now();
    publisher.publish(topic, Bytes::from_static(b"nothing"), false).await?;
    let came = subscriber.comes(b"nothing", NOTHING).await;
    note(Wanted::Nothing, published, &came);
    subscriber.leave().await;
    publisher.leave().await;
    Ok(())
}

/// Clients that come, stay and go, more than may be there at once.
pub(super) async fn crowd(scene: Scene, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while scene.record.is_working() {
        let node = scene.any_node(&mut rng);
        if let Ok(mut visit) = scene.open(node, Wish::clean(format!("crowd-{seed}")), &mut rng).await {
            for _ in 0..rng.random_range(1..4) {
                scene.pause(&mut rng, 10..150).await;
                if visit.ping().await.is_err() {
                    break;
                }
            }
            if rng.random_bool(0.5) {
                visit.leave().await;
            }
        } else {
            scene.record.add(|history| history.refused_by_limit += 1);
        }
        scene.pause(&mut rng, 5..80).await;
    }
}

/// Publishes numbered messages, each until it is acknowledged.
pub(super) async fn publishes(scene: Scene, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let stream = Stream { publisher: 0, topic: 0, qos: 1 };
    let topic = scene.plan.topic(0, 0);
    while scene.subscribed.load(Ordering::Relaxed) < scene.plan.subscribers {
        scene.pause(&mut rng, 5..60).await;
    }
    let mut number = 0;
    let mut visit = None;
    while scene.record.is_working() || number < LEAST {
        let node = scene.any_node(&mut rng);
        let Some(open) = &mut visit else {
            visit = scene.open(node, Wish::clean("streams".into()), &mut rng).await.ok();
            scene.pause(&mut rng, 5..60).await;
            continue;
        };
        note_sent(&scene, stream, number, false);
        let sent = open.publish(&topic, plan::payload(stream, number).into(), false).await;
        if sent.is_err() {
            visit = None;
            continue;
        }
        note_sent(&scene, stream, number, true);
        number += 1;
        scene.pause(&mut rng, 5..60).await;
    }
    scene.published.store(true, Ordering::Relaxed);
    if let Some(last) = visit {
        last.leave().await;
    }
}

fn note_sent(scene: &Scene, stream: Stream, number: u32, acknowledged: bool) {
    let at = acknowledged.then(|| scene.record.now());
    scene.record.add(|history| {
        let Some(queues) = &mut history.queues else { return };
        let sent = queues.sent.0.entry(stream).or_default();
        sent.resize(sent.len().max(number as usize + 1), None);
        sent[number as usize] = at;
    });
}

/// A persistent session that is there most of the time, and in the end takes all that is still owed to it.
pub(super) async fn receives(scene: Scene, seed: u64, subscriber: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let client_id = format!("receiver-{subscriber}");
    let (mut had_session, mut asked) = (None, false);
    loop {
        let finishing = !scene.record.is_working();
        let node = scene.any_node(&mut rng);
        let Ok(mut visit) = scene.open(node, Wish::persistent(client_id.clone()), &mut rng).await else {
            scene.pause(&mut rng, 20..120).await;
            continue;
        };
        if let Some(from) = had_session {
            let resumption =
                Resumption { client_id: client_id.clone(), from, to: scene.record.now(), present: visit.present };
            scene.record.add(|history| history.resumptions.push(resumption));
        } else {
            let subscribed = visit.subscribe(&scene.plan.filter_text(subscriber), QoS::AtLeastOnce).await;
            if std::mem::replace(&mut asked, true) {
                // The session may have had it already: then it makes no event.
                visit.log.subscribed.pop();
            }
            if subscribed.is_err() {
                continue;
            }
            scene.subscribed.fetch_add(1, Ordering::Relaxed);
        }
        had_session = Some(scene.record.now());
        let stays = if finishing { DELIVERY } else { Duration::from_millis(rng.random_range(50..800)) };
        let taken = timeout(stays, take(&scene, &mut visit, subscriber, finishing)).await;
        if finishing && matches!(taken, Ok(Ok(())) | Err(_)) {
            return visit.leave().await;
        }
        if rng.random_bool(0.5) {
            visit.leave().await;
        }
    }
}

/// Ends when everything acknowledged is here, if it is `to_the_end`.
async fn take(scene: &Scene, visit: &mut Visit, subscriber: usize, to_the_end: bool) -> Result<(), Gone> {
    while !(to_the_end && scene.published.load(Ordering::Relaxed) && has_all(scene, subscriber)) {
        let Ok(came) = timeout(LOOK, visit.message()).await else { continue };
        let (_, payload, position) = came?;
        let Some((stream, number)) = plan::parse_payload(&payload) else { continue };
        scene.record.add(|history| {
            if let Some(queues) = &mut history.queues {
                queues.received[subscriber].0.entry(stream).or_default().push(number);
            }
        });
        if let Some(position) = position {
            visit.say(Says::Acknowledge(position))?;
        }
    }
    Ok(())
}

fn has_all(scene: &Scene, subscriber: usize) -> bool {
    let mut all = true;
    scene.record.add(|history| {
        let Some(queues) = &history.queues else { return };
        all = queues.sent.0.iter().all(|(stream, sent)| {
            let received = queues.received[subscriber].0.get(stream);
            let has = |number: usize| received.is_some_and(|all| all.contains(&(number as u32)));
            sent.iter().enumerate().all(|(number, acked)| acked.is_none() || has(number))
        });
    });
    all
}

/// Leaves wills, and takes some of them back.
pub(super) async fn wills(scene: Scene, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut number = 0;
    while scene.record.is_working() {
        number += 1;
        let token = format!("{seed}.{number}");
        let (client_id, node) = (format!("mortal-{seed}"), scene.any_node(&mut rng));
        let will = Message {
            topic: "wills".into(),
            payload: token.clone().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: client_id.clone().into(),
            expires_at: None,
        };
        let wish = Wish { will: Some(will), ..Wish::clean(client_id.clone()) };
        let opened = scene.open(node, wish, &mut rng).await;
        scene.pause(&mut rng, 20..200).await;
        let (mut leaving, mut peer) = (Leaving::Unknown, String::new());
        if let Ok(visit) = opened {
            peer.clone_from(&visit.log.peer);
            leaving = if rng.random_bool(0.4) { Leaving::TakenBack } else { Leaving::Ungraceful };
            match leaving {
                Leaving::TakenBack => visit.leave().await,
                Leaving::Ungraceful | Leaving::Resumed | Leaving::Unknown => drop(visit),
            }
        }
        let ended = scene.record.now();
        scene.record.add(|history| history.wills.push(Will { token, client_id, peer, leaving, ended }));
    }
}

/// The persistent session that all wills go to; subscribed before the first is left.
pub(super) async fn hears_wills(scene: Scene, seed: u64, subscribed: tokio::sync::oneshot::Sender<()>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut asked = false;
    let (mut subscribed, mut had) = (Some(subscribed), std::collections::BTreeSet::new());
    let mut phase = scene.record.phase.subscribe();
    loop {
        let node = scene.any_node(&mut rng);
        let Ok(mut visit) = scene.open(node, Wish::persistent("heir".into()), &mut rng).await else {
            scene.pause(&mut rng, 20..120).await;
            continue;
        };
        if subscribed.is_some() {
            let heard = visit.subscribe("wills", QoS::AtLeastOnce).await;
            if std::mem::replace(&mut asked, true) {
                visit.log.subscribed.pop();
            }
            if heard.is_err() {
                continue;
            }
            subscribed.take().map(|told| told.send(()));
        }
        loop {
            let came = tokio::select! {
                came = visit.message() => came,
                _ = phase.wait_for(|phase| *phase == Phase::Closing) => return visit.leave().await,
            };
            let Ok((_, payload, position)) = came else { break };
            let Some(position) = position else { continue };
            // The same position again is the same message, sent again.
            if had.insert(position) {
                let token = String::from_utf8_lossy(&payload).into_owned();
                scene.record.add(|history| history.will_arrivals.push(token));
            }
            if visit.say(Says::Acknowledge(position)).is_err() {
                break;
            }
        }
    }
}
