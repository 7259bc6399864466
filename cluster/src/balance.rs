//! Which nodes have more connections than their part, and where these should go; pure.

use crate::roster::NodeId;

/// Percent by which a node may be above the mean.
const TOLERANCE: u64 = 5;

/// So many connections are to go from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub from: NodeId,
    pub to: NodeId,
    pub count: u64,
}

/// From the nodes that are more than 5 % above the mean, as many as bring them to it, to those below it. Nodes with their
/// connections.
pub(crate) fn moves(nodes: &[(NodeId, u64)]) -> Vec<Move> {
    let (total, count) = (nodes.iter().map(|(_, has)| has).sum::<u64>(), nodes.len() as u64);
    if count == 0 {
        return Vec::new();
    }
    let mean = total / count;
    let is_above = |has: u64| has > mean + (mean * TOLERANCE / 100).max(1);
    let mut rooms: Vec<(NodeId, u64)> = nodes.iter().map(|(node, has)| (*node, mean.saturating_sub(*has))).collect();
    let mut moves = Vec::new();
    for (from, has) in nodes.iter().filter(|(_, has)| is_above(*has)) {
        let mut surplus = has - mean;
        for (to, room) in rooms.iter_mut().filter(|(_, room)| *room > 0) {
            let count = surplus.min(*room);
            if count > 0 {
                moves.push(Move { from: *from, to: *to, count });
                *room -= count;
                surplus -= count;
            }
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(nodes: &[(NodeId, u64)]) -> Vec<u64> {
        let mut has: std::collections::BTreeMap<NodeId, u64> = nodes.iter().copied().collect();
        for Move { from, to, count } in moves(nodes) {
            *has.get_mut(&from).unwrap() -= count;
            *has.get_mut(&to).unwrap() += count;
        }
        has.into_values().collect()
    }

    #[test]
    fn whoever_has_too_many_gives_to_whoever_has_too_few() {
        assert_eq!(after(&[(1, 300), (2, 0), (3, 0)]), [100, 100, 100]);
        assert_eq!(after(&[(1, 250), (2, 45), (3, 5)]), [100, 100, 100]);
        assert_eq!(after(&[(1, 200), (2, 200), (3, 1)]), [133, 135, 133], "within the tolerance");
    }

    #[test]
    fn what_is_nearly_even_is_left_alone() {
        assert_eq!(moves(&[(1, 104), (2, 100), (3, 96)]), []);
        assert_eq!(moves(&[(1, 1), (2, 0), (3, 0)]), [], "a single connection is nobody's surplus");
        assert_eq!(moves(&[(1, 70)]), []);
        assert_eq!(moves(&[]), []);
    }
}
