//! P8: what was acknowledged is there after any crash: sessions with their subscriptions, limits, retained messages, and
//! events once anybody has seen them.

use crate::check::Verdict;
use crate::history::History;

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P8 nothing acknowledged lost");
    for it in &history.remembered {
        verdict
            .expect(it.promised == it.told, || format!("{}: {} was promised, now {}", it.what, it.promised, it.told));
    }
    for it in history.resumptions.iter().filter(|it| !history.time_jumped(it.from, it.to)) {
        verdict.expect(it.present, || format!("the session of {} was gone at {:.1?}", it.client_id, it.to));
    }
    for finding in history.findings.iter().filter(|finding| finding.starts_with("P8")) {
        verdict.violation(1, || finding.clone());
    }
    let Some(log) = history.logs.first() else { return verdict };
    for watch in &history.watches {
        for &(seq, digest) in &watch.seen {
            // Where the log has gaps P5 says so.
            let kept = log.get((seq as usize).wrapping_sub(1)) == Some(&(seq, digest));
            verdict.expect(kept, || format!("event {seq} as {} saw it is not in the log", watch.name));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{s, span};
    use crate::history::{Remembered, Resumption, Watch};
    use crate::run::schedule::Fault;

    fn watched(seen: &[(u64, u64)]) -> u64 {
        let watches = vec![Watch { name: "w".into(), seen: seen.to_vec(), ..Watch::default() }];
        check(&History { watches, logs: vec![vec![(1, 7), (2, 8)]], ..History::default() }).broken
    }

    #[test]
    fn an_event_that_was_seen_and_is_gone_or_another_one_is_found() {
        assert_eq!(watched(&[(1, 7), (2, 8)]), 0);
        assert_eq!(watched(&[(3, 9)]), 1);
        assert_eq!(watched(&[(2, 9)]), 1);
    }

    #[test]
    fn a_limit_or_a_session_that_is_forgotten_is_found() {
        let told = |told: &str| {
            let remembered = vec![Remembered { what: "limit".into(), promised: "7".into(), told: told.into() }];
            check(&History { remembered, ..History::default() }).broken
        };
        assert_eq!((told("7"), told("none")), (0, 1));
        let resumptions = vec![Resumption { client_id: "a".into(), from: s(1), to: s(2), present: false }];
        let mut gone = History { resumptions, ..History::default() };
        assert_eq!(check(&gone).broken, 1);
        gone.spans = vec![span(Fault::ClockJump, &[0], 1, 3)];
        assert_eq!(check(&gone).broken, 0, "by the time that the cluster agreed on it had expired");
        let findings = vec!["P8: the session of a is gone".into(), "nonsense".into()];
        assert_eq!(check(&History { findings, ..History::default() }).broken, 1);
    }
}
