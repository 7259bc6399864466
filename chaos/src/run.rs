//! The run: every kind of client at once on a cluster that is hurt in every way, and every promise checked by what was
//! written down meanwhile.

mod inject;
mod membership;
mod recovery;
mod report;
pub mod schedule;
mod stage;
mod svg;
mod timeline;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use recovery::{percentile, shown};

use crate::cluster::{Cluster, Disks, Setup};
use crate::history::{History, Recorder};
use crate::options::Options;
use crate::run::inject::Injector;
use crate::run::schedule::{Fault, Schedule};
use crate::run::stage::Stage;
use crate::{check, gather};

/// Full inboxes may drop messages, and old events may go: these are large enough that neither can explain a loss.
pub const SETTINGS: [&str; 3] = ["inbox.max_messages=1000000", "inbox.max_bytes=1GiB", "events.retention=100000000"];
/// In a short run no fault takes more than this part of it.
const PARTS: u32 = 4;
const TELL: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
    /// For how long faults are injected; parts of a minute are allowed.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Chooses the faults and what each client does; who is faster than whom stays open.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these kinds of faults.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// By how many minutes a clock jumps.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=10_000), value_name = "MINUTES")]
    clock_jump: i64,
    /// Where to write the timeline: throughput, latency and faults, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    out: Option<PathBuf>,
}

impl Arguments {
    fn time(&self) -> Result<Duration, String> {
        Duration::try_from_secs_f64(self.minutes * 60.0).map_err(|error| error.to_string())
    }
}

/// # Errors
/// A promise that was broken, or a run that says nothing.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let time = arguments.time()?;
    println!("chaos: seed {seed}, {:.0} s of faults, {} nodes", time.as_secs_f64(), arguments.options.nodes);
    let kinds = kinds(arguments);
    let settings = arguments.options.settings(&SETTINGS);
    let disks = if kinds.contains(&Fault::DiskFull) { Disks::MayFail } else { Disks::Kept };
    let clocks = kinds.contains(&Fault::ClockJump);
    let guest = kinds.contains(&Fault::Join);
    let setup = Setup { disks, net: true, clocks, guest, ..arguments.options.setup(&settings) };
    let size = setup.size;
    let mut cluster = Cluster::start(&setup).await?;
    let schedule = Schedule::new(seed, &kinds, size, time / PARTS);
    tell_what_is_left_out(&schedule);
    let recorder = Arc::new(Recorder::default());
    let outcome = attempt(&mut cluster, arguments, schedule, seed, &recorder).await;
    let verdict = match outcome {
        Ok(history) => judge(arguments, &history, time),
        Err(error) => {
            // What was seen so far may say why.
            let history = recorder.take();
            history.findings.iter().for_each(|finding| println!("chaos: {finding}"));
            Err(error)
        }
    };
    if verdict.is_err() {
        cluster.print_logs();
        cluster.keep_folder();
    }
    verdict
}

fn kinds(arguments: &Arguments) -> Vec<Fault> {
    if !arguments.faults.is_empty() {
        return arguments.faults.clone();
    }
    let compiler = Command::new("cc").arg("--version").output().is_ok_and(|told| told.status.success());
    Fault::value_variants().iter().copied().filter(|kind| compiler || !kind.needs_compiler()).collect()
}

fn tell_what_is_left_out(schedule: &Schedule) {
    let left_out = |kind: &&Fault| !schedule.kinds().contains(kind);
    let names: Vec<&str> = Fault::value_variants().iter().filter(left_out).map(|kind| kind.name()).collect();
    if !names.is_empty() {
        println!("chaos: left out here: {}", names.join(", "));
    }
}

async fn attempt(
    cluster: &mut Cluster,
    arguments: &Arguments,
    schedule: Schedule,
    seed: u64,
    recorder: &Arc<Recorder>,
) -> Result<History, String> {
    let limit = Stage::limit(cluster.size());
    cluster.put(0, "limits", &serde_json::json!({ "max_connections": limit })).await?;
    recorder.add(|history| history.limit = limit);
    let stage = Stage::open(cluster, seed, recorder).await?;
    let injector = Injector::new(recorder, stage.storm(), stage.nodes(), arguments.clock_jump * 60);
    let time = arguments.time()?;
    let hurt = {
        let progress = stage.tell(TELL, time, injector.current());
        tokio::select! {
            hurt = injector.inject(cluster, schedule, time) => hurt,
            () = progress => Ok(()),
        }
    };
    // A cluster that did not heal has lost already; its clients would wait in vain.
    hurt?;
    eprintln!("chaos: 100 %  the faults are over, clients finish");
    let watching = stage.finish().await?;
    gather::nobody_online(cluster).await?;
    let (events, logs) = gather::logs(cluster).await?;
    let watches = watching.finish().await?;
    for node in 0..cluster.size() {
        let told = cluster.get(node, "limits").await?["max_connections"].to_string();
        let (what, promised) = (format!("the limit of connections at node-{node}"), limit.to_string());
        recorder.add(|history| history.remembered.push(crate::history::Remembered { what, promised, told }));
    }
    gather::same_state_everywhere(cluster).await?;
    let mut history = recorder.take();
    history.watches.extend(watches);
    (history.events, history.logs) = (events, logs);
    Ok(history)
}

fn judge(arguments: &Arguments, history: &History, time: Duration) -> Result<(), String> {
    let verdicts = check::all(history);
    print!("{}", report::table(history, &verdicts));
    if let Some(path) = &arguments.out {
        std::fs::write(path, timeline::draw(history)).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("chaos: the timeline is in {}", path.display());
    }
    let broken: u64 = verdicts.iter().map(|verdict| verdict.broken).sum();
    for verdict in &verdicts {
        verdict.examples.iter().for_each(|example| println!("chaos: {}: {example}", verdict.promise));
    }
    match broken {
        0 => report::says_something(history, time),
        _ => Err(format!("{broken} violations, told above")),
    }
}
