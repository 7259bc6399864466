//! What messages for persistent sessions cost at QoS 1: Rollcall on one node and over three, beside NATS' MQTT and
//! RabbitMQ's on as many, and mosquitto, in one run on one machine. CPU time is that of the broker's processes alone. Each
//! broker as it is out of the box, but for the bounds of its queues and windows: what its PUBACK promises differs, and is
//! printed.
//!
//! `cargo run --release -p rollcall-tests --bin bench-durable`; wants the Debian packages mosquitto, nats-server and
//! rabbitmq-server.

mod disk;
mod packets;
mod publisher;
mod subscriber;
mod table;

use clap::{Parser, ValueEnum};
use rollcall_proto::packet::QoS;
use rollcall_tests::bench::{Broker, Figure};
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::latency::Latencies;
use tokio::task::JoinSet;

use publisher::Publisher;
use subscriber::Subscriber;
use table::{Row, Table};

#[derive(Debug, Parser)]
#[command(about = "What messages for persistent sessions cost at QoS 1, beside NATS, RabbitMQ and mosquitto.")]
struct Arguments {
    /// Messages published one at a time.
    #[arg(long, default_value_t = 500)]
    singles: usize,
    /// Messages of each of the 20 publishers, 50 of them on their way at once.
    #[arg(long, default_value_t = 2_500)]
    messages: usize,
    /// These brokers alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Who>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Mosquitto,
    Nats,
    Rabbitmq,
    Rollcall,
}

/// Publishers, and sessions: each publisher has one that it publishes to, on another node.
const PAIRS: usize = 20;
/// Messages of each publisher, and to each subscriber, on their way at once.
const IN_FLIGHT: u16 = 50;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    let mut table = Table::new(disk::sync_time());
    for (who, nodes) in [
        (Who::Rollcall, 1),
        (Who::Nats, 1),
        (Who::Rabbitmq, 1),
        (Who::Mosquitto, 1),
        (Who::Rollcall, 3),
        (Who::Nats, 3),
        (Who::Rabbitmq, 3),
    ] {
        if arguments.only.is_empty() || arguments.only.contains(&who) {
            let broker = start(who, nodes).await;
            eprintln!("measuring {} …", broker.name);
            table.add(measure(&broker, &arguments).await);
        }
    }
    println!("{table}");
}

async fn start(who: Who, nodes: u16) -> Broker {
    let window = format!("max_inflight_messages {IN_FLIGHT}");
    match who {
        Who::Mosquitto => Broker::mosquitto(&["persistence true", &window]).await,
        Who::Nats => Broker::nats(nodes, IN_FLIGHT).await,
        Who::Rabbitmq => Broker::rabbitmq(nodes, IN_FLIGHT).await,
        Who::Rollcall => Broker::rollcall(nodes, &["inbox.max_messages=1000000", "inbox.max_bytes=1GiB"]).await,
    }
}

/// The broker stops when this is done.
async fn measure(broker: &Broker, arguments: &Arguments) -> Row {
    let total = PAIRS * arguments.messages;
    for pair in 0..PAIRS {
        let mut client = RawClient::connect(broker.node(pair + 1), &session(pair)).await;
        client.subscribe(&packets::topic(pair), QoS::AtLeastOnce).await;
        client.disconnect().await;
    }
    let mut publishers = Vec::new();
    for pair in 0..PAIRS {
        publishers.push(Publisher::connect(broker, pair).await);
    }
    // One for warmth.
    publishers[0].publish(1, 1).await;
    let mut latencies = Latencies::default();
    let work = publishers[0].one_at_a_time(arguments.singles, &mut latencies);
    let (one_at_a_time, ()) = Figure::of(broker, arguments.singles, work).await;
    let (publishing, publishers) = Figure::of(broker, total, publish(publishers, arguments.messages)).await;
    let waiting = total + arguments.singles + 1;
    let (draining, subscribers) = Figure::of(broker, waiting, drain(broker, &publishers)).await;
    let live = async { tokio::join!(publish(publishers, arguments.messages), take(subscribers, arguments.messages)) };
    let (live, _) = Figure::of(broker, total, live).await;
    Row { broker: broker.name.clone(), nodes: broker.nodes, latencies, one_at_a_time, publishing, draining, live }
}

fn session(pair: usize) -> Options {
    Options::v311(format!("subscriber-{pair:02}")).persistent()
}

/// So many more by each.
async fn publish(publishers: Vec<Publisher>, messages: usize) -> Vec<Publisher> {
    let mut publishing = JoinSet::new();
    for mut publisher in publishers {
        publishing.spawn(async move {
            publisher.publish(messages, IN_FLIGHT.into()).await;
            publisher
        });
    }
    publishing.join_all().await
}

/// All sessions come back at once and take what waits for them; they stay.
async fn drain(broker: &Broker, publishers: &[Publisher]) -> Vec<Subscriber> {
    let mut draining = JoinSet::new();
    for publisher in publishers {
        let (pair, waiting) = (publisher.pair, publisher.published());
        let node = broker.node(pair + 2);
        draining.spawn(async move {
            let mut subscriber = Subscriber::resume(node, &session(pair)).await;
            subscriber.take(waiting).await;
            subscriber
        });
    }
    draining.join_all().await
}

async fn take(subscribers: Vec<Subscriber>, messages: usize) {
    let mut taking = JoinSet::new();
    for mut subscriber in subscribers {
        taking.spawn(async move { subscriber.take(messages).await });
    }
    taking.join_all().await;
}
