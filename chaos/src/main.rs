//! Chaos: starts a cluster, lets clients work on it while nodes are killed and paused, heals it, and checks what Rollcall
//! promises. It speaks to the cluster as anybody would: with MQTT clients that share no code with the broker, by HTTP, by
//! signals. Exits with 0 only if every promise held.

mod barrier;
mod check;
mod client;
mod cluster;
mod durable;
mod fault;
mod owners;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::barrier::Barrier;
use crate::cluster::{Cluster, Disks, Setup};
use crate::owners::Owners;

/// The default run's cluster: whatever else differs, two of three must go on.
const NODES: usize = 3;

#[derive(Debug, Parser)]
#[command(
    about = "Breaks a cluster for a while and checks its promises afterwards.",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    run: Option<Run>,
    #[command(flatten)]
    default: Arguments,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Persistent sessions: whether every acknowledged QoS 1 and 2 message comes, in order, and at QoS 2 once.
    Durable(durable::Arguments),
}

#[derive(Debug, Args)]
struct Arguments {
    /// The program to start the nodes with.
    #[arg(long, default_value = "target/debug/rollcall")]
    rollcall: PathBuf,
    /// For how long faults are injected, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Chooses the faults; the clients' timing stays what it is.
    #[arg(long)]
    seed: Option<u64>,
    /// Pauses may last longer than the time after which a node counts as down.
    #[arg(long)]
    long_pauses: bool,
    /// Keep the nodes' folders and logs.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.run {
        None => run(&cli.default).await,
        Some(Run::Durable(arguments)) => durable::run(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            eprintln!("chaos: BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("chaos: seed {seed}, {} s of faults", arguments.seconds);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (rollcall, disks) = (&*arguments.rollcall, Disks::Kept);
    let setup = Setup { rollcall, size: NODES, settings: &[], disks, keep: arguments.keep };
    let mut cluster = Cluster::start(&setup).await?;

    let nodes = cluster.mqtt_ports();
    let owners = Owners::start(&nodes);
    let barrier = Barrier::start(&nodes, cluster.faults());
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let outcome = fault::inject(&mut cluster, until, arguments.long_pauses, &mut rng).await;
    let healed = cluster.all_ready().await;
    let owned = owners.stop().await;
    let rounds = barrier.stop().await;
    let verdict = async {
        outcome?;
        healed?;
        rounds?.report()?;
        let events = check::same_log_everywhere(&cluster).await?;
        check::one_owner(&events)?;
        check::as_clients_saw(&events, &owned)?;
        check::same_state_everywhere(&cluster).await?;
        println!(
            "chaos: {} events, gap-free and alike on all nodes; {} connections accepted",
            events.len(),
            owned.total()
        );
        Ok(())
    }
    .await;
    if verdict.is_err() {
        cluster.print_logs();
    }
    verdict
}
