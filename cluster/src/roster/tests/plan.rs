use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use rollcall_proto::schema::roster::Placement;

use crate::roster::{NodeId, plan};

/// Carries out one step as the cluster would, and forms what is new.
fn step(current: &mut Vec<Placement>, changes: Vec<Placement>) {
    for change in changes {
        match current.iter_mut().find(|placement| placement.shard == change.shard) {
            Some(known) => *known = change,
            None => current.push(change),
        }
    }
    current.iter_mut().for_each(|placement| placement.formed = true);
}

/// Steps until nothing is left to do; how many replicas were brought somewhere.
fn settle(nodes: &[NodeId], shards: u32, replicas: u32, current: &mut Vec<Placement>) -> usize {
    let mut moves = 0;
    for _ in 0..1_000 {
        let changes = plan(nodes, shards, replicas, current);
        if changes.is_empty() {
            return moves;
        }
        for change in &changes {
            let before = current.iter().find(|placement| placement.shard == change.shard);
            let before: BTreeSet<_> = before.into_iter().flat_map(|placement| &placement.members).collect();
            let after: BTreeSet<_> = change.members.iter().collect();
            assert_eq!(after.len(), change.members.len(), "each member once: {change:?}");
            moves += after.difference(&before).count();
            if !before.is_empty() {
                assert!(after.difference(&before).count() <= 1 && before.difference(&after).count() <= 1);
                let enough = nodes.len().min(replicas as usize).min(before.len());
                assert!(after.len() >= enough, "{before:?} became {after:?}");
            }
        }
        step(current, changes);
    }
    panic!("it never settles: {current:?}");
}

/// Replicas and leads of each node.
fn spread(nodes: &[NodeId], current: &[Placement]) -> (Vec<usize>, Vec<usize>) {
    let count = |of: &dyn Fn(&Placement) -> Vec<NodeId>| {
        let mut counts: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (*node, 0)).collect();
        for member in current.iter().flat_map(of) {
            *counts.entry(member).or_default() += 1;
        }
        counts.into_values().collect()
    };
    let (loads, leads) = (count(&|p| p.members.clone()), count(&|p| p.members.first().copied().into_iter().collect()));
    (loads, leads)
}

fn uneven(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

fn settled(nodes: &[NodeId], shards: u32, replicas: u32) -> Vec<Placement> {
    let mut current = Vec::new();
    settle(nodes, shards, replicas, &mut current);
    current
}

#[test]
fn in_a_small_cluster_every_node_holds_everything_and_leads_its_part() {
    for nodes in [&[7][..], &[7, 8], &[7, 8, 9]] {
        let current = settled(nodes, 6, 3);
        let (loads, leads) = spread(nodes, &current);
        assert_eq!(loads, vec![6; nodes.len()]);
        assert_eq!(leads, vec![6 / nodes.len(); nodes.len()]);
    }
}

#[test]
fn without_nodes_nothing_is_planned() {
    assert!(plan(&[], 4, 3, &[]).is_empty());
}

#[test]
fn the_first_plan_is_the_whole_plan() {
    let changes = plan(&[1, 2, 3, 4, 5], 8, 3, &[]);
    assert_eq!(changes.len(), 8);
    assert!(changes.iter().all(|placement| placement.members.len() == 3 && !placement.formed));
}

#[test]
fn the_order_in_which_nodes_are_named_does_not_matter() {
    assert_eq!(plan(&[3, 1, 2, 4, 4], 9, 3, &[]), plan(&[1, 2, 3, 4], 9, 3, &[]));
}

#[test]
fn a_fourth_node_takes_its_share_and_no_more() {
    let mut current = settled(&[1, 2, 3], 8, 3);
    assert_eq!(settle(&[1, 2, 3, 4], 8, 3, &mut current), 6, "24 replicas over 4 nodes");
    let (loads, leads) = spread(&[1, 2, 3, 4], &current);
    assert_eq!((loads, leads), (vec![6; 4], vec![2; 4]));
}

#[test]
fn a_node_that_leaves_is_replaced_wherever_it_was_and_nothing_else_moves() {
    let mut current = settled(&[1, 2, 3, 4], 8, 3);
    assert_eq!(settle(&[1, 2, 3], 8, 3, &mut current), 6);
    let (loads, leads) = spread(&[1, 2, 3], &current);
    assert_eq!(loads, [8; 3]);
    assert!(uneven(&leads) <= 1, "{leads:?}");
}

#[test]
fn a_cluster_that_grows_fills_up_its_shards_one_member_at_a_time() {
    let mut current = settled(&[1], 4, 3);
    let changes = plan(&[1, 2, 3], 4, 3, &current);
    assert!(changes.iter().all(|placement| placement.members.len() == 2));
    settle(&[1, 2, 3], 4, 3, &mut current);
    assert_eq!(spread(&[1, 2, 3], &current).0, vec![4; 3]);
}

#[test]
fn a_shard_that_may_be_forming_is_left_alone() {
    let forming = Placement { shard: 1, members: vec![1, 2, 9], formed: false };
    let changes = plan(&[1, 2, 3], 2, 3, std::slice::from_ref(&forming));
    assert_eq!(changes.iter().map(|placement| placement.shard).collect::<Vec<_>>(), [2]);
    let formed = Placement { formed: true, ..forming };
    let changes = plan(&[1, 2, 3], 1, 3, &[formed]);
    assert!(matches!(&changes[..], [change] if change.members == [1, 2, 3] && change.formed));
}

#[test]
fn the_last_member_is_never_taken_away() {
    let current = [Placement { shard: 1, members: vec![9], formed: true }];
    assert_eq!(plan(&[1], 1, 1, &current)[0].members, [1], "replaced in one step");
}

proptest! {
    #[test]
    fn any_placement_settles_evenly_in_small_steps(
        nodes in btree_set(1..12_u64, 1..9),
        shards in 1..20_u32,
        replicas in 1..5_u32,
        members in vec(btree_set(1..12_u64, 1..6), 0..20),
    ) {
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let mut current: Vec<Placement> = (1..=shards)
            .zip(members)
            .map(|(shard, members)| Placement { shard, members: members.into_iter().collect(), formed: true })
            .collect();
        settle(&nodes, shards, replicas, &mut current);
        let (loads, leads) = spread(&nodes, &current);
        prop_assert_eq!(loads.len(), nodes.len(), "nobody else holds anything");
        let size = nodes.len().min(replicas as usize);
        prop_assert!(current.len() == shards as usize && current.iter().all(|p| p.members.len() == size));
        prop_assert!(uneven(&loads) <= 1 && uneven(&leads) <= 1, "{loads:?} {leads:?}");
    }
}
