//! A rolling restart below thousands of clients (P9): node after node gets SIGTERM, ends, and is started again. Every client
//! is told, is back at once, and nothing that was acknowledged is lost.

mod device;
mod judge;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::durable::crew::Crew;
use crate::durable::plan::Plan;
use crate::durable::tally::Tally;
use crate::history::{Drained, History, Queues, Recorder};
use crate::load::Scene;
use crate::options::Options;
use crate::rolling::device::{Device, Presence};
use crate::run::SETTINGS;
use crate::{gather, sockets};

/// Of the queues: half of the subscribers are away until the end, as they are in other runs.
const SUBSCRIBERS: usize = 80;
const PUBLISHERS: u16 = 4;
const TOPICS: u16 = 4;
const WINDOW: usize = 16;
/// Files of a process beside its clients' sockets.
const OTHER_FILES: u64 = 1_000;
/// Clients that connect at the same moment in the beginning.
const AT_ONCE: usize = 200;
/// Until all clients are there, in the beginning and after each restart.
const ALL_THERE: Duration = Duration::from_secs(120);
/// Between two restarts, and before the first.
const QUIET: Duration = Duration::from_secs(3);
/// Until all clients have left.
const LEFT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Clients that are there all the time, two of five with persistent sessions, one of five speaking 3.1.1.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Messages per second for persistent sessions.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds within which 99 % of the clients must be back.
    #[arg(long, default_value_t = 2.0)]
    most: f64,
    /// Chooses what each client of the queues does.
    #[arg(long)]
    seed: Option<u64>,
}

/// # Errors
/// Something that a rolling restart must not do.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    sockets::make_room(u64::from(arguments.connections) + OTHER_FILES)?;
    let settings = arguments.options.settings(&SETTINGS);
    let mut cluster = Cluster::start(&arguments.options.setup(&settings)).await?;
    let verdict = match attempt(&mut cluster, arguments).await {
        Ok((history, backs)) => judge::judge(&history, &backs, arguments.most),
        Err(error) => Err(error),
    };
    if verdict.is_err() {
        cluster.print_logs();
        cluster.keep_folder();
    }
    verdict
}

async fn attempt(cluster: &mut Cluster, arguments: &Arguments) -> Result<(History, Vec<Duration>), String> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("rolling: seed {seed}, {} nodes, {} clients", cluster.size(), arguments.connections);
    let recorder = Arc::new(Recorder::default());
    recorder.add(|history| history.limit = u64::MAX);
    let (over, storm) = (watch::channel(false).0, watch::channel(0).0);
    let scene = Scene {
        ports: cluster.mqtt_ports(),
        http: cluster.http_ports(),
        nodes: Arc::new(AtomicUsize::new(cluster.size())),
        recorder: Arc::clone(&recorder),
        over: over.subscribe(),
        storm: storm.subscribe(),
    };
    let presence = Arc::new(Presence::new(AT_ONCE));
    let mut devices = JoinSet::new();
    for number in 0..arguments.connections as usize {
        devices.spawn(Device::new(number, &scene, &presence).live());
    }
    let started = Instant::now();
    all_there(&presence, arguments).await?;
    eprintln!("rolling: {} clients are there after {:.1?}", arguments.connections, started.elapsed());
    let mut rng = SmallRng::seed_from_u64(seed);
    let plan = Plan { root: "queues".into(), publishers: PUBLISHERS, topics: TOPICS, subscribers: SUBSCRIBERS };
    let (plan, tally) = (Arc::new(plan), Arc::new(Tally::default()));
    let mut crew = Crew::new(&plan, &scene.ports, &tally, &mut rng);
    crew.introduce().await?;
    crew.start(f64::from(arguments.rate), WINDOW, &mut rng);
    roll(cluster, arguments, &recorder, &presence).await?;
    let queues = crew.finish().await?;
    over.send_replace(true);
    let leaving = async { while devices.join_next().await.is_some() {} };
    tokio::time::timeout(LEFT, leaving).await.map_err(|_| format!("clients have not left within {LEFT:?}"))?;
    gather::nobody_online(cluster).await?;
    let (events, logs) = gather::logs(cluster).await?;
    gather::same_state_everywhere(cluster).await?;
    let mut history = recorder.take();
    let started = recorder.at(queues.started);
    let (plan, open) = ((*plan).clone(), queues.open);
    history.queues = Some(Queues { started, plan, sent: queues.sent, received: queues.received, open });
    history.findings.extend(tally.findings());
    (history.events, history.logs) = (events, logs);
    Ok((history, presence.backs()))
}

async fn roll(
    cluster: &mut Cluster,
    arguments: &Arguments,
    recorder: &Recorder,
    presence: &Presence,
) -> Result<(), String> {
    for node in 0..cluster.size() {
        tokio::time::sleep(QUIET).await;
        let from = recorder.now();
        cluster.drain(node).await?;
        let drained = Drained { node, from, exited: recorder.now() };
        let took = drained.exited - drained.from;
        recorder.add(|history| history.drains.push(drained));
        cluster.spawn(node)?;
        cluster.all_ready().await?;
        all_there(presence, arguments).await?;
        eprintln!(
            "rolling: node-{node} drained in {took:.1?}, all are there {:.1?} later",
            recorder.now() - from - took
        );
    }
    tokio::time::sleep(QUIET).await;
    Ok(())
}

async fn all_there(presence: &Presence, arguments: &Arguments) -> Result<(), String> {
    let (started, all) = (Instant::now(), arguments.connections as usize);
    while presence.there.load(Ordering::Relaxed) < all {
        if started.elapsed() > ALL_THERE {
            let there = presence.there.load(Ordering::Relaxed);
            return Err(format!("{there} of {all} clients are there within {ALL_THERE:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
