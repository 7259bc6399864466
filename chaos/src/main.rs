//! Chaos: starts a cluster, lets clients work on it while it is hurt, heals it, and checks what Rollcall promises. It
//! speaks to the cluster as anybody would: with MQTT clients that share no code with the broker, by HTTP, by signals.
//! Exits with 0 only if every promise held.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rollcall_chaos::{durable, failover, mass, rolling, run};

#[derive(Debug, Parser)]
#[command(about = "Breaks a cluster for a while and checks its promises afterwards.")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything at once: all kinds of clients, all kinds of faults, all promises.
    Run(run::Arguments),
    /// Persistent sessions: whether every acknowledged QoS 1 and 2 message comes, in order, and at QoS 2 once.
    Durable(durable::Arguments),
    /// How soon clients are taken in elsewhere when the leader dies, measured many times.
    Failover(failover::Arguments),
    /// Node after node is restarted below thousands of clients: nothing is lost, and all of them are told.
    Rolling(rolling::Arguments),
    /// Thousands of clients die, together with their node and without it: every end is told once, and nobody else waits.
    Mass(mass::Arguments),
    /// The clients of `mass`, as a process of their own that can be killed.
    #[command(hide = true)]
    MassClients(mass::clients::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.what {
        What::Run(arguments) => run::run(arguments).await,
        What::Durable(arguments) => durable::run(arguments).await,
        What::Failover(arguments) => failover::run(arguments).await,
        What::Rolling(arguments) => rolling::run(arguments).await,
        What::Mass(arguments) => mass::run(arguments).await,
        What::MassClients(arguments) => mass::clients::run(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            eprintln!("chaos: BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}
