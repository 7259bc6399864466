//! What a node may log.

use proptest::collection::vec;
use proptest::prelude::*;
use rollcall_proto::schema::shard::{Close, Complete, Forget, HandedOn, Sweep};

use super::super::*;
use super::naive::Naive;

pub(super) const IDS: [&str; 4] = ["a", "b", "c", "d"];
const TOPICS: [&str; 5] = ["s", "s/1", "s/2", "s-1/1", "$s/1"];
pub(super) const FILTERS: [&str; 6] = ["#", "s/#", "+/1", "s/+", "s-1/1", "$s/+"];

/// Ids and topics by their place in the lists above; `behind` and `ahead` of what is current.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    Open { id: usize, fresh: bool, behind: u64, limits: (u64, u64, i32) },
    Enqueue { targets: Vec<(usize, u32, u64)>, len: usize, expires_in: Option<u64>, origin: Option<(usize, u64)> },
    Acknowledge { id: usize, behind: u64, done: Vec<u64>, received: Vec<u64>, sent: u64, events: Option<u64> },
    Receive { id: usize, behind: u64, packet_id: u32, here: Vec<usize>, elsewhere: u32, expires_in: Option<u64> },
    Complete { id: usize, behind: u64, packet_id: u32 },
    HandedOn { up_to: u64 },
    Retain { topic: usize, len: usize, expires_in: Option<u64>, origin: Option<(usize, u64)> },
    Close { id: usize, behind: u64, roster_index: u64 },
    Sweep,
    Forget { id: usize, number: u64 },
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Batch {
        node: u64,
        wishes: Vec<Wish>,
    },
    /// A batch that was logged before is logged again.
    Again {
        back: usize,
    },
    NextEpoch {
        node: u64,
    },
    Wait {
        millis: u64,
    },
    Spill {
        bytes: u64,
    },
}

fn wish() -> impl Strategy<Value = Wish> {
    let id = || 0..IDS.len();
    let behind = || prop_oneof![9 => Just(0_u64), 1 => 1..3_u64];
    let expires_in = || prop_oneof![3 => Just(None), 2 => (0..3000_u64).prop_map(Some)];
    let origin = || prop_oneof![2 => Just(None), 1 => (id(), 1..12_u64).prop_map(Some)];
    let limits = || (prop_oneof![Just(0_u64), 1..6_u64], prop_oneof![Just(0_u64), 20..90_u64], 0..4_i32);
    let positions = || vec(0..9_u64, 0..4);
    prop_oneof![
        5 => (id(), proptest::bool::weighted(0.2), behind(), limits())
            .prop_map(|(id, fresh, behind, limits)| Wish::Open { id, fresh, behind, limits }),
        12 => (vec((id(), 1..3_u32, behind()), 0..4), 1..30_usize, expires_in(), origin())
            .prop_map(|(targets, len, expires_in, origin)| Wish::Enqueue { targets, len, expires_in, origin }),
        6 => (id(), behind(), positions(), positions(), 0..9_u64, proptest::option::of(0..50_u64))
            .prop_map(|(id, behind, done, received, sent, events)|
                Wish::Acknowledge { id, behind, done, received, sent, events }),
        5 => (id(), behind(), 1..4_u32, vec(id(), 0..3), 0..3_u32, expires_in())
            .prop_map(|(id, behind, packet_id, here, elsewhere, expires_in)|
                Wish::Receive { id, behind, packet_id, here, elsewhere, expires_in }),
        3 => (id(), behind(), 1..4_u32).prop_map(|(id, behind, packet_id)| Wish::Complete { id, behind, packet_id }),
        1 => (0..10_u64).prop_map(|up_to| Wish::HandedOn { up_to }),
        5 => (0..TOPICS.len(), 0..9_usize, expires_in(), origin())
            .prop_map(|(topic, len, expires_in, origin)| Wish::Retain { topic, len, expires_in, origin }),
        1 => (id(), behind(), 0..9_u64).prop_map(|(id, behind, roster_index)| Wish::Close { id, behind, roster_index }),
        2 => Just(Wish::Sweep),
        1 => (id(), 1..12_u64).prop_map(|(id, number)| Wish::Forget { id, number }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let node = || 1..3_u64;
    prop_oneof![
        16 => (node(), vec(wish(), 1..6)).prop_map(|(node, wishes)| Step::Batch { node, wishes }),
        3 => (0..4_usize).prop_map(|back| Step::Again { back }),
        1 => node().prop_map(|node| Step::NextEpoch { node }),
        3 => (0..1500_u64).prop_map(|millis| Step::Wait { millis }),
        3 => (1..100_u64).prop_map(|bytes| Step::Spill { bytes }),
    ]
}

fn targets(naive: &Naive, targets: impl IntoIterator<Item = (usize, u32, u64)>) -> Vec<Target> {
    let to_target = |(id, qos, behind)| Target {
        incarnation: naive.incarnation(IDS[id]).saturating_sub(behind),
        qos,
        subscription_ids: vec![qos; qos as usize],
        retain: behind == 0,
        ..target(IDS[id])
    };
    targets.into_iter().map(to_target).collect()
}

fn to_origin(from: Option<(usize, u64)>) -> Option<Origin> {
    from.map(|(id, number)| Origin { kind: (id % 2) as i32, ..origin(IDS[id], 1, number) })
}

fn letters(len: usize) -> String {
    "m".repeat(len)
}

pub(super) fn to_command(naive: &Naive, wish: &Wish) -> command::Kind {
    use command::Kind;
    let epoch = |id: usize, behind: u64| naive.epoch(IDS[id]).saturating_sub(behind);
    let current = |id: usize| naive.incarnation(IDS[id]);
    match wish.clone() {
        Wish::Open { id, fresh, behind, limits } => {
            let epoch = (epoch(id, 0) + 1).saturating_sub(behind);
            let incarnation = if fresh || current(id) == 0 { epoch } else { current(id) };
            let (max_messages, max_bytes, overflow) = limits;
            let limits = Some(InboxLimits { max_messages, max_bytes, overflow });
            Kind::Open(Open { limits, ..opening(IDS[id], incarnation, epoch) })
        }
        Wish::Enqueue { targets: to, len, expires_in, origin } => Kind::Enqueue(Enqueue {
            message: message("t", &letters(len)),
            targets: targets(naive, to),
            expires_in,
            origin: to_origin(origin),
        }),
        Wish::Acknowledge { id, behind, done, received, sent, events } => Kind::Acknowledge(Acknowledge {
            done,
            received,
            sent,
            events,
            events_sent: sent * 3,
            closed: sent % 4 == 3,
            ..acknowledging(IDS[id], current(id), epoch(id, behind))
        }),
        Wish::Receive { id, behind, packet_id, here, elsewhere, expires_in } => {
            let here = here.into_iter().map(|id| (id, 2, 0));
            let mut all = vec![ShardTargets { shard: HERE, targets: targets(naive, here) }];
            all.extend((0..elsewhere).map(|n| ShardTargets { shard: HERE + 1 + n, targets: vec![target("far")] }));
            Kind::Receive(Receive {
                incarnation: current(id),
                epoch: epoch(id, behind),
                targets: all,
                expires_in,
                ..receiving(IDS[id], packet_id, "qos 2", &[])
            })
        }
        Wish::Complete { id, behind, packet_id } => Kind::Complete(Complete {
            client_id: IDS[id].into(),
            incarnation: current(id),
            epoch: epoch(id, behind),
            packet_id,
        }),
        Wish::HandedOn { up_to } => Kind::HandedOn(HandedOn { up_to }),
        Wish::Retain { topic, len, expires_in, origin } => Kind::Retain(Retain {
            message: message(TOPICS[topic], &letters(len)),
            expires_in,
            origin: to_origin(origin),
        }),
        Wish::Close { id, behind, roster_index } => Kind::Close(Close {
            client_id: IDS[id].into(),
            incarnation: current(id).saturating_sub(behind),
            roster_index,
        }),
        Wish::Sweep => {
            Kind::Sweep(Sweep { client_ids: IDS.map(String::from).to_vec(), topics: TOPICS.map(String::from).to_vec() })
        }
        Wish::Forget { id, number } => {
            Kind::Forget(Forget { origins: to_origin(Some((id, number))).into_iter().collect() })
        }
    }
}
