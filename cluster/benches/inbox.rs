//! What a shard costs: time per command, memory per message, and how long a snapshot's clone holds up `apply`.
//! `cargo bench -p rollcall-cluster` prints it. Time is that of the processor, so that other programs count little.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rollcall_cluster::inbox::Shard;
use rollcall_proto::schema::message::Message;
use rollcall_proto::schema::shard::{Acknowledge, Batch, Command, Enqueue, InboxLimits, Open, Retain, Target, command};

/// As the broker has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MANY: usize = 1_000_000;
/// Commands of one entry.
const BATCH: usize = 500;

struct Node {
    shard: Shard,
    number: u64,
    /// The longest that one entry took, and all together.
    longest: Duration,
    total: Duration,
}

impl Node {
    fn apply(&mut self, kinds: impl IntoIterator<Item = command::Kind>) {
        self.number += 1;
        let commands: Vec<_> = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let batch = Batch { node: 1, node_epoch: 1, number: self.number, commands };
        let start = now();
        let effects = self.shard.apply(1_000, &batch);
        let took = now() - start;
        self.total += took;
        self.longest = self.longest.max(took);
        std::hint::black_box(effects);
    }

    fn apply_all(&mut self, what: &str, kinds: impl IntoIterator<Item = command::Kind>) {
        (self.longest, self.total) = Default::default();
        let mut kinds = kinds.into_iter().peekable();
        let mut count = 0;
        while kinds.peek().is_some() {
            let some: Vec<_> = kinds.by_ref().take(BATCH).collect();
            count += some.len();
            self.apply(some);
        }
        let each = self.total.as_nanos() / count as u128;
        println!("{what:<46} {each:>6} ns each, the longest entry of {BATCH} {:>8.2?}", self.longest);
    }
}

fn id(number: usize) -> String {
    format!("site-12/device-{number:08}")
}

fn message(number: usize) -> Bytes {
    let topic = format!("site/12/device/{number}/command").into();
    let payload = vec![7; 100].into();
    Message { topic, payload, qos: 1, publisher: "backend-1".into(), ..Message::default() }.encode_to_vec().into()
}

fn open(number: usize) -> command::Kind {
    let limits = Some(InboxLimits { max_messages: 1000, max_bytes: 64 << 20, overflow: 0 });
    command::Kind::Open(Open { client_id: id(number), incarnation: 1, epoch: 1, roster_index: 1, limits })
}

fn enqueue(number: usize) -> command::Kind {
    let target = Target { client_id: id(number), incarnation: 1, qos: 1, ..Target::default() };
    command::Kind::Enqueue(Enqueue { message: message(number), targets: vec![target], ..Enqueue::default() })
}

fn acknowledge(number: usize, position: u64) -> command::Kind {
    command::Kind::Acknowledge(Acknowledge {
        client_id: id(number),
        incarnation: 1,
        epoch: 1,
        done: vec![position],
        sent: position,
        ..Acknowledge::default()
    })
}

fn retain(number: usize) -> command::Kind {
    command::Kind::Retain(Retain { message: message(number), ..Retain::default() })
}

/// Neighbours in this order are far apart in the shard.
fn scattered() -> impl Iterator<Item = usize> {
    (0..MANY).map(|number| number.wrapping_mul(7_919) % MANY)
}

/// What this thread has used of the processor.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    told.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

fn grown(what: &str, before: u64) -> u64 {
    let now = resident();
    println!("{what:<46} {:>6} bytes each", now.saturating_sub(before) / MANY as u64);
    now
}

/// A clone as for a snapshot, and the entries that come while it is written.
fn stall(node: &mut Node, what: &str, kinds: impl IntoIterator<Item = command::Kind>) -> Shard {
    let start = now();
    let snapshot = node.shard.clone();
    println!("{:<46} {:>8.2?}", "a clone", now() - start);
    node.apply_all(what, kinds);
    snapshot
}

fn main() {
    let mut node = Node { shard: Shard::new(1), number: 0, longest: Duration::ZERO, total: Duration::ZERO };
    println!("{MANY} inboxes, messages of {} bytes", message(0).len());
    let mut memory = resident();
    node.apply_all("Open", (0..MANY).map(open));
    memory = grown("an idle inbox", memory);
    node.apply_all("Enqueue, one inbox each", scattered().map(enqueue));
    memory = grown("a message alone in its inbox", memory);
    node.apply_all("Enqueue, the second message", scattered().map(enqueue));
    memory = grown("the second message", memory);
    node.apply_all("Acknowledge of the second", scattered().map(|number| acknowledge(number, 2)));
    node.apply_all("Retain, a topic each", scattered().map(retain));
    grown("a retained message", memory);
    node.apply_all("Enqueue to one inbox of 1,000, dropping oldest", (0..MANY).map(|_| enqueue(0)));

    println!("\na snapshot at {MANY} inboxes and {} messages", node.shard.body_count());
    let snapshot = stall(&mut node, "Enqueue after it", scattered().take(100_000).map(enqueue));
    drop(stall(&mut node, "Acknowledge after it", scattered().take(100_000).map(|number| acknowledge(number, 1))));
    drop(stall(&mut node, "Retain after it", scattered().take(100_000).map(retain)));
    let start = now();
    let mut written = Vec::new();
    snapshot.write_to(&mut written, &|_| Ok(Bytes::new())).expect("memory takes it");
    println!("{:<46} {:>8.2?}, {} MB", "writing it", now() - start, written.len() >> 20);
    let start = now();
    let read = Shard::read_from(&mut written.as_slice()).expect("it was just written");
    println!("{:<46} {:>8.2?}", "reading it", now() - start);
    let start = now();
    let page = read.retained("site/12/device/+/command", None, 1000, 1_000);
    println!("{:<46} {:>8.2?}, {} items", "a page of retained messages", now() - start, page.items.len());
}
