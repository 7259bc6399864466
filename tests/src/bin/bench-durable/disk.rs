//! The floor below every promise that says "on disk".

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rollcall_tests::latency::Latencies;

const ROUNDS: usize = 200;
/// Bytes.
const WRITTEN: usize = 512;

/// How long the disk takes for a small write and its `fdatasync`, as a rule.
pub fn sync_time() -> Duration {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = File::create(folder.path().join("probe")).expect("a file");
    let mut rounds = Latencies::default();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        file.write_all(&[0; WRITTEN]).expect("the disk takes it");
        file.sync_data().expect("the disk syncs");
        rounds.add(started.elapsed());
    }
    rounds.quantile(0.5)
}
