//! P9: a drain tells every client of the node that it is going away, in words where the client speaks 5.0, and each has its
//! event; and nothing is lost that was acknowledged meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::check::Verdict;
use crate::history::{At, Connection, Drained, End, History, Kind, Queues};

/// Server shutting down, use another server.
pub const GO_AWAY: [u8; 2] = [0x8B, 0x9C];
/// What a client may be told instead, if it was taken over just then.
const TAKEN_OVER: u8 = 0x8E;
/// The node's process may have ended before a client notices.
pub const NOTICED: Duration = Duration::from_secs(1);
/// How long after a drain its sessions and leaderships are still being taken up by other nodes.
const TAKEN_UP: Duration = Duration::from_secs(3);

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P9 rolling restart");
    let reasons = reasons(history);
    for drain in &history.drains {
        for it in history.connections.iter().filter(|it| ended_by(drain, it)) {
            let (client, peer, node) = (&it.client_id, &it.peer, drain.node);
            let in_words = match it.end {
                End::Told(code) => GO_AWAY.contains(&code) || code == TAKEN_OVER,
                End::Closed => !it.five,
                End::Left | End::Vanished => continue,
            };
            verdict.expect(in_words, || {
                format!(
                    "{client} from {peer} at node-{node} was not told go_away at {:.1?}, but {:?}",
                    it.ended, it.end
                )
            });
            if it.superseded.is_none() && matches!(it.end, End::Told(code) if GO_AWAY.contains(&code)) {
                let logged = reasons.get(&(client.as_str(), peer.as_str()));
                verdict.expect(logged.is_some_and(|reasons| reasons.contains(&"go_away")), || {
                    format!("{client} from {peer} was told go_away at {:.1?}, its events say {logged:?}", it.ended)
                });
            }
        }
    }
    if let Some(queues) = &history.queues {
        nothing_lost(queues, &history.drains, &mut verdict);
    }
    verdict
}

/// Why connections ended as the log has it, by client id and address.
pub type Reasons<'a> = HashMap<(&'a str, &'a str), Vec<&'a str>>;

pub fn reasons(history: &History) -> Reasons<'_> {
    let mut reasons = Reasons::new();
    for end in history.events.iter().filter(|event| event.kind == Kind::Disconnected) {
        reasons.entry((&end.client, &end.peer)).or_default().push(&end.reason);
    }
    reasons
}

fn nothing_lost(queues: &Queues, drains: &[Drained], verdict: &mut Verdict) {
    let meanwhile = |at: At| drains.iter().any(|drain| (drain.from..=drain.exited + TAKEN_UP).contains(&at));
    for (subscriber, received) in queues.received.iter().enumerate() {
        let filter = queues.plan.filter(subscriber);
        for (stream, published) in queues.sent.0.iter().filter(|(stream, _)| filter.matches(**stream)) {
            let came: HashSet<u32> = received.0.get(stream).into_iter().flatten().copied().collect();
            for (number, at) in (0..).zip(published) {
                let Some(at) = at.map(|at| queues.started + at).filter(|at| meanwhile(*at)) else { continue };
                verdict.expect(came.contains(&number), || {
                    format!(
                        "{stream}: number {number}, acknowledged at {at:.1?}, did not come to subscriber {subscriber}"
                    )
                });
            }
        }
    }
}

fn ended_by(drain: &Drained, it: &Connection) -> bool {
    let there = it.granted.is_some_and(|granted| granted < drain.from);
    it.node == drain.node && there && it.ended >= drain.from && it.ended <= drain.exited + NOTICED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event, s};
    use crate::durable::check::{Received, Sent};
    use crate::durable::plan::{Plan, Stream};
    use crate::history::Event;

    fn judge(five: bool, end: End, reason: &str) -> u64 {
        let connections = vec![Connection { five, end, ..connection("a", 5, 11) }];
        let drains = vec![Drained { node: 0, from: s(10), exited: s(12) }];
        let events = vec![Event { reason: reason.into(), ..event(1, Kind::Disconnected, "a", 1) }];
        check(&History { connections, drains, events, ..History::default() }).broken
    }

    #[test]
    fn clients_that_are_told_or_leave_by_themselves_pass() {
        assert_eq!(judge(true, End::Told(0x9C), "go_away"), 0);
        assert_eq!(judge(true, End::Left, "normal"), 0);
        assert_eq!(judge(true, End::Told(0x8E), "takeovered"), 0);
        assert_eq!(judge(false, End::Closed, "go_away"), 0, "3.1.1 has no words for it");
    }

    fn drained_and_received(acknowledged: u64, arrived: &[u32]) -> u64 {
        let plan = Plan { root: "d".into(), publishers: 1, topics: 1, subscribers: 1 };
        let stream = Stream { publisher: 0, topic: 0, qos: 1 };
        let sent = Sent([(stream, vec![Some(s(acknowledged))])].into());
        let received = vec![Received([(stream, arrived.to_vec())].into())];
        let drains = vec![Drained { node: 0, from: s(10), exited: s(12) }];
        let queues = Some(Queues { started: s(2), plan, sent, received, open: 0 });
        check(&History { queues, drains, ..History::default() }).broken
    }

    #[test]
    fn a_message_that_is_lost_while_nodes_restart_is_found() {
        assert_eq!(drained_and_received(9, &[0]), 0);
        assert_eq!(drained_and_received(9, &[]), 1);
        assert_eq!(drained_and_received(3, &[]), 0, "lost before: for P4 to say");
    }

    #[test]
    fn a_client_that_is_not_told_and_an_event_that_is_missing_are_found() {
        assert_eq!(judge(true, End::Closed, "go_away"), 1);
        assert_eq!(judge(true, End::Told(0x80), "go_away"), 1);
        assert_eq!(judge(true, End::Told(0x9C), "server_internal_error"), 1);
    }
}
