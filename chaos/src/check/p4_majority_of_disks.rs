//! P4: what was acknowledged at QoS 1 or 2 comes to every persistent session that subscribed: at least once, at QoS 2
//! exactly once, in its publisher's order per topic and QoS. The judgement is the durable run's.

use crate::check::Verdict;
use crate::durable::check::Judgement;
use crate::history::{History, Queues};

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P4 PUBACK means disks");
    if let Some(queues) = &history.queues {
        let judgement = judge(queues);
        verdict.checked = judgement.owed;
        for (broken, what) in judgement.broken() {
            verdict.violation(broken.count, || format!("{} {what}: {}", broken.count, broken.examples().join("; ")));
        }
        verdict.violation(queues.open as u64, || format!("{} messages were never answered", queues.open));
    }
    for finding in history.findings.iter().filter(|finding| !finding.starts_with("P8")) {
        verdict.violation(1, || finding.clone());
    }
    verdict
}

pub fn judge(queues: &Queues) -> Judgement {
    Judgement::of(&queues.plan, &queues.sent, queues.received.iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::s;
    use crate::durable::check::{Received, Sent};
    use crate::durable::plan::{Plan, Stream};

    const STREAM: Stream = Stream { publisher: 0, topic: 0, qos: 2 };

    fn judged(arrived: &[u32]) -> (u64, u64) {
        let plan = Plan { root: "d".into(), publishers: 1, topics: 1, subscribers: 1 };
        let sent = Sent([(STREAM, vec![Some(s(1)); 3])].into());
        let received = vec![Received([(STREAM, arrived.to_vec())].into())];
        let verdict = check(&History {
            queues: Some(Queues { started: s(0), plan, sent, received, open: 0 }),
            ..History::default()
        });
        (verdict.checked, verdict.broken)
    }

    #[test]
    fn all_in_order_and_once_passes() {
        assert_eq!(judged(&[0, 1, 2]), (3, 0));
    }

    #[test]
    fn an_acknowledged_message_that_was_dropped_one_twice_and_one_out_of_order_are_found() {
        assert_eq!(judged(&[0, 2]), (3, 1));
        assert_eq!(judged(&[0, 1, 1, 2]), (3, 1));
        assert_eq!(judged(&[0, 2, 1]), (3, 1));
    }

    #[test]
    fn what_a_broker_must_not_send_and_what_it_never_answers_count() {
        let findings = vec!["a received nonsense".into(), "P8: a session is gone".into()];
        assert_eq!(check(&History { findings, ..History::default() }).broken, 1);
    }
}
