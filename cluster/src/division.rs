//! Nodes that the roster's leader hears, but that do not hear each other; pure, the time is an argument.
//!
//! What one of two such nodes publishes does not reach the sessions of the other, and each could go on for ever. So one of
//! them is set apart, and gets no lease until the two have met again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::roster::NodeId;

#[derive(Debug, Default)]
pub(crate) struct Divisions {
    /// Who says that it does not reach whom, and since when.
    reports: BTreeMap<(NodeId, NodeId), Duration>,
    /// Who gets no lease, and from whom it is apart.
    set_apart: BTreeMap<NodeId, NodeId>,
}

impl Divisions {
    /// A new leader has heard nothing yet; who was set apart is so no longer than it takes to hear it again.
    pub(crate) fn clear(&mut self) {
        self.reports.clear();
        self.set_apart.clear();
    }

    /// All that `node` does not reach now.
    pub(crate) fn report(&mut self, node: NodeId, apart: &[NodeId], now: Duration) {
        self.reports.retain(|(reporter, other), _| *reporter != node || apart.contains(other));
        for other in apart {
            self.reports.entry((node, *other)).or_insert(now);
        }
        let reports = &self.reports;
        self.set_apart
            .retain(|node, other| reports.contains_key(&(*node, *other)) || reports.contains_key(&(*other, *node)));
    }

    pub(crate) fn is_set_apart(&self, node: NodeId) -> bool {
        self.set_apart.contains_key(&node)
    }

    /// Sets apart one of each two that have not reached each other for `patience`: the one with fewer connections, but never
    /// `me`, and never so many that fewer than a majority of `living`, with their connections, would serve. Who they are.
    pub(crate) fn judge(
        &mut self,
        me: NodeId,
        living: &BTreeMap<NodeId, u64>,
        patience: Duration,
        now: Duration,
    ) -> Vec<NodeId> {
        let lasting: BTreeSet<(NodeId, NodeId)> = self
            .reports
            .iter()
            .filter(|(_, since)| now >= **since + patience)
            .map(|((one, other), _)| (*one.min(other), *one.max(other)))
            .collect();
        let mut found = Vec::new();
        for (one, other) in lasting {
            let (Some(a), Some(b)) = (living.get(&one), living.get(&other)) else { continue };
            if self.is_set_apart(one) || self.is_set_apart(other) {
                continue;
            }
            let serving = living.keys().filter(|node| !self.is_set_apart(**node)).count();
            if (serving - 1) * 2 <= living.len() {
                continue;
            }
            let other_has_fewer = (b, other) < (a, one);
            let loser = if one == me || (other != me && other_has_fewer) { other } else { one };
            self.set_apart.insert(loser, if loser == one { other } else { one });
            found.push(loser);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [NodeId; 0] = [];
    const PATIENCE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn living(connections: &[(NodeId, u64)]) -> BTreeMap<NodeId, u64> {
        connections.iter().copied().collect()
    }

    #[test]
    fn of_two_that_are_apart_for_long_the_one_with_fewer_connections_is_set_apart() {
        let mut divisions = Divisions::default();
        let nodes = living(&[(1, 50), (2, 7), (3, 9)]);
        divisions.report(2, &[3], at(100));
        divisions.report(2, &[3], at(109));
        assert_eq!(divisions.judge(1, &nodes, PATIENCE, at(109)), NOBODY);
        assert_eq!(divisions.judge(1, &nodes, PATIENCE, at(110)), [2]);
        assert!(divisions.is_set_apart(2) && !divisions.is_set_apart(3));
        assert_eq!(divisions.judge(1, &nodes, PATIENCE, at(120)), NOBODY, "once");
        let mut divisions = Divisions::default();
        divisions.report(3, &[2], at(0));
        divisions.report(2, &[3], at(5));
        assert_eq!(divisions.judge(1, &living(&[(1, 0), (2, 9), (3, 7)]), PATIENCE, at(10)), [3], "one way is enough");
    }

    #[test]
    fn who_meets_again_in_time_or_later_is_as_before() {
        let mut divisions = Divisions::default();
        let nodes = living(&[(1, 50), (2, 7), (3, 9)]);
        divisions.report(2, &[3], at(0));
        divisions.report(2, &[], at(9));
        divisions.report(2, &[3], at(10));
        assert_eq!(divisions.judge(1, &nodes, PATIENCE, at(19)), NOBODY, "it counts from the last time they met");
        divisions.report(3, &[2], at(19));
        assert_eq!(divisions.judge(1, &nodes, PATIENCE, at(20)), [2]);
        divisions.report(2, &[], at(30));
        assert!(divisions.is_set_apart(2), "the other does not reach it yet");
        divisions.report(3, &[], at(31));
        assert!(!divisions.is_set_apart(2));
    }

    #[test]
    fn the_leader_stays_and_so_does_a_majority() {
        let mut divisions = Divisions::default();
        divisions.report(1, &[2], at(0));
        assert_eq!(divisions.judge(1, &living(&[(1, 0), (2, 99), (3, 0)]), PATIENCE, at(10)), [2]);
        divisions.report(3, &[1], at(0));
        assert_eq!(
            divisions.judge(1, &living(&[(1, 0), (2, 99), (3, 0)]), PATIENCE, at(10)),
            NOBODY,
            "one of three is enough"
        );
        divisions.report(1, &[], at(11));
        assert!(!divisions.is_set_apart(2));
        assert_eq!(divisions.judge(1, &living(&[(1, 0), (3, 0)]), PATIENCE, at(10)), NOBODY, "of two neither");
        assert_eq!(divisions.judge(1, &living(&[(1, 0), (3, 0), (4, 0)]), PATIENCE, at(10)), [3]);
    }
}
