//! As many seeds as asked for: 300 in the gate, `ROLLCALL_SEEDS=N` for more, `ROLLCALL_FIRST_SEED=N` for others. Each runs in a process of its own, since the
//! runtime counts in each process what its chance follows from.
//!
//! `ROLLCALL_SEED=N cargo test -p rollcall-cluster one_seed -- --nocapture` replays one, with `RUST_LOG` for what its
//! nodes say.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::run::{Outcome, simulate};

const SEEDS: u64 = 300;
/// Between two words about how far it is.
const TELL: u64 = 1_000;
const ONE: &str = "simulation::tests::one_seed_keeps_every_promise";
/// Before what one simulation came to.
const TOLD: &str = "simulated: ";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What one process told: events, acknowledged messages, virtual milliseconds, and what tells histories apart.
fn in_its_own_process(seed: u64) -> Result<[u64; 4], String> {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    let ran = command.args([ONE, "--exact", "--nocapture"]).env("ROLLCALL_SEED", seed.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let told = said.lines().find_map(|line| line.split_once(TOLD)).map(|(_, told)| told.split_whitespace());
    let numbers: Option<Vec<u64>> = told.and_then(|told| told.map(|word| word.parse().ok()).collect());
    match numbers.as_deref() {
        Some(&[events, acknowledged, ms, digest]) if ran.status.success() => Ok([events, acknowledged, ms, digest]),
        _ => Err(format!("seed {seed}: {said}{}", String::from_utf8_lossy(&ran.stderr))),
    }
}

fn complaints(outcome: &Outcome) -> Vec<String> {
    let broken = outcome.verdicts.iter().filter(|verdict| verdict.broken > 0);
    broken.map(|verdict| format!("{}: {:?}", verdict.promise, verdict.examples)).collect()
}

#[test]
fn one_seed_keeps_every_promise() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have been first.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init());
    let seed = number("ROLLCALL_SEED").unwrap_or_default();
    // On a thread of its own, whose chance is the seed's.
    let outcome = thread::spawn(move || simulate(seed)).join().unwrap().unwrap();
    let Outcome { events, acknowledged, took, digest, .. } = &outcome;
    println!("{TOLD}{events} {acknowledged} {} {digest}", took.as_millis());
    let complaints = complaints(&outcome);
    assert!(complaints.is_empty(), "seed {seed}, faults {:?}: {complaints:#?}", outcome.faults);
    assert!(*events > 0 && *acknowledged > 0, "a simulation in which nothing happens");
}

#[test]
fn every_seed_keeps_every_promise() {
    let (first, seeds) = (number("ROLLCALL_FIRST_SEED").unwrap_or(0), number("ROLLCALL_SEEDS").unwrap_or(SEEDS));
    let (next, complaints, began) = (AtomicU64::new(0), Mutex::new(Vec::new()), Instant::now());
    let sums = Mutex::new([0; 3]);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let done = next.fetch_add(1, Ordering::Relaxed);
                    if done >= seeds {
                        return;
                    }
                    if done > 0 && done.is_multiple_of(TELL) {
                        println!("{done} of {seeds} seeds, {} failed", complaints.lock().len());
                    }
                    let seed = first + done;
                    match in_its_own_process(seed) {
                        Ok(told) => sums.lock().iter_mut().zip(told).for_each(|(sum, told)| *sum += told),
                        Err(complaint) => {
                            eprintln!("{complaint}");
                            complaints.lock().push(seed);
                        }
                    }
                }
            });
        }
    });
    let ([events, acknowledged, ms], complaints) = (sums.into_inner(), complaints.into_inner());
    println!(
        "{seeds} seeds in {:.1} s: {} s of clusters, {events} events, {acknowledged} messages acknowledged, {} failed",
        began.elapsed().as_secs_f64(),
        ms / 1_000,
        complaints.len(),
    );
    assert!(complaints.is_empty(), "told above; replay one with ROLLCALL_SEED=N: {complaints:?}");
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in [7, 8, 9] {
        assert_eq!(in_its_own_process(seed).unwrap(), in_its_own_process(seed).unwrap(), "seed {seed}");
    }
}
