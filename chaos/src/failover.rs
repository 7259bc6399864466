//! How soon clients are taken in elsewhere when the node that led the cluster dies, and how soon a node that was cut off
//! serves again: each measured many times.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::net::Condition;
use clap::Args;

use crate::client::Client;
use crate::cluster::{Cluster, Disks, Setup};
use crate::run::{percentile, shown};

/// A client that is refused tries again after this.
const AGAIN: Duration = Duration::from_millis(10);
/// Longer than a node may be silent before it is declared down.
const CUT_OFF: Duration = Duration::from_secs(12);
/// After which a cluster counts as broken.
const NEVER: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The program to start the nodes with.
    #[arg(long, env = "ROLLCALL_BIN", default_value = "target/debug/rollcall")]
    rollcall: PathBuf,
    /// Deaths of the leader.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    times: u16,
    /// Times the leader is cut off until it has been declared down.
    #[arg(long, default_value_t = 5)]
    partitions: u16,
    /// Seconds within which 99 % of the clients must be taken in.
    #[arg(long, default_value_t = 2.0)]
    most: f64,
}

/// # Errors
/// A cluster that does not recover, or not soon enough.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    let setup = Setup {
        rollcall: &arguments.rollcall,
        size: 3,
        settings: &[],
        disks: Disks::Kept,
        net: true,
        clocks: false,
        guest: false,
        keep: false,
    };
    let mut cluster = Cluster::start(&setup).await?;
    let mut taken_in = Vec::new();
    for round in 0..arguments.times {
        taken_in.push(kill_leader(&mut cluster, round).await?);
        eprintln!("failover: {} of {}: {:.2?}", round + 1, arguments.times, taken_in[usize::from(round)]);
    }
    let mut healed = Vec::new();
    for round in 0..arguments.partitions {
        healed.push(cut_off_leader(&mut cluster).await?);
        eprintln!("failover: partition {} of {}: {:.2?}", round + 1, arguments.partitions, healed[usize::from(round)]);
    }
    tell("the leader is killed, a client of it is taken in elsewhere", &taken_in);
    tell("a partition heals, the node that was cut off serves again", &healed);
    match percentile(&taken_in, 0.99) {
        Some(slow) if slow.as_secs_f64() > arguments.most => {
            Err(format!("99 % of the clients must be taken in within {} s", arguments.most))
        }
        Some(_) | None => Ok(()),
    }
}

fn tell(what: &str, values: &[Duration]) {
    let [middle, slow, longest] = shown(values);
    println!("{what}, {} times: p50 {middle}, p99 {slow}, longest {longest}", values.len());
}

async fn leader(cluster: &Cluster) -> Result<usize, String> {
    cluster.leader().await?.ok_or_else(|| "the cluster has no leader".to_owned())
}

async fn kill_leader(cluster: &mut Cluster, round: u16) -> Result<Duration, String> {
    let victim = leader(cluster).await?;
    let (ports, client_id) = (cluster.mqtt_ports(), format!("device-{round}"));
    let client = Client::connect(&client_id, ports[victim]).await.map_err(|lost| format!("{lost:?}"))?;
    let others: Vec<u16> = (0..cluster.size()).filter(|node| *node != victim).map(|node| ports[node]).collect();
    cluster.kill(victim)?;
    let killed = Instant::now();
    drop(client);
    let mut turn = usize::from(round);
    let back = loop {
        match Client::connect(&client_id, others[turn % others.len()]).await {
            Ok(client) => break client,
            Err(lost) if killed.elapsed() > NEVER => return Err(format!("nobody takes the client in: {lost:?}")),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
        turn += 1;
    };
    let took = killed.elapsed();
    back.leave().await;
    cluster.spawn(victim)?;
    cluster.all_ready().await?;
    Ok(took)
}

async fn cut_off_leader(cluster: &mut Cluster) -> Result<Duration, String> {
    let victim = leader(cluster).await?;
    let net = cluster.net().ok_or("this cluster's network cannot be cut")?;
    net.set_around(victim, Condition::CUT);
    tokio::time::sleep(CUT_OFF).await;
    net.heal();
    let healed = Instant::now();
    cluster.all_ready().await?;
    Ok(healed.elapsed())
}
