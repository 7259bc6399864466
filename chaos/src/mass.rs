//! Thousands of clients die at once: together with the node that held them, and without it. Every end must be told once, in
//! order, by who is left; no group that was not led there elects anybody; and who connects elsewhere meanwhile feels nothing.

pub mod clients;
mod judge;
mod probe;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::cluster::Cluster;
use crate::gather;
use crate::mass::clients::Clients;
use crate::mass::judge::{Election, End, Groups, elections, ends, groups};
use crate::mass::probe::Probes;
use crate::options::Options;
use crate::run::{percentile, shown};
use crate::sockets;

const SETTINGS: [&str; 1] = ["events.retention=100000000"];
/// Files of a node beside its clients' sockets.
const OTHER_FILES: u64 = 1_000;
/// Before and after a death, so that the probes see both.
const QUIET: Duration = Duration::from_secs(3);
/// From the death to the last event, at most: longer than a node's timeout and the reaping of all it held.
const ALL_OUT: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);
const PAGE: usize = 1_000;

/// Who dies beside the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Death {
    /// Nobody: their node stays.
    Clients,
    /// Their node, with them.
    Node,
}

impl Death {
    fn reason(self) -> &'static str {
        match self {
            Self::Clients => "tcp_closed",
            Self::Node => "server_internal_error",
        }
    }
}

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Clients that die.
    #[arg(long, default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    connections: u32,
    /// Processes that hold them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=50))]
    processes: u8,
    /// What dies, one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Death::Clients, Death::Node])]
    deaths: Vec<Death>,
    /// Milliseconds that a connect at another node may take meanwhile.
    #[arg(long, default_value_t = 200)]
    most_ms: u64,
}

/// # Errors
/// A bound that does not hold.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    sockets::make_room(u64::from(arguments.connections) + OTHER_FILES)?;
    let settings = arguments.options.settings(&SETTINGS);
    let mut cluster = Cluster::start(&arguments.options.setup(&settings)).await?;
    let mut broken = Vec::new();
    for &death in &arguments.deaths {
        match die(&mut cluster, arguments, death).await {
            Ok(violations) => broken.extend(violations),
            Err(error) => broken.push(error),
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    cluster.print_logs();
    cluster.keep_folder();
    Err(broken.join("\n"))
}

/// One death, and what it breaks.
async fn die(cluster: &mut Cluster, arguments: &Arguments, death: Death) -> Result<Vec<String>, String> {
    cluster.all_ready().await?;
    let victim = follower(cluster).await?;
    let others: Vec<usize> = (0..cluster.size()).filter(|&node| node != victim).collect();
    let (prefix, witness) = (format!("{}-", death.reason()), others[0]);
    let started = Instant::now();
    let ports = cluster.mqtt_ports();
    let mut clients = Clients::start(ports[victim], arguments.connections, arguments.processes, &prefix).await?;
    println!("\nmass: {} clients are at node-{victim} after {:.1?}", arguments.connections, started.elapsed());
    let probes = Probes::start(others.iter().map(|&node| (node, ports[node])));
    tokio::time::sleep(QUIET).await;
    let view = cluster.get(witness, "cluster").await?;
    let (before, after) = (groups(&view), view["seq"].as_u64().ok_or("the cluster has no position")?);
    let died = Instant::now();
    // The node first: it must see no client go before it.
    if death == Death::Node {
        cluster.kill(victim)?;
    }
    clients.kill()?;
    println!("mass: killed {}", if death == Death::Node { "node and clients" } else { "the clients" });
    let watched = all_out(cluster, witness, &prefix, after, died, arguments.connections as usize).await?;
    tokio::time::sleep(QUIET).await;
    let taken = probes.finish().await?;
    let held_by = if death == Death::Node { others.clone() } else { vec![victim] };
    let addresses: Vec<String> = held_by.iter().map(|&node| format!("127.0.0.1:{}", ports[node])).collect();
    let mut broken = ends(&watched.events, &prefix, arguments.connections, death.reason(), &addresses);
    broken.extend(alike(cluster, &others, after, &watched.events).await?);
    tell(death, &watched);
    broken.extend(elected(cluster, witness, &before, victim).await?);
    for (node, took) in &taken {
        broken.extend(judge_probe(*node, took, Duration::from_millis(arguments.most_ms)));
    }
    if death == Death::Node {
        cluster.spawn(victim)?;
    }
    Ok(broken)
}

/// A node that does not lead the roster.
async fn follower(cluster: &Cluster) -> Result<usize, String> {
    let leader = cluster.leader().await?.ok_or("the roster has no leader")?;
    (0..cluster.size()).rev().find(|node| *node != leader).ok_or_else(|| "there is no follower".to_owned())
}

struct Watched {
    events: Vec<End>,
    first: Duration,
    last: Duration,
}

/// Reads the log until all ends are in it; the times count from the death, as the reader saw them.
async fn all_out(
    cluster: &Cluster,
    witness: usize,
    prefix: &str,
    mut after: u64,
    died: Instant,
    count: usize,
) -> Result<Watched, String> {
    let (mut events, mut seen, mut first) = (Vec::new(), 0, None);
    while died.elapsed() < ALL_OUT {
        let page = cluster.get(witness, &format!("events?after={after}&limit={PAGE}")).await?;
        let items = page["items"].as_array().ok_or_else(|| format!("no items in {page}"))?;
        let now = died.elapsed();
        for item in items {
            let event = End::read(item)?;
            after = event.seq;
            if event.disconnected && event.client.starts_with(prefix) {
                seen += 1;
                first.get_or_insert(now);
            }
            events.push(event);
        }
        if seen >= count {
            return Ok(Watched { events, first: first.unwrap_or(now), last: now });
        }
        if items.len() < PAGE {
            tokio::time::sleep(LOOK).await;
        }
    }
    Err(format!("{seen} of {count} ends are events {ALL_OUT:?} after the death"))
}

/// The same log at the others.
async fn alike(cluster: &Cluster, others: &[usize], after: u64, events: &[End]) -> Result<Option<String>, String> {
    let mut differs = None;
    for &node in &others[1..] {
        let told = gather::events_after(cluster, node, after).await?;
        if told.len() < events.len() {
            return Ok(Some(format!("node-{node} tells {} of {} events", told.len(), events.len())));
        }
        for (item, expected) in told.iter().zip(events) {
            let event = End::read(item)?;
            if event != *expected {
                differs.get_or_insert_with(|| format!("node-{node} tells {event:?}, not {expected:?}"));
            }
        }
    }
    Ok(differs)
}

fn tell(death: Death, watched: &Watched) {
    let (first, last) = (watched.first.as_secs_f64(), watched.last.as_secs_f64());
    println!("ends told as {}: the first {first:.2} s after the death, the last {last:.2} s after it", death.reason());
}

async fn elected(cluster: &Cluster, witness: usize, before: &Groups, victim: usize) -> Result<Vec<String>, String> {
    let now = groups(&cluster.get(witness, "cluster").await?);
    let Election { orphaned, needless } = elections(before, &now, &format!("node-{victim}"));
    println!(
        "groups: {}, of which {orphaned} were led by node-{victim}; elections of others: {}",
        now.len(),
        needless.len()
    );
    Ok(needless)
}

fn judge_probe(node: usize, took: &[Option<Duration>], most: Duration) -> Option<String> {
    let answered: Vec<Duration> = took.iter().flatten().copied().collect();
    let failed = took.len() - answered.len();
    let (count, [middle, slow, longest]) = (took.len(), shown(&answered));
    println!("connects at node-{node}: {count}, p50 {middle}, p99 {slow}, longest {longest}, {failed} failed");
    let late = percentile(&answered, 1.0).is_none_or(|longest| longest > most);
    (failed > 0 || late)
        .then(|| format!("a connect at node-{node} took {longest} ({failed} failed), {most:?} are allowed"))
}
