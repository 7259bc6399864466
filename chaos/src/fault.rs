//! One fault after the other: never two nodes at once, so that the cluster keeps its quorum.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;

use crate::cluster::Cluster;

/// Milliseconds between the healing of one fault and the next.
const QUIET_MS: std::ops::Range<u64> = 500..2_500;
/// Milliseconds that a killed node stays away.
const AWAY_MS: std::ops::Range<u64> = 200..4_000;
/// Milliseconds of a pause, shorter than a node's lease.
const PAUSE_MS: std::ops::Range<u64> = 300..5_000;
/// Milliseconds of a pause after which the node has been declared down and has to fence itself.
const LONG_PAUSE_MS: std::ops::Range<u64> = 8_000..20_000;

/// Injects faults until the time is over; at the end every node runs.
///
/// # Errors
/// A node that ended unasked.
pub async fn inject(cluster: &mut Cluster, until: Instant, long: bool, rng: &mut SmallRng) -> Result<(), String> {
    let (mut kills, mut pauses) = (0, 0);
    let started = Instant::now();
    while Instant::now() < until {
        sleep_ms(rng.random_range(QUIET_MS)).await;
        for index in 0..cluster.size() {
            cluster.still_runs(index)?;
        }
        let victim = rng.random_range(0..cluster.size());
        let at = started.elapsed().as_secs_f32();
        if rng.random_bool(0.5) {
            let away = rng.random_range(AWAY_MS);
            println!("chaos: {at:5.1} s  kill -9 node-{victim}, away for {away} ms");
            cluster.kill(victim)?;
            sleep_ms(away).await;
            cluster.spawn(victim)?;
            kills += 1;
        } else {
            let range = if long && rng.random_bool(0.3) { LONG_PAUSE_MS } else { PAUSE_MS };
            let time = rng.random_range(range);
            println!("chaos: {at:5.1} s  SIGSTOP node-{victim} for {time} ms");
            cluster.pause(victim)?;
            sleep_ms(time).await;
            cluster.resume(victim)?;
            pauses += 1;
        }
        // A second node may only be hurt when the first has caught up.
        cluster.all_ready().await?;
    }
    println!("chaos: {kills} kills, {pauses} pauses");
    if kills + pauses == 0 { Err("no fault was injected".into()) } else { Ok(()) }
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
