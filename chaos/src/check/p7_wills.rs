//! P7: a will is published exactly once per ungraceful end, and never otherwise.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::check::Verdict;
use crate::history::{History, Kind, Leaving};
use crate::load::wills;

const LONGEST_DELAY: Duration = Duration::from_secs(wills::LONGEST_DELAY as u64);

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P7 wills survive");
    let mut arrived: HashMap<&str, u64> = HashMap::new();
    for token in &history.will_arrivals {
        *arrived.entry(token).or_default() += 1;
    }
    let graceful: HashSet<(&str, &str)> = history
        .events
        .iter()
        .filter(|event| event.kind == Kind::Disconnected && event.reason == "normal")
        .map(|event| (event.client.as_str(), event.peer.as_str()))
        .collect();
    for will in &history.wills {
        let times = arrived.remove(will.token.as_str()).unwrap_or_default();
        let (least, most) = match will.leaving {
            // If its DISCONNECT did not arrive the end was ungraceful, and the log says so.
            Leaving::TakenBack if graceful.contains(&(&will.client_id, &will.peer)) => (0, 0),
            Leaving::TakenBack | Leaving::Ungraceful => (1, 1),
            // With its time the cluster's delays jump.
            Leaving::Resumed if history.time_jumped(will.ended, will.ended + LONGEST_DELAY) => (0, 1),
            Leaving::Resumed => (0, 0),
            Leaving::Unknown => (0, 1),
        };
        verdict.expect((least..=most).contains(&times), || {
            format!("{:?} at {:.1?}: the will {} came {times} times", will.leaving, will.ended, will.token)
        });
    }
    verdict.violation(arrived.len() as u64, || format!("wills that nobody left: {arrived:?}"));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{event, s};
    use crate::history::{Event, Will};

    fn judge(leaving: Leaving, reason: &str, arrivals: usize) -> u64 {
        let (token, client_id, peer) = ("w".to_owned(), "a".to_owned(), "a".to_owned());
        let wills = vec![Will { token, client_id, peer, leaving, ended: s(1) }];
        let will_arrivals = vec!["w".to_owned(); arrivals];
        let events = vec![Event { reason: reason.into(), ..event(1, Kind::Disconnected, "a", 1) }];
        check(&History { wills, will_arrivals, events, ..History::default() }).broken
    }

    #[test]
    fn one_will_per_ungraceful_end_passes() {
        assert_eq!(judge(Leaving::Ungraceful, "tcp_closed", 1), 0);
        assert_eq!(judge(Leaving::TakenBack, "normal", 0), 0);
        assert_eq!(judge(Leaving::TakenBack, "server_internal_error", 1), 0, "its DISCONNECT did not arrive");
        assert_eq!(judge(Leaving::Resumed, "tcp_closed", 0), 0);
        assert_eq!(judge(Leaving::Unknown, "tcp_closed", 0) + judge(Leaving::Unknown, "tcp_closed", 1), 0);
    }

    #[test]
    fn a_will_that_is_missing_comes_twice_or_was_taken_back_is_found() {
        assert_eq!(judge(Leaving::Ungraceful, "tcp_closed", 0), 1);
        assert_eq!(judge(Leaving::Ungraceful, "tcp_closed", 2), 1);
        assert_eq!(judge(Leaving::TakenBack, "normal", 1), 1);
        assert_eq!(judge(Leaving::Resumed, "tcp_closed", 1), 1);
        assert_eq!(judge(Leaving::Unknown, "tcp_closed", 2), 1);
        let will_arrivals = vec!["nobody's".into()];
        assert_eq!(check(&History { will_arrivals, ..History::default() }).broken, 1);
    }
}
