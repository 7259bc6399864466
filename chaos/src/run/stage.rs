//! All clients of a run, from their introduction to what they have to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::durable::crew::Crew;
use crate::durable::plan::Plan;
use crate::durable::tally::Tally;
use crate::history::{Action, Operation, Queues, Recorder, Watch};
use crate::load::listener::Listener;
use crate::load::{Scene, barrier, crowd, devices, list, probe, retained, stream, takeover, wills};

const DEVICES: usize = 24;
const TAKEN: usize = 8;
const BARRIERS: usize = 6;
const RETAINED: usize = 3;
const WILLS: usize = 6;
const CROWD: usize = 50;
const SUBSCRIBERS: usize = 40;
const PUBLISHERS: u16 = 4;
const TOPICS: u16 = 4;
/// Messages per second of all publishers together, and in flight of each.
const RATE: f64 = 100.0;
const WINDOW: usize = 16;
/// Room that the limit leaves beside all clients but the crowd: for the crowd, and for slots of dead nodes.
const ROOM: usize = 15;
/// Until every worker has come to an end.
const FINISH: Duration = Duration::from_secs(90);
/// Until the last wills have come: nothing new for so long.
const WILLS_QUIET: Duration = Duration::from_secs(wills::LONGEST_DELAY as u64 + 3);
/// Until a reader of the log has the last event.
const LAST_EVENT: Duration = Duration::from_secs(3);

pub struct Stage {
    recorder: Arc<Recorder>,
    tally: Arc<Tally>,
    crew: Crew,
    plan: Arc<Plan>,
    workers: JoinSet<()>,
    listeners: JoinSet<()>,
    mqtt: Arc<Mutex<Watch>>,
    streams: JoinSet<Watch>,
    over: watch::Sender<bool>,
    listened: watch::Sender<bool>,
    followed: watch::Sender<bool>,
    storm: Arc<watch::Sender<u64>>,
    nodes: Arc<AtomicUsize>,
    /// Of each teller: how many operations it had counted.
    told: Mutex<(u64, usize)>,
}

impl Stage {
    /// The limit of connections of a run: what all clients need, and a little for the crowd.
    pub fn limit(nodes: usize) -> u64 {
        // Half of the subscribers are away until the other clients are done.
        let queues = SUBSCRIBERS / 2 + usize::from(PUBLISHERS);
        (DEVICES + TAKEN + 2 * BARRIERS + 2 * RETAINED + 2 * WILLS + queues + nodes + 2 + ROOM) as u64
    }

    /// # Errors
    /// A client could not begin.
    pub async fn open(cluster: &Cluster, seed: u64, recorder: &Arc<Recorder>) -> Result<Self, String> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (over, listened, followed) = (watch::channel(false).0, watch::channel(false).0, watch::channel(false).0);
        let storm = Arc::new(watch::channel(0).0);
        let (ports, http) = (cluster.mqtt_ports(), cluster.http_ports());
        let (over_seen, storm_seen) = (over.subscribe(), storm.subscribe());
        let nodes = Arc::new(AtomicUsize::new(cluster.size()));
        let recorder_of_all = Arc::clone(recorder);
        let there = Arc::clone(&nodes);
        let scene = Scene { ports, http, nodes: there, recorder: recorder_of_all, over: over_seen, storm: storm_seen };
        let plan = Plan { root: "queues".into(), publishers: PUBLISHERS, topics: TOPICS, subscribers: SUBSCRIBERS };
        let (plan, tally) = (Arc::new(plan), Arc::new(Tally::default()));
        let mut crew = Crew::new(&plan, &Arc::from(&scene.ports[..cluster.size()]), &tally, &mut rng);
        crew.introduce().await?;
        let mut streams = JoinSet::new();
        for node in 0..cluster.size() {
            streams.spawn(stream::follow(scene.clone(), node, followed.subscribe()));
        }
        let mqtt = Arc::new(Mutex::new(Watch {
            name: "the subscriber of $events/#".into(),
            repeats: true,
            ..Watch::default()
        }));
        let listeners = listeners(&scene, &listened, &mqtt, &mut rng).await?;
        let workers = workers(&scene, cluster.size(), &mut rng);
        crew.start(RATE, WINDOW, &mut rng);
        let (recorder, told) = (Arc::clone(recorder), Mutex::default());
        Ok(Self {
            recorder,
            tally,
            crew,
            plan,
            workers,
            listeners,
            mqtt,
            streams,
            over,
            listened,
            followed,
            storm,
            nodes,
            told,
        })
    }

    pub fn storm(&self) -> Arc<watch::Sender<u64>> {
        Arc::clone(&self.storm)
    }

    /// How many of the nodes clients go to: not to the last one while it is not there.
    pub fn nodes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.nodes)
    }

    /// Tells on stderr how far the run is; never ends by itself.
    pub async fn tell(&self, every: Duration, time: Duration, current: Arc<Mutex<String>>) {
        loop {
            tokio::time::sleep(every).await;
            let now = self.recorder.now();
            let queued = self.tally.acknowledged.load(Ordering::Relaxed);
            let (operations, findings) =
                self.recorder.look(|history| (history.operations.len(), history.findings.len()));
            let (queued_before, before) = std::mem::replace(&mut *self.told.lock(), (queued, operations));
            let rate = |new: f64| new / every.as_secs_f64();
            eprintln!(
                "chaos: {:3.0} %  {:.0} of {:.0} s  {:.0} operations/s, {:.0} messages queued/s, {findings} findings; {}",
                (now.as_secs_f64() / time.as_secs_f64() * 100.0).min(99.0),
                now.as_secs_f64(),
                time.as_secs_f64(),
                rate((operations - before) as f64),
                rate((queued - queued_before) as f64),
                current.lock()
            );
        }
    }

    /// Ends all clients but the readers of the log.
    ///
    /// # Errors
    /// A client panicked or does not come to an end.
    pub async fn finish(mut self) -> Result<Watching, String> {
        self.over.send_replace(true);
        joined(&mut self.workers, FINISH).await?;
        let history = self.crew.finish().await?;
        let open = history.open;
        let operation = |&(at, took): &(Instant, Duration)| Operation {
            action: Action::Queue,
            ended: self.recorder.at(at),
            took: Some(took),
        };
        let operations: Vec<Operation> = history.answers.iter().map(operation).collect();
        let (started, plan) = (self.recorder.at(history.started), (*self.plan).clone());
        let queues = Queues { started, plan, sent: history.sent, received: history.received, open };
        let findings = self.tally.findings();
        self.recorder.add(|history| {
            history.queues = Some(queues);
            history.operations.extend(operations);
            history.findings.extend(findings);
        });
        last_wills(&self.recorder).await;
        self.listened.send_replace(true);
        joined(&mut self.listeners, FINISH).await?;
        let mqtt = std::mem::take(&mut *self.mqtt.lock());
        Ok(Watching { mqtt, streams: self.streams, over: self.followed })
    }
}

fn workers(scene: &Scene, nodes: usize, rng: &mut SmallRng) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let mut next = || (scene.clone(), SmallRng::from_rng(rng));
    for number in 0..DEVICES {
        let (scene, rng) = next();
        workers.spawn(devices::work(scene, number, rng));
    }
    for number in 0..TAKEN {
        let (scene, rng) = next();
        workers.spawn(takeover::work(scene, number, rng));
    }
    for number in 0..BARRIERS {
        let (scene, rng) = next();
        workers.spawn(barrier::work(scene, number, rng));
    }
    for number in 0..RETAINED {
        let (scene, rng) = next();
        workers.spawn(retained::work(scene, number, rng));
    }
    for number in 0..WILLS {
        let (scene, rng) = next();
        workers.spawn(wills::work(scene, number, rng));
    }
    for number in 0..CROWD {
        let (scene, rng) = next();
        workers.spawn(crowd::work(scene, number, rng));
    }
    for node in 0..nodes {
        let (scene, rng) = next();
        workers.spawn(probe::work(scene, node, rng));
    }
    let (scene, rng) = next();
    workers.spawn(list::work(scene, rng));
    workers
}

async fn listeners(
    scene: &Scene,
    over: &watch::Sender<bool>,
    mqtt: &Arc<Mutex<Watch>>,
    rng: &mut SmallRng,
) -> Result<JoinSet<()>, String> {
    let mut listeners = JoinSet::new();
    let heirs = Listener::start(scene, "heir", "wills/#", 2, SmallRng::from_rng(rng)).await?;
    let recorder = Arc::clone(&scene.recorder);
    listeners.spawn(heirs.run(over.subscribe(), move |message| {
        let token = String::from_utf8_lossy(&message.payload).into_owned();
        recorder.add(|history| history.will_arrivals.push(token));
    }));
    let watcher = Listener::start(scene, "watcher", "$events/#", 1, SmallRng::from_rng(rng)).await?;
    let mqtt = Arc::clone(mqtt);
    listeners.spawn(watcher.run(over.subscribe(), move |message| stream::take(&mut mqtt.lock(), message)));
    Ok(listeners)
}

async fn last_wills(recorder: &Recorder) {
    let mut before = usize::MAX;
    loop {
        let now = recorder.look(|history| history.will_arrivals.len());
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(WILLS_QUIET).await;
    }
}

async fn joined(all: &mut JoinSet<()>, limit: Duration) -> Result<(), String> {
    let joining = async {
        while let Some(ended) = all.join_next().await {
            ended.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let late = |_| Err(format!("a client has not come to an end within {limit:?}"));
    tokio::time::timeout(limit, joining).await.unwrap_or_else(late)
}

/// The readers of the log, which see the last event too.
pub struct Watching {
    mqtt: Watch,
    streams: JoinSet<Watch>,
    over: watch::Sender<bool>,
}

impl Watching {
    pub async fn finish(mut self) -> Result<Vec<Watch>, String> {
        tokio::time::sleep(LAST_EVENT).await;
        self.over.send_replace(true);
        let mut all = vec![self.mqtt];
        while let Some(watch) = self.streams.join_next().await {
            all.push(watch.map_err(|error| error.to_string())?);
        }
        Ok(all)
    }
}
