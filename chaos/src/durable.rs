//! The durable run (P4, P8): clients with persistent sessions publish and subscribe at QoS 1 and 2 while nodes die, and
//! in the end each subscriber must have received all that was acknowledged to a publisher: at QoS 1 at least once, at
//! QoS 2 exactly once, each stream in its order.

pub mod check;
pub mod crew;
mod dial;
mod fault;
mod inbox;
mod outbox;
pub mod plan;
mod publisher;
mod subscriber;
pub mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::cluster::{Cluster, Disks, Setup};
use crate::durable::crew::{Crew, History};
use crate::durable::fault::{Done, Fault, Faults};
use crate::durable::plan::Plan;
use crate::durable::tally::Tally;
use crate::gather::same_state_everywhere;

/// A full inbox may drop messages, by its policy. These are large enough that this cannot explain a loss.
const SETTINGS: [&str; 2] = ["inbox.max_messages=1000000", "inbox.max_bytes=1GiB"];
const TELL: Duration = Duration::from_secs(5);

/// What clients do at one time of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Publishers publish; subscribers come and go.
    Work,
    /// Publishers wait for their last acknowledgements.
    Finish,
    /// All subscribers are there and receive what is left.
    Drain,
    Over,
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program to start the nodes with.
    #[arg(long, default_value = "target/debug/rollcall")]
    rollcall: PathBuf,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// For how long clients publish and nodes die, in seconds.
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What happens to single nodes, or in a larger cluster now and then to a larger minority, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Fault::Kill])]
    faults: Vec<Fault>,
    /// How many times all nodes are killed at once, beside the other faults.
    #[arg(long, default_value_t = 0, value_name = "TIMES")]
    all_at_once: u32,
    /// Killed nodes lose what they had not synced. Needs a C compiler.
    #[arg(long)]
    power_cuts: bool,
    /// Killed nodes lose all they ever wrote, as on disks that do not sync although they say so: shows that a run can
    /// fail. A single node that has forgotten who it was does not come back: use it with `--faults pause`.
    #[arg(long, conflicts_with = "power_cuts")]
    ignore_syncs: bool,
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..=10_000))]
    subscribers: u16,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    publishers: u16,
    /// Topics of each publisher.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    topics: u16,
    /// Messages per second, of all publishers together.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Messages that each publisher has in flight, at most.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    in_flight: u16,
    /// Chooses the faults and what each client does; who is faster than whom stays open.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the nodes' folders and logs.
    #[arg(long)]
    keep: bool,
    /// A setting for every node.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// MQTT ports on 127.0.0.1 of brokers that run already and are left alone: nothing but the clients' own breaks. Their
    /// sessions stay in the broker.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["faults", "all_at_once", "power_cuts", "ignore_syncs", "settings", "keep"])]
    ports: Vec<u16>,
}

/// # Errors
/// A promise that was broken, or a run that says nothing.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("chaos: seed {seed}, {} s", arguments.seconds);
    let mut rng = SmallRng::seed_from_u64(seed);
    if !arguments.ports.is_empty() {
        return attempt(arguments, None, &Arc::from(arguments.ports.as_slice()), &mut rng).await;
    }
    // What was asked for by name comes last and wins.
    let settings: Vec<String> = SETTINGS.map(String::from).into_iter().chain(arguments.settings.clone()).collect();
    let disks = match arguments {
        Arguments { ignore_syncs: true, .. } => Disks::NeverSync,
        Arguments { power_cuts: true, .. } => Disks::LosePower,
        Arguments { .. } => Disks::Kept,
    };
    let (rollcall, size) = (&*arguments.rollcall, arguments.nodes.into());
    let mut cluster = Cluster::start(&Setup {
        rollcall,
        size,
        settings: &settings,
        disks,
        net: false,
        clocks: false,
        guest: false,
        keep: arguments.keep,
    })
    .await?;
    let ports = cluster.mqtt_ports();
    let verdict = attempt(arguments, Some(&mut cluster), &ports, &mut rng).await;
    if disks != Disks::Kept {
        let lost = cluster.lost();
        println!("chaos: power cuts took {} writes and {} changes of names", lost.writes, lost.names);
    }
    if verdict.is_err() {
        cluster.print_logs();
    }
    verdict
}

async fn attempt(
    arguments: &Arguments,
    mut cluster: Option<&mut Cluster>,
    ports: &Arc<[u16]>,
    rng: &mut SmallRng,
) -> Result<(), String> {
    let plan = Arc::new(Plan {
        root: format!("durable-{:08x}", rand::random::<u32>()),
        publishers: arguments.publishers,
        topics: arguments.topics,
        subscribers: arguments.subscribers.into(),
    });
    let tally = Arc::new(Tally::default());
    let started = Instant::now();
    let mut crew = Crew::new(&plan, ports, &tally, rng);
    crew.introduce().await?;
    println!("chaos: {} subscribers after {:.1} s", plan.subscribers, started.elapsed().as_secs_f32());

    let time = Duration::from_secs(arguments.seconds);
    let started = Instant::now();
    crew.start(arguments.rate.into(), arguments.in_flight.into(), rng);
    let teller = Arc::clone(&tally);
    let progress = tokio::spawn(async move { teller.tell(TELL).await });
    let faults = Faults { kinds: &arguments.faults, time, all: arguments.all_at_once };
    let done = match &mut cluster {
        None => {
            tokio::time::sleep(time).await;
            Ok(Done::default())
        }
        Some(cluster) => faults.inject(cluster, rng).await,
    };
    // A cluster that did not heal has lost already; its clients would wait in vain.
    let done = done?;
    let worked = started.elapsed();
    let history = crew.finish().await?;
    progress.abort();
    tell(&history, &done, worked);
    let alike = match &cluster {
        None => Ok(0),
        Some(cluster) => same_state_everywhere(cluster).await,
    };
    if let Ok(groups) = &alike {
        println!("chaos: {groups} groups, each the same on all its members");
    }
    let nothing_done = cluster.is_some() && done.total() == 0;
    let verdicts = [
        history.judgement.verdict(),
        tally.verdict(),
        history.complete(),
        enough(arguments, &history),
        alike.map(drop),
        if nothing_done { Err("no fault was injected".into()) } else { Ok(()) },
    ];
    let broken: Vec<String> = verdicts.into_iter().filter_map(Result::err).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
}

fn tell(history: &History, done: &Done, worked: Duration) {
    let judgement = &history.judgement;
    println!("chaos: {done}");
    println!(
        "chaos: {} messages acknowledged ({:.0}/s), {} not; the slowest after {:.1} s",
        judgement.acknowledged,
        judgement.acknowledged as f64 / worked.as_secs_f64(),
        history.unacknowledged,
        history.longest.as_secs_f64()
    );
    println!(
        "chaos: {} deliveries owed, {} came, {} of them QoS 1 duplicates; drained in {:.1} s",
        judgement.owed,
        judgement.delivered,
        judgement.duplicates,
        history.drained.as_secs_f64()
    );
    println!(
        "chaos: {} lost, {} repeated at QoS 2, {} out of order, {} that nobody sent there",
        judgement.lost.count, judgement.repeated.count, judgement.reordered.count, judgement.ghosts.count
    );
}

/// A tenth of what was to be published comes through even when faults take half of the time.
fn enough(arguments: &Arguments, history: &History) -> Result<(), String> {
    let floor = u64::from(arguments.rate) * arguments.seconds / 10;
    match history.judgement.acknowledged {
        some if some >= floor => Ok(()),
        few => Err(format!("only {few} messages were acknowledged; less than {floor} say nothing")),
    }
}
