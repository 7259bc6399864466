//! Where shards should be: a proposal, step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rollcall_proto::schema::roster::Placement;

use super::NodeId;

/// The next step towards an even spread over the nodes that may hold shards: of the shards that change, their new
/// members, the preferred leader first. Empty once nothing is left to do.
///
/// A step replaces, adds or removes one member of a shard, so that it keeps its majority throughout. Only a shard
/// without members gets all at once; one that has members and is not formed is left alone, as it may be forming at this
/// very moment.
pub fn plan(nodes: &[NodeId], shards: u32, replicas: u32, current: &[Placement]) -> Vec<Placement> {
    let mut planner = Planner::new(nodes, shards, replicas, current);
    if planner.nodes.is_empty() {
        return Vec::new();
    }
    for at in 0..planner.shards.len() {
        planner.repair(at);
    }
    while planner.move_one() {}
    planner.elect_members();
    while planner.pass_leadership() {}
    planner.changes()
}

struct Shard {
    before: Placement,
    members: Vec<NodeId>,
    /// A replica has been moved in this step, or none may be.
    settled: bool,
    /// The order of its members may be changed.
    orderable: bool,
}

struct Planner {
    nodes: BTreeSet<NodeId>,
    /// Members that a shard is to have.
    size: usize,
    shards: Vec<Shard>,
    /// Replicas of each node in `nodes`.
    loads: BTreeMap<NodeId, usize>,
}

impl Planner {
    fn new(nodes: &[NodeId], shards: u32, replicas: u32, current: &[Placement]) -> Planner {
        let nodes: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let shards: Vec<Shard> = (1..=shards)
            .map(|shard| {
                let known = current.iter().find(|placement| placement.shard == shard);
                let before = known.cloned().unwrap_or_else(|| Placement { shard, ..Placement::default() });
                let forming = !before.formed && !before.members.is_empty();
                Shard { members: before.members.clone(), before, settled: forming, orderable: !forming }
            })
            .collect();
        let mut loads: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (*node, 0)).collect();
        for member in shards.iter().flat_map(|shard| &shard.members) {
            loads.entry(*member).and_modify(|load| *load += 1);
        }
        Planner { size: nodes.len().min(replicas.max(1) as usize), nodes, shards, loads }
    }

    /// Members that may not be, too few, or too many.
    fn repair(&mut self, at: usize) {
        if self.shards[at].settled {
            return;
        }
        if self.shards[at].members.is_empty() {
            while self.shards[at].members.len() < self.size && self.add(at) {}
            return;
        }
        let members = &self.shards[at].members;
        let foreign = members.iter().position(|member| !self.nodes.contains(member));
        match foreign {
            Some(place) => match self.idlest_without(at) {
                Some(idlest) if members.len() <= self.size => self.put(at, place, idlest),
                Some(_) | None => self.drop_member(at, place),
            },
            None if members.len() < self.size => {
                self.add(at);
            }
            None if members.len() > self.size => {
                let busiest = (1..members.len()).max_by_key(|place| (self.loads[&members[*place]], *place));
                self.drop_member(at, busiest.unwrap_or(0));
            }
            None => {}
        }
    }

    fn add(&mut self, at: usize) -> bool {
        let Some(node) = self.idlest_without(at) else { return false };
        self.loads.entry(node).and_modify(|load| *load += 1);
        let shard = &mut self.shards[at];
        shard.members.push(node);
        shard.settled = true;
        true
    }

    fn put(&mut self, at: usize, place: usize, node: NodeId) {
        let old = std::mem::replace(&mut self.shards[at].members[place], node);
        self.loads.entry(old).and_modify(|load| *load -= 1);
        self.loads.entry(node).and_modify(|load| *load += 1);
        self.shards[at].settled = true;
    }

    /// Never the last one: what it holds would be lost.
    fn drop_member(&mut self, at: usize, place: usize) {
        let shard = &mut self.shards[at];
        shard.settled = true;
        if shard.members.len() > 1 {
            let old = shard.members.remove(place);
            self.loads.entry(old).and_modify(|load| *load -= 1);
        }
    }

    fn idlest_without(&self, at: usize) -> Option<NodeId> {
        let members = &self.shards[at].members;
        let free = self.loads.iter().filter(|(node, _)| !members.contains(node));
        free.min_by_key(|(node, load)| (**load, **node)).map(|(node, _)| *node)
    }

    /// From the busiest node that can give to the idlest, as long as that evens them out.
    fn move_one(&mut self) -> bool {
        let Some((idlest, least)) = self.loads.iter().map(|(node, load)| (*node, *load)).min_by_key(|(_, load)| *load)
        else {
            return false;
        };
        let mut busy: Vec<_> = self.loads.iter().filter(|(_, load)| **load > least + 1).collect();
        busy.sort_by_key(|(node, load)| (usize::MAX - **load, **node));
        let found = busy.iter().find_map(|(node, _)| self.may_give(**node, idlest));
        if let Some((at, place)) = found {
            self.put(at, place, idlest);
        }
        found.is_some()
    }

    /// A shard that could go from one node to the other, rather one that the first does not lead.
    fn may_give(&self, from: NodeId, to: NodeId) -> Option<(usize, usize)> {
        let places = self.shards.iter().enumerate().filter(|(_, shard)| !shard.settled && !shard.members.contains(&to));
        let places = places.filter_map(|(at, shard)| Some((at, shard.members.iter().position(|id| *id == from)?)));
        places.min_by_key(|(at, place)| (*place == 0, *at))
    }

    /// A node that may not hold the shard does not lead it either.
    fn elect_members(&mut self) {
        for at in 0..self.shards.len() {
            let leads = self.leads();
            let members = &self.shards[at].members;
            let leaderless = members.first().is_some_and(|first| !self.nodes.contains(first));
            let fresh = self.shards[at].before.members.is_empty();
            if !self.shards[at].orderable || !(leaderless || fresh) {
                continue;
            }
            let able = members.iter().filter(|member| self.nodes.contains(member));
            // Its own lead does not speak against a fresh shard's first member.
            let own = |member: &NodeId| usize::from(members.first() == Some(member));
            let best = able.min_by_key(|member| (leads[member] - own(member), **member)).copied();
            best.into_iter().for_each(|best| self.lead(at, best));
        }
    }

    /// Shards that each node in `nodes` comes first in.
    fn leads(&self) -> BTreeMap<NodeId, usize> {
        let mut leads: BTreeMap<NodeId, usize> = self.nodes.iter().map(|node| (*node, 0)).collect();
        for first in self.shards.iter().filter_map(|shard| shard.members.first()) {
            leads.entry(*first).and_modify(|count| *count += 1);
        }
        leads
    }

    fn lead(&mut self, at: usize, leader: NodeId) {
        let members = &mut self.shards[at].members;
        if let Some(place) = members.iter().position(|member| *member == leader) {
            members.swap(0, place);
        }
    }

    /// Takes one lead from a node that has two more than another, directly or through nodes in between.
    fn pass_leadership(&mut self) -> bool {
        let leads = self.leads();
        let mut most: Vec<_> = leads.iter().collect();
        most.sort_by_key(|(node, count)| (usize::MAX - **count, **node));
        for (from, count) in most {
            let Some(path) = self.path_down(*from, |node| leads.get(&node).is_some_and(|other| other + 2 <= *count))
            else {
                continue;
            };
            path.into_iter().for_each(|(at, leader)| self.lead(at, leader));
            return true;
        }
        false
    }

    /// The shortest chain of shards, each led by one node and held by the next, to a node that is good enough.
    fn path_down(&self, from: NodeId, enough: impl Fn(NodeId) -> bool) -> Option<Vec<(usize, NodeId)>> {
        let mut came: BTreeMap<NodeId, (usize, NodeId)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if enough(node) {
                let mut path = Vec::new();
                let mut to = node;
                while to != from {
                    let (at, before) = came[&to];
                    path.push((at, to));
                    to = before;
                }
                return Some(path);
            }
            let led = self.shards.iter().enumerate().filter(|(_, s)| s.orderable && s.members.first() == Some(&node));
            for (at, shard) in led {
                for next in shard.members[1..].iter().filter(|next| self.nodes.contains(next)) {
                    if *next != from && !came.contains_key(next) {
                        came.insert(*next, (at, node));
                        queue.push_back(*next);
                    }
                }
            }
        }
        None
    }

    fn changes(self) -> Vec<Placement> {
        let changed = self.shards.into_iter().filter(|shard| shard.members != shard.before.members);
        changed.map(|shard| Placement { members: shard.members, ..shard.before }).collect()
    }
}
