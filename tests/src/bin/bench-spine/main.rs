//! What connects and QoS 0 messages cost: Rollcall on one node and over three, beside mosquitto, in one run on one
//! machine. CPU time is that of the broker's processes alone; the clients' is not counted.
//!
//! `cargo run --release -p rollcall-tests --bin bench-spine`

mod connects;
mod messages;
mod table;

use std::time::Duration;

use clap::Parser;
use rollcall_tests::bench::Broker;

use messages::{Shape, measure};
use table::Table;

#[derive(Debug, Parser)]
#[command(about = "What connects and QoS 0 messages cost, beside mosquitto.")]
struct Arguments {
    /// Seconds for each figure.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
}

/// Who publishes to whom, and how many messages are on their way at once.
const SHAPES: [Shape; 4] = [
    Shape { name: "1 to 1, one at a time", publishers: 1, subscribers: 1, burst: 1 },
    Shape { name: "1 to 1, bursts of 200", publishers: 1, subscribers: 1, burst: 200 },
    Shape { name: "10 to 1, bursts of 20 each", publishers: 10, subscribers: 1, burst: 20 },
    Shape { name: "1 to 100, bursts of 20", publishers: 1, subscribers: 100, burst: 20 },
];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let time = Duration::from_secs(Arguments::parse().seconds);
    let mut table = Table::default();
    measure_all(Broker::mosquitto(&[]).await, time, &mut table).await;
    measure_all(Broker::rollcall(1, &[]).await, time, &mut table).await;
    measure_all(Broker::rollcall(3, &[]).await, time, &mut table).await;
    println!("{table}");
}

/// The broker stops before the next is started.
async fn measure_all(broker: Broker, time: Duration, table: &mut Table) {
    eprintln!("measuring {} …", broker.name);
    let (connecting, cycle) = connects::measure(&broker, time).await;
    table.add("connect", &broker.name, connecting);
    table.add("connect and disconnect", &broker.name, cycle);
    for shape in &SHAPES {
        table.add(shape.name, &broker.name, measure(&broker, shape, time).await);
    }
}
