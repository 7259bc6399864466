//! The shard, command by command; `model` holds it against a naive one under any commands.

mod acknowledges;
mod batches;
mod bodies;
mod check;
mod enqueues;
mod model;
mod opens;
mod overflows;
mod qos2;
mod retained;
mod snapshots;
mod sweeps;

use bytes::Bytes;
use prost::Message as _;
use rollcall_proto::schema::message::Message;
use rollcall_proto::schema::shard::{
    Acknowledge, Batch, Command, Done, Enqueue, InboxLimits, Open, Opened, Origin, OriginKind, Overflow, Receive,
    Retain, ShardTargets, Stale, Target, command, outcome,
};

use super::{BodyRef, Effects, Shard, Waiting};

pub(super) const STALE: outcome::Kind = outcome::Kind::Stale(Stale {});
/// The number of the shard on the bench.
pub(super) const HERE: u32 = 1;

pub(super) fn done(count: u64) -> outcome::Kind {
    outcome::Kind::Done(Done { count })
}

pub(super) fn opened(existed: bool) -> outcome::Kind {
    outcome::Kind::Opened(Opened { existed })
}

/// A shard, and the one node that speaks to it.
pub(super) struct Bench {
    pub shard: Shard,
    pub now: u64,
    number: u64,
}

impl Bench {
    pub fn new() -> Self {
        Bench { shard: Shard::new(HERE), now: 1_000_000, number: 0 }
    }

    /// With an inbox of incarnation 1 and epoch 1 for each of them, without limits.
    pub fn with(client_ids: &[&str]) -> Self {
        let mut bench = Bench::new();
        for client_id in client_ids {
            assert_eq!(bench.run(open(client_id, 1, 1)).0, opened(false));
        }
        bench
    }

    pub fn limited(client_id: &str, limits: InboxLimits) -> Self {
        let mut bench = Bench::new();
        bench.run(command::Kind::Open(Open { limits: Some(limits), ..opening(client_id, 1, 1) }));
        bench
    }

    /// One command, in a batch of its own.
    pub fn run(&mut self, kind: command::Kind) -> (outcome::Kind, Effects) {
        self.number += 1;
        let effects = self.shard.apply(self.now, &batch(1, 1, self.number, [kind]));
        self.shard.check();
        assert_eq!(effects.outcomes.len(), 1);
        (effects.outcomes[0].kind.unwrap(), effects)
    }

    pub fn enqueue(&mut self, client_ids: &[&str], payload: &str) -> (outcome::Kind, Effects) {
        self.run(command::Kind::Enqueue(enqueue(client_ids, payload)))
    }

    /// With that many milliseconds to live.
    pub fn enqueue_for(&mut self, millis: u64, client_ids: &[&str], payload: &str) -> (outcome::Kind, Effects) {
        let enqueue = Enqueue { expires_in: Some(millis), ..enqueue(client_ids, payload) };
        self.run(command::Kind::Enqueue(enqueue))
    }

    pub fn acknowledge(&mut self, client_id: &str, done: &[u64], received: &[u64], sent: u64) -> outcome::Kind {
        let acknowledge =
            Acknowledge { done: done.into(), received: received.into(), sent, ..acknowledging(client_id, 1, 1) };
        self.run(command::Kind::Acknowledge(acknowledge)).0
    }

    pub fn waiting(&self, client_id: &str) -> Vec<Waiting> {
        let incarnation = self.shard.inbox(client_id).unwrap().incarnation();
        self.shard.read(client_id, incarnation, 0, usize::MAX)
    }

    /// Each waiting message as POSITION:PAYLOAD; `-` stands for one that is received.
    pub fn told(&self, client_id: &str) -> Vec<String> {
        let tell = |waiting: &Waiting| format!("{}:{}", waiting.position, text(waiting.body.as_ref()));
        self.waiting(client_id).iter().map(tell).collect()
    }
}

fn text(body: Option<&BodyRef>) -> String {
    match body {
        Some(BodyRef::Memory(bytes)) => payload(bytes),
        Some(BodyRef::Spilled(id)) => format!("spilled {id}"),
        None => "-".into(),
    }
}

pub(super) fn payload(message: &Bytes) -> String {
    String::from_utf8(Message::decode(message.clone()).unwrap().payload.to_vec()).unwrap()
}

pub(super) fn batch(node: u64, epoch: u64, number: u64, kinds: impl IntoIterator<Item = command::Kind>) -> Batch {
    let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
    Batch { node, node_epoch: epoch, number, commands }
}

pub(super) fn opening(client_id: &str, incarnation: u64, epoch: u64) -> Open {
    Open { client_id: client_id.into(), incarnation, epoch, roster_index: epoch, limits: None }
}

pub(super) fn open(client_id: &str, incarnation: u64, epoch: u64) -> command::Kind {
    command::Kind::Open(opening(client_id, incarnation, epoch))
}

pub(super) fn acknowledging(client_id: &str, incarnation: u64, epoch: u64) -> Acknowledge {
    Acknowledge { client_id: client_id.into(), incarnation, epoch, ..Acknowledge::default() }
}

pub(super) fn at_most(max_messages: u64, max_bytes: u64, overflow: Overflow) -> InboxLimits {
    InboxLimits { max_messages, max_bytes, overflow: overflow.into() }
}

/// Of QoS 2 and incarnation 1.
pub(super) fn target(client_id: &str) -> Target {
    Target { client_id: client_id.into(), incarnation: 1, qos: 2, ..Target::default() }
}

pub(super) fn message(topic: &str, payload: &str) -> Bytes {
    let (topic, payload) = (Bytes::copy_from_slice(topic.as_bytes()), Bytes::copy_from_slice(payload.as_bytes()));
    Message { topic, payload, qos: 2, ..Message::default() }.encode_to_vec().into()
}

pub(super) fn enqueue(client_ids: &[&str], payload: &str) -> Enqueue {
    let targets = client_ids.iter().map(|client_id| target(client_id)).collect();
    Enqueue { message: message("t", payload), targets, ..Enqueue::default() }
}

pub(super) fn receiving(client_id: &str, packet_id: u32, payload: &str, targets: &[(u32, &[&str])]) -> Receive {
    let targets = targets
        .iter()
        .map(|(shard, ids)| ShardTargets { shard: *shard, targets: ids.iter().map(|id| target(id)).collect() });
    Receive {
        client_id: client_id.into(),
        incarnation: 1,
        epoch: 1,
        packet_id,
        message: message("t", payload),
        targets: targets.collect(),
        ..Receive::default()
    }
}

pub(super) fn retain(topic: &str, payload: &str) -> Retain {
    Retain { message: message(topic, payload), ..Retain::default() }
}

pub(super) fn origin(client_id: &str, incarnation: u64, number: u64) -> Origin {
    Origin { kind: OriginKind::ExactlyOnce.into(), client_id: client_id.into(), incarnation, number }
}
