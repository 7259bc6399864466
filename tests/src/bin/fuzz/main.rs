//! Bytes that are almost MQTT: against the codec, and against a broker that other clients use meanwhile. Ends with a
//! failure at the first crash, hang, wrong answer or growth, and prints what led to it.
//!
//! `cargo run --release -p rollcall-tests --bin fuzz -- codec|live --seconds 600`

mod codec;
mod live;
mod mutate;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(about = "Bytes that are almost MQTT, against the codec or a live broker.")]
struct Arguments {
    what: What,
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Chooses the bytes; who is faster than whom stays open.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Codec,
    Live,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let time = Duration::from_secs(arguments.seconds);
    eprintln!("fuzz: seed {seed}, {} s", arguments.seconds);
    let outcome = match arguments.what {
        What::Codec => codec::run(time, seed),
        What::Live => live::run(time, seed).await,
    };
    match outcome {
        Ok(report) => {
            println!("fuzz: {report}");
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("fuzz: FOUND {found}");
            ExitCode::FAILURE
        }
    }
}
