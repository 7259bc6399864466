//! Against a broker: connections that break the rules in every way, while a client that keeps them is served as ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng as _};
use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::footprint::memory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::mutate::{connect, encoded, mutate, packet, version};

/// Connections at one moment.
const AT_ONCE: u64 = 16;
/// What a connection may have to say is waited for so long.
const LISTENING: Duration = Duration::from_millis(50);
/// Between two looks at the broker.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes that the broker may take more than when all had warmed up: sessions and retained messages of mutated names stay.
const GROWTH: u64 = 256 << 20;
/// How much of the time everything may take to warm up.
const WARM: f64 = 0.25;

pub async fn run(time: Duration, seed: u64) -> Result<String, String> {
    let mut cluster = TestCluster::start_with(1, &["inbox.max_messages=100", "session.connect_timeout=1s"]).await;
    let address = cluster.nodes[0].mqtt();
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut attacks = JoinSet::new();
    for number in 0..AT_ONCE {
        let (over, count) = (over.clone(), count.clone());
        attacks.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(number));
            while !over.load(Ordering::Relaxed) {
                attack(address, &mut rng).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let judged = watch(&mut cluster, time).await;
    over.store(true, Ordering::Relaxed);
    attacks.join_all().await;
    let (slowest, growth) = judged?;
    let connections = count.load(Ordering::Relaxed);
    Ok(format!(
        "{connections} connections; slowest round trip of another client {slowest:.1?}; {} KiB more",
        growth >> 10
    ))
}

/// One connection. Whatever becomes of it is right, as long as the broker goes on.
async fn attack(address: SocketAddr, rng: &mut SmallRng) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return sleep(LISTENING).await };
    let version = version(rng);
    let mut bytes = encoded(&connect(version, rng), version);
    if rng.random_bool(0.2) {
        mutate(&mut bytes, rng);
    }
    for _ in 0..rng.random_range(0..20) {
        let mut packet = encoded(&packet(version, rng), version);
        if rng.random_bool(0.2) {
            mutate(&mut packet, rng);
        }
        bytes.extend(packet);
    }
    let cut = rng.random_range(0..=bytes.len());
    for part in [&bytes[..cut], &bytes[cut..]] {
        // The broker may have hung up already.
        if stream.write_all(part).await.is_err() {
            return;
        }
        let mut answer = [0; 1024];
        let _ = timeout(LISTENING, stream.read(&mut answer)).await;
    }
}

/// A client that keeps the rules; its slowest round trip, and what the broker took more at the end.
async fn watch(cluster: &mut TestCluster, time: Duration) -> Result<(Duration, u64), String> {
    let address = cluster.nodes[0].mqtt();
    let pid = cluster.nodes[0].pid();
    let mut client = RawClient::connect(address, &Options::v5("keeps-the-rules")).await;
    client.subscribe("kept/by/one", QoS::AtLeastOnce).await;
    let started = Instant::now();
    let (mut slowest, mut warm) = (Duration::ZERO, None);
    while started.elapsed() < time {
        sleep(LOOK).await;
        cluster.nodes[0].assert_alive();
        let began = Instant::now();
        client.publish("kept/by/one", b"still here", QoS::AtLeastOnce).await;
        client.message(SOON).await;
        slowest = slowest.max(began.elapsed());
        if warm.is_none() && started.elapsed() >= time.mul_f64(WARM) {
            warm = Some(memory(pid));
        }
    }
    let errors = cluster.nodes[0].log_lines("\"level\":\"ERROR\"");
    if let Some(first) = errors.first() {
        return Err(format!("{} errors in the broker's log, the first: {first}", errors.len()));
    }
    let growth = memory(pid).saturating_sub(warm.unwrap_or_default());
    if growth > GROWTH {
        return Err(format!("the broker takes {} MiB more than when it was warm", growth >> 20));
    }
    Ok((slowest, growth))
}
