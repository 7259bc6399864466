//! What the death of a node with a million sessions costs: the one entry that declares it, and the reaper's, each of which
//! holds up everything else for as long as it takes. Exits with an error if one takes too long.
//! `cargo bench -p rollcall-cluster --bench reaper` prints it. Time is that of the processor, so that other programs count
//! little.

use std::time::Duration;

use rollcall_cluster::roster::Roster;
use rollcall_proto::schema::roster::{Batch, Claim, Command, NodeDown, NodeUp, Reap, command};
use rustix::time::{ClockId, clock_gettime};

/// As the broker has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSIONS: usize = 1_000_000;
/// `cluster.reap_batch` as it is by default.
const LIMIT: u32 = 1_000;
const DYING: u64 = 1;
const SURVIVOR: u64 = 2;
const LONGEST: Duration = Duration::from_millis(50);
/// Claims of one entry.
const BATCH: usize = 500;

struct Bench {
    roster: Roster,
    number: u64,
}

impl Bench {
    /// How long it took.
    fn apply(&mut self, node: u64, node_epoch: u64, kinds: impl IntoIterator<Item = command::Kind>) -> Duration {
        self.number += 1;
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let batch = Batch { node, node_epoch, number: self.number, commands };
        let start = now();
        let effects = self.roster.apply(1_000, &batch);
        let took = now() - start;
        std::hint::black_box(effects);
        took
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn claim(number: usize) -> command::Kind {
    let client_id = format!("site-12/device-{number:08}");
    let persistent = number.is_multiple_of(2);
    let session_expiry = if persistent { u32::MAX } else { 0 };
    command::Kind::Claim(Claim { client_id, connection: number as u64, session_expiry, ..Claim::default() })
}

fn main() {
    let mut bench = Bench { roster: Roster::default(), number: 0 };
    for node in [DYING, SURVIVOR] {
        let name = format!("node-{node}");
        bench.apply(node, 0, [command::Kind::NodeUp(NodeUp { boot: node, name, ..NodeUp::default() })]);
    }
    for first in (0..SESSIONS).step_by(BATCH) {
        bench.apply(DYING, 1, (first..first + BATCH).map(claim));
    }
    assert_eq!(bench.roster.connections(), SESSIONS as u64);
    // As while a snapshot is written: what the reaper changes it has to copy first.
    let snapshot = bench.roster.clone();
    let down = bench.apply(SURVIVOR, 1, [command::Kind::NodeDown(NodeDown { node: DYING, epoch: 1 })]);
    let mut took = Vec::new();
    while bench.roster.orphans().next().is_some() {
        let reap = Reap { node: DYING, epoch: 1, limit: LIMIT };
        took.push(bench.apply(SURVIVOR, 1, [command::Kind::Reap(reap)]));
    }
    drop(snapshot);
    assert_eq!(bench.roster.connections(), 0);
    took.sort_unstable();
    let (longest, total): (Duration, Duration) = (took[took.len() - 1], took.iter().sum());
    println!("{SESSIONS} sessions of a node that dies, {LIMIT} released by one entry, a snapshot under way");
    println!(
        "declaring it down {down:.2?}; {} entries of the reaper: p50 {:.2?}, p99 {:.2?}, longest {longest:.2?}, \
              {:.0} ns a session",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        total.as_nanos() as f64 / SESSIONS as f64
    );
    assert!(down.max(longest) < LONGEST, "a pause of more than {LONGEST:?}");
}
