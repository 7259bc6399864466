//! One simulation from its seed to the verdicts: a cluster forms, clients work while it is hurt, it heals, all finish, and
//! the checkers look at what was written down.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rollcall_chaos::check::{self, Verdict};
use rollcall_chaos::durable::check::{Received, Sent};
use rollcall_chaos::durable::plan::Plan;
use rollcall_chaos::history::{Drained, Event, History, Kind, Queues, Span};
use rollcall_chaos::run::schedule::Fault;
use rollcall_proto::schema::roster::{self, Limits, event};
use turmoil::{Builder, Sim};

use super::clients;
use super::node::{Doors, Site, config, name};
use super::record::{Phase, Record};
use super::visit::Scene;
use super::{chance, gates};
use crate::config::Config;

const NODES: usize = 3;
/// Fewer than there are clients.
const LIMIT: u64 = 10;
const TICK: Duration = Duration::from_millis(1);
/// Of a message between nodes, at most.
const LATENCY: Duration = Duration::from_millis(3);
/// The same for a slow link.
const SLOW: Duration = Duration::from_millis(60);
/// How long a link that flaps is there, and is not.
const FLAPS: Duration = Duration::from_millis(90);
/// How long a cluster may take to form or to heal, and clients to finish.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than a death goes unnoticed and its sessions unreaped.
const SETTLING: Duration = Duration::from_secs(4);
/// Faults of one simulation, at most.
const FAULTS: u32 = 3;
const SUBSCRIBERS: usize = 2;
/// 2026, in seconds since 1970.
const EPOCH: u64 = 1_767_225_600;

/// What one simulation came to.
pub(super) struct Outcome {
    pub verdicts: Vec<Verdict>,
    /// Of everything that happened.
    pub digest: u64,
    pub faults: Vec<Fault>,
    pub events: usize,
    pub acknowledged: usize,
    /// Virtual time.
    pub took: Duration,
}

/// To be called on a thread of its own: its chance is the seed's from here on.
///
/// # Errors
/// When the cluster does not form, heal or come to rest.
pub(super) fn simulate(seed: u64) -> Result<Outcome, String> {
    chance::follow(seed);
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let root = tempfile::Builder::new().prefix("rollcall-simulation-").tempdir_in(place);
    let root = root.map_err(|error| error.to_string())?;
    let mut world = World::new(seed, root.path());
    let outcome = world.run();
    world.close();
    outcome
}

struct World<'a> {
    sim: Sim<'a>,
    doors: Doors,
    record: Record,
    rng: SmallRng,
    /// Clients that have not finished.
    left: Arc<AtomicUsize>,
}

impl<'a> World<'a> {
    fn new(seed: u64, root: &Path) -> Self {
        let mut sim = Builder::new()
            .rng_seed(seed)
            .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(LATENCY)
            .tcp_capacity(4_096)
            .simulation_duration(Duration::from_secs(3_600))
            .enable_random_order()
            .build();
        let doors = Doors::of(NODES);
        for node in 0..NODES {
            let limits = Limits { max_connections: Some(LIMIT), ..Limits::default() };
            let config = Config { limits, ..config(node, NODES, root) };
            let (doors, root): (Doors, PathBuf) = (doors.clone(), config.data_dir.clone());
            sim.host(name(node), move || {
                Site { node, config: config.clone(), doors: doors.clone(), root: root.clone() }.run()
            });
        }
        let record = Record::new(LIMIT);
        let plan = Plan { root: "streams".into(), publishers: 1, topics: 1, subscribers: SUBSCRIBERS };
        let received = (0..SUBSCRIBERS).map(|_| Received::default()).collect();
        let queues = Queues { started: Duration::ZERO, plan: plan.clone(), sent: Sent::default(), received, open: 0 };
        record.add(|history| history.queues = Some(queues));
        let left = Arc::new(AtomicUsize::new(0));
        let scene = Scene {
            doors: doors.clone(),
            nodes: NODES,
            record: record.clone(),
            plan,
            subscribed: Arc::default(),
            published: Arc::default(),
        };
        sim.client("clients", everybody(scene, seed, left.clone()));
        World { sim, doors, record, rng: SmallRng::seed_from_u64(seed), left }
    }

    fn run(&mut self) -> Result<Outcome, String> {
        self.until("the cluster did not form", Self::is_ready)?;
        for _ in 0..self.rng.random_range(1..=FAULTS) {
            self.fault()?;
        }
        self.record.phase.send_replace(Phase::Finishing);
        self.until("clients did not finish", |world| world.left.load(Ordering::Relaxed) == 1)?;
        self.pass(SETTLING)?;
        self.record.phase.send_replace(Phase::Closing);
        self.until("the last client did not finish", |world| world.left.load(Ordering::Relaxed) == 0)?;
        self.until("the cluster did not come to rest", Self::is_at_rest)?;
        Ok(self.judge())
    }

    fn step(&mut self) -> Result<(), String> {
        let stepped = self.sim.step().map(drop).map_err(|error| error.to_string());
        super::BETWEEN_STEPS.set(Some(self.sim.elapsed()));
        stepped
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn until(&mut self, otherwise: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = self.sim.elapsed() + PATIENCE;
        while !done(self) {
            if self.sim.elapsed() > end {
                let nodes: Vec<String> = (0..NODES).map(|node| self.doors.condition(node)).collect();
                return Err(format!("{otherwise} within {PATIENCE:?}: {nodes:?}"));
            }
            self.pass(TICK * 10)?;
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        (0..NODES).all(|node| self.doors.is_ready(node))
    }

    /// Nobody is connected, nothing is left to reap, and all have applied the same.
    fn is_at_rest(&self) -> bool {
        let states = (0..NODES).map(|node| {
            let broker = self.doors.broker(node)?;
            let roster = broker.cluster().roster();
            let quiet = roster.connections() == 0 && roster.orphans().next().is_none();
            quiet.then(|| (roster.seq(), *broker.cluster().replica().applied().borrow()))
        });
        let states: Vec<_> = states.collect();
        states.iter().all(|state| state.is_some() && *state == states[0])
    }

    /// One fault from its beginning until all nodes are ready again.
    fn fault(&mut self) -> Result<(), String> {
        let quiet = Duration::from_millis(self.rng.random_range(50..400));
        self.pass(quiet)?;
        let (one, way) = (self.rng.random_range(0..NODES), self.rng.random_bool(0.5));
        let other = (one + self.rng.random_range(1..NODES)) % NODES;
        let lasts = Duration::from_millis(self.rng.random_range(50..3_000));
        let from = self.sim.elapsed();
        let all = || (0..NODES).collect::<Vec<_>>();
        let (fault, nodes) = match self.rng.random_range(0..8) {
            0 => (Fault::Kill, vec![one]),
            1 => (Fault::KillAll, all()),
            2 => (Fault::Partition, vec![one]),
            3 => (Fault::OneWay, vec![one]),
            4 => (Fault::CutPair, vec![one, other]),
            5 => (Fault::Slow, vec![one]),
            6 => (Fault::Flap, vec![one]),
            _ => (Fault::RollingRestart, vec![one]),
        };
        tracing::info!(?fault, ?nodes, way, at = ?self.sim.elapsed(), ?lasts, "a fault");
        match fault {
            Fault::Kill | Fault::KillAll => self.restart(&nodes, lasts)?,
            Fault::RollingRestart => self.drain(one, lasts / 4)?,
            _ => self.disturb(fault, &nodes, way, lasts)?,
        }
        let healed = self.sim.elapsed();
        self.until("the cluster did not heal", Self::is_ready)?;
        let span = Span { fault, nodes, from, healed, over: self.sim.elapsed() };
        self.record.add(|history| history.spans.push(span));
        Ok(())
    }

    fn restart(&mut self, nodes: &[usize], after: Duration) -> Result<(), String> {
        for &node in nodes {
            self.crash(node);
        }
        self.pass(after)?;
        for &node in nodes {
            self.sim.bounce(name(node));
        }
        Ok(())
    }

    fn crash(&mut self, node: usize) {
        self.doors.close(node);
        self.sim.crash(name(node));
    }

    fn drain(&mut self, node: usize, after: Duration) -> Result<(), String> {
        let from = self.sim.elapsed();
        self.doors.ask_to_leave(node);
        self.until("a node did not drain", |world| world.doors.is_gone(node))?;
        let exited = self.sim.elapsed();
        self.record.add(|history| history.drains.push(Drained { node, from, exited }));
        self.restart(&[node], after)
    }

    /// The network around one node, or between two.
    fn disturb(&mut self, fault: Fault, nodes: &[usize], way: bool, lasts: Duration) -> Result<(), String> {
        let one = nodes[0];
        let others: Vec<usize> = match nodes.get(1) {
            Some(other) => vec![*other],
            None => (0..NODES).filter(|node| *node != one).collect(),
        };
        let ways = others.iter().flat_map(|other| [(one, *other), (*other, one)]);
        // One way only, of all to it or of all from it.
        let ways: Vec<_> = ways.filter(|(from, _)| fault != Fault::OneWay || (*from == one) == way).collect();
        let end = self.sim.elapsed() + lasts;
        while self.sim.elapsed() < end {
            let rest = end - self.sim.elapsed();
            for (from, to) in &ways {
                self.set_way(fault, *from, *to, true);
            }
            self.pass(if fault == Fault::Flap { FLAPS.min(rest) } else { rest })?;
            for (from, to) in &ways {
                self.set_way(fault, *from, *to, false);
            }
            if fault == Fault::Flap {
                self.pass(FLAPS)?;
            }
        }
        Ok(())
    }

    fn set_way(&mut self, fault: Fault, from: usize, to: usize, hurt: bool) {
        let ends = (self.sim.lookup(name(from)), self.sim.lookup(name(to)));
        match (fault, hurt) {
            (Fault::Slow, true) => self.sim.set_link_max_message_latency(name(from), name(to), SLOW),
            (Fault::Slow, false) => self.sim.set_link_max_message_latency(name(from), name(to), LATENCY),
            (_, true) => gates::close(ends.0, ends.1),
            (_, false) => gates::open(ends.0, ends.1),
        }
    }

    fn judge(&mut self) -> Outcome {
        let mut history = self.record.take();
        let logs: Vec<Vec<roster::Event>> = (0..NODES).map(|node| self.events(node)).collect();
        history.logs = logs.iter().map(|log| log.iter().map(|event| (event.seq, hash(event))).collect()).collect();
        history.events = logs[0].iter().map(told).collect();
        for group in 0..=1 {
            let states: Vec<u64> = (0..NODES).map(|node| self.state(node, group)).collect();
            if states.iter().any(|state| *state != states[0]) {
                history.findings.push(format!("P5: the nodes have different states of group {group}"));
            }
        }
        let acknowledged = |queues: &Queues| queues.sent.0.values().flatten().flatten().count();
        Outcome {
            verdicts: check::all(&history),
            digest: digest(&history),
            faults: history.spans.iter().map(|span| span.fault).collect(),
            events: history.events.len(),
            acknowledged: history.queues.as_ref().map_or(0, acknowledged),
            took: self.sim.elapsed(),
        }
    }

    fn events(&self, node: usize) -> Vec<roster::Event> {
        let Some(broker) = self.doors.broker(node) else { return Vec::new() };
        let read = broker.cluster().events().read(0, usize::MAX);
        read.map_or(Vec::new(), |records| records.iter().map(|record| record.event.clone()).collect())
    }

    fn state(&self, node: usize, group: u32) -> u64 {
        let mut outline = Vec::new();
        let broker = self.doors.broker(node);
        drop(broker.and_then(|broker| broker.cluster().outline(group, &mut outline)));
        let mut hasher = DefaultHasher::new();
        outline.hash(&mut hasher);
        hasher.finish()
    }

    fn close(&mut self) {
        for node in 0..NODES {
            self.crash(node);
        }
    }
}

/// All kinds of clients until each has finished.
async fn everybody(scene: Scene, seed: u64, left: Arc<AtomicUsize>) -> turmoil::Result {
    let mut tasks = tokio::task::JoinSet::new();
    let mut number = seed.wrapping_mul(1_000);
    macro_rules! client {
        ($work:expr) => {{
            number = number.wrapping_add(1);
            let (left, work) = (left.clone(), $work);
            left.fetch_add(1, Ordering::Relaxed);
            tasks.spawn_local(async move {
                work.await;
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }};
    }
    let (subscribed, heir) = tokio::sync::oneshot::channel();
    client!(clients::hears_wills(scene.clone(), number, subscribed));
    client!(clients::takeovers(scene.clone(), number));
    client!(clients::rounds(scene.clone(), number));
    client!(clients::publishes(scene.clone(), number));
    for _ in 0..3 {
        client!(clients::crowd(scene.clone(), number));
    }
    for subscriber in 0..SUBSCRIBERS {
        client!(clients::receives(scene.clone(), number, subscriber));
    }
    client!(async move {
        if heir.await.is_ok() {
            clients::wills(scene, number).await;
        }
    });
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    Ok(())
}

fn hash(event: &roster::Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

fn told(event: &roster::Event) -> Event {
    let (kind, reason, topic) = match &event.body {
        Some(event::Body::Connected(_)) | None => (Kind::Connected, String::new(), String::new()),
        Some(event::Body::Disconnected(end)) => {
            let reason = end.reason().as_str_name().trim_start_matches("REASON_").to_lowercase();
            (Kind::Disconnected, reason, String::new())
        }
        Some(event::Body::Subscribed(it)) => (Kind::Subscribed, String::new(), it.filter.clone()),
        Some(event::Body::Unsubscribed(it)) => (Kind::Unsubscribed, String::new(), it.filter.clone()),
    };
    let (client, peer) = (event.client_id.clone(), event.peername.clone());
    Event { seq: event.seq, kind, client, epoch: event.epoch, reason, peer, topic }
}

/// Of all that is in it, times included.
fn digest(history: &History) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{history:?}").hash(&mut hasher);
    hasher.finish()
}
