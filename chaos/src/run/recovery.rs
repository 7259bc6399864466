//! How soon clients succeeded again after each fault: at the nodes that were left alone, and at all of them once it was
//! undone. Pure.

use std::time::Duration;

use crate::history::{At, History, Span};
use crate::run::schedule::Fault;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// From the beginning of a fault to the first success at every node that it was not done to.
    pub others: Vec<Duration>,
    /// From its end to the first success at every node.
    pub all: Vec<Duration>,
}

pub fn measure<'a>(history: &History, spans: impl Iterator<Item = &'a Span>, nodes: usize) -> Recovery {
    let mut recovery = Recovery::default();
    for span in spans {
        let spared: Vec<usize> = (0..nodes).filter(|node| !span.nodes.contains(node)).collect();
        if span.fault != Fault::Storm && !spared.is_empty() {
            recovery.others.extend(succeeded(history, &spared, span.from));
        }
        if goes_on_after(span) {
            recovery.all.extend(succeeded(history, &(0..nodes).collect::<Vec<_>>(), span.healed));
        }
    }
    recovery
}

/// Slow networks, storms and clocks leave nothing to recover from.
fn goes_on_after(span: &Span) -> bool {
    !matches!(span.fault, Fault::Slow | Fault::Lossy | Fault::Storm | Fault::ClockJump)
}

/// Until the last of these nodes has served a client that began after that moment.
fn succeeded(history: &History, nodes: &[usize], from: At) -> Option<Duration> {
    let first = |node: &usize| {
        let served = history.probes.iter().filter(|it| it.node == *node && it.succeeded && it.from >= from);
        served.map(|it| it.ended - from).min()
    };
    nodes.iter().map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The value that this part of the values does not exceed.
pub fn percentile(values: &[Duration], part: f64) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// p50, p99 and the longest, in words.
pub fn shown(values: &[Duration]) -> [String; 3] {
    [0.5, 0.99, 1.0].map(|part| percentile(values, part).map_or("-".to_owned(), |value| format!("{value:.2?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{s, span};
    use crate::history::Probe;

    #[test]
    fn recovery_counts_from_the_beginning_for_the_others_and_from_the_end_for_all() {
        let probe = |node, from, ended, succeeded| Probe { node, from: s(from), ended: s(ended), succeeded };
        let probes = vec![
            probe(0, 9, 11, true),
            probe(1, 11, 12, false),
            probe(1, 12, 13, true),
            probe(0, 11, 12, true),
            probe(0, 21, 22, true),
            probe(1, 21, 24, true),
            probe(2, 20, 27, true),
        ];
        let history = History { probes, spans: vec![span(Fault::Kill, &[2], 10, 20)], ..History::default() };
        assert_eq!(measure(&history, history.spans.iter(), 3), Recovery { others: vec![s(3)], all: vec![s(7)] });
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<Duration> = (1..=100).map(s).collect();
        assert_eq!(percentile(&values, 0.5), Some(s(50)));
        assert_eq!(percentile(&values, 0.99), Some(s(99)));
        assert_eq!(percentile(&values[..1], 0.5), Some(s(1)));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
