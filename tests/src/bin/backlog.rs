//! A million messages for a thousand sessions that are away: what they take of memory and disk, and whether all of them
//! come. Exits with 0 only if they do and a node stays within its bounds.
//!
//! `cargo run --release -p rollcall-tests --bin backlog`

use std::process::ExitCode;

use clap::Parser;
use rollcall_tests::backlog::Backlog;

#[derive(Debug, Parser)]
#[command(about = "Queues messages for absent sessions and drains them; says what that takes.")]
struct Arguments {
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    #[arg(long, default_value_t = 1_000)]
    sessions: u32,
    /// For each session.
    #[arg(long, default_value_t = 1_000)]
    messages: u32,
    /// Bytes of one message.
    #[arg(long, default_value_t = 256)]
    payload: usize,
    /// MiB of messages that a node keeps in memory.
    #[arg(long, default_value_t = 64)]
    inbox_memory: u64,
    /// MiB that a node may take at most.
    #[arg(long, default_value_t = 1_024)]
    most_memory: u64,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments { nodes, sessions, messages, payload, inbox_memory, most_memory } = Arguments::parse();
    let backlog = Backlog { nodes, sessions, messages, payload, inbox_memory: inbox_memory << 20 };
    let report = backlog.run(|news| eprintln!("{news}")).await;
    print!("{report}");
    if report.memory > most_memory << 20 {
        eprintln!("a node took more than {most_memory} MiB");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
