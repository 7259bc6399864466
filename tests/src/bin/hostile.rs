//! A crowd that does nothing and another that means harm, and what a client between them feels of it: its time from
//! publish to receive beside the quiet one, and the broker's memory. Exits with 0 only if both stay within their bounds.
//!
//! `cargo run --release -p rollcall-tests --bin hostile`; wants twice as many file descriptors as clients (`ulimit -n`).

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng as _};
use rollcall_proto::packet::{QoS, SubscribeOptions};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::footprint::{memory, peak_memory};
use rollcall_tests::latency::Latencies;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[derive(Debug, Parser)]
#[command(about = "What a normal client feels of a crowd of idle and of hostile ones.")]
struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    #[arg(long, default_value_t = 1_000)]
    hostile: usize,
    /// Subscriptions that the idle ones have between them, all different, with wildcards.
    #[arg(long, default_value_t = 1_000_000)]
    filters: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Times the quiet p99 that the p99 may be.
    #[arg(long, default_value_t = 4.0)]
    most_slower: f64,
    /// MiB that the broker may take.
    #[arg(long, default_value_t = 3_072)]
    most_memory: u64,
}

/// Connects under way at one moment.
const AT_ONCE: usize = 64;
/// Between two messages of the normal client.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two acts of a hostile client: about what one device in trouble manages.
const ACT: Duration = Duration::from_millis(200);

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let cluster = TestCluster::start_with(1, &["session.connect_timeout=2s"]).await;
    let (address, pid) = (cluster.nodes[0].mqtt(), cluster.nodes[0].pid());
    let quiet = measure(address, time).await;
    println!("  alone          {quiet}; {} MiB", memory(pid) >> 20);
    let mut idle = connect_idle(address, arguments.idle).await;
    let with_idle = measure(address, time).await;
    println!("{:>7} idle     {with_idle}; {} MiB", idle.len(), memory(pid) >> 20);
    let started = Instant::now();
    let subscribing = tokio::spawn(async move {
        for (number, client) in idle.iter_mut().enumerate() {
            subscribe_widely(client, number, arguments.filters / arguments.idle.max(1)).await;
        }
        (idle, started.elapsed())
    });
    let while_subscribing = measure(address, time).await;
    println!("while they subscribe {while_subscribing}; {} MiB", memory(pid) >> 20);
    let (_idle, took) = subscribing.await.expect("they subscribe");
    let with_filters = measure(address, time).await;
    println!("{:>7} filters  {with_filters}; {} MiB, after {took:.0?}", arguments.filters, memory(pid) >> 20);
    let (over, acts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut crowd = JoinSet::new();
    for number in 0..arguments.hostile {
        let (over, acts) = (over.clone(), acts.clone());
        crowd.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(number as u64);
            while !over.load(Ordering::Relaxed) {
                act(address, number, &mut rng).await;
                acts.fetch_add(1, Ordering::Relaxed);
                sleep(ACT.mul_f64(rng.random_range(0.5..1.5))).await;
            }
        });
    }
    let hostile = measure(address, time).await;
    over.store(true, Ordering::Relaxed);
    crowd.join_all().await;
    let (peak, acts) = (peak_memory(pid) >> 20, acts.load(Ordering::Relaxed));
    println!("{:>7} hostile  {hostile}; {peak} MiB at most; {acts} acts", arguments.hostile);
    let worst = hostile.quantile(0.99).max(with_filters.quantile(0.99));
    let slower = worst.as_secs_f64() / quiet.quantile(0.99).as_secs_f64();
    println!("p99 {slower:.2} times the quiet one");
    if slower > arguments.most_slower || peak > arguments.most_memory {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// From publish to receive, by two clients that keep the rules.
async fn measure(address: SocketAddr, time: Duration) -> Latencies {
    let mut subscriber = RawClient::connect(address, &Options::v5("subscriber")).await;
    subscriber.subscribe("normal/traffic", QoS::AtMostOnce).await;
    let mut publisher = RawClient::connect(address, &Options::v5("publisher")).await;
    let (started, mut latencies) = (Instant::now(), Latencies::default());
    while started.elapsed() < time {
        let sent = Instant::now();
        publisher.publish("normal/traffic", &[b'x'; 64], QoS::AtMostOnce).await;
        subscriber.message(SOON).await;
        latencies.add(sent.elapsed());
        sleep(PAUSE).await;
    }
    latencies
}

async fn connect_idle(address: SocketAddr, count: usize) -> Vec<RawClient> {
    let (mut connecting, mut idle) = (JoinSet::new(), Vec::with_capacity(count));
    for number in 0..count {
        if connecting.len() >= AT_ONCE {
            idle.extend(connecting.join_next().await.map(|client| client.expect("it connects")));
        }
        connecting.spawn(async move {
            let mut client = RawClient::connect(address, &Options::v311(format!("idle-{number}"))).await;
            client.subscribe(&format!("idle/{number}"), QoS::AtLeastOnce).await;
            client
        });
    }
    idle.extend(connecting.join_all().await);
    idle
}

/// So many filters that nobody else has.
async fn subscribe_widely(client: &mut RawClient, number: usize, count: usize) {
    const AT_ONCE: usize = 100;
    let filters: Vec<String> = (0..count).map(|place| format!("idle/{number}/+/{place}/#")).collect();
    for some in filters.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(|filter| (&**filter, SubscribeOptions::default())).collect();
        let suback = client.subscribe_with(&asked, SubscribeProperties::default()).await;
        assert!(suback.reasons.iter().all(|reason| !reason.is_error()), "a subscription is refused");
    }
}

/// One bad thing after the other, each on a connection of its own; whatever becomes of it is right.
async fn act(address: SocketAddr, number: usize, rng: &mut SmallRng) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let client_id = format!("bad-{number}");
    let connect = connect(&client_id);
    match rng.random_range(0..7) {
        // Nothing, or half a CONNECT, and no more: until the broker has had enough.
        0 => wait_for_the_end(&mut stream).await,
        1 => say(&mut stream, &connect[..connect.len() / 2], true).await,
        // Garbage, before and after a CONNECT.
        2 => say(&mut stream, &random(rng, 512), false).await,
        3 => say(&mut stream, &[&connect[..], &random(rng, 2_048)].concat(), false).await,
        // A header that promises 256 MB, and a trickle of it.
        4 => say(&mut stream, &[&connect[..], &[0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b'a']].concat(), false).await,
        // A topic of 10,000 levels, subscribed to.
        5 => say(&mut stream, &[&connect[..], &subscribe(&"a/".repeat(10_000))].concat(), false).await,
        // A thousand pings and a close without a word.
        _ => say(&mut stream, &[&connect[..], &[0xC0, 0].repeat(1_000)].concat(), false).await,
    }
}

/// The broker may have hung up at any moment.
async fn say(stream: &mut TcpStream, bytes: &[u8], wait: bool) {
    if stream.write_all(bytes).await.is_err() {
        return;
    }
    if wait {
        wait_for_the_end(stream).await;
    } else {
        let mut answer = [0; 4_096];
        let _ = timeout(Duration::from_millis(100), stream.read(&mut answer)).await;
    }
}

async fn wait_for_the_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await;
}

fn random(rng: &mut SmallRng, count: usize) -> Vec<u8> {
    (0..count).map(|_| rng.random()).collect()
}

/// 3.1.1, a clean session.
fn connect(client_id: &str) -> Vec<u8> {
    let body = [&[0, 4], &b"MQTT"[..], &[4, 2, 0, 0, 0, client_id.len() as u8], client_id.as_bytes()].concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

fn subscribe(filter: &str) -> Vec<u8> {
    let body = [&[0, 1][..], &(filter.len() as u16).to_be_bytes(), filter.as_bytes(), &[0]].concat();
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128 % 128) as u8 | 0x80, (body.len() / 16_384) as u8];
    [&[0x82], &length[..], &body].concat()
}
