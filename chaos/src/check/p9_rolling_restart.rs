//! P9: a drain tells every client of the node that it is going away, in words where the client speaks 5.0, and each has its
//! event. That nothing is lost is judged with everything else, by P4, P5 and P7.

use std::collections::HashMap;
use std::time::Duration;

use crate::check::Verdict;
use crate::history::{Connection, Drained, End, History, Kind};

/// Server shutting down, use another server.
const GO_AWAY: [u8; 2] = [0x8B, 0x9C];
/// What a client may be told instead, if it was taken over just then.
const TAKEN_OVER: u8 = 0x8E;
/// The node's process may have ended before a client notices.
const NOTICED: Duration = Duration::from_secs(1);

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P9 rolling restart");
    let ends = history.events.iter().filter(|event| event.kind == Kind::Disconnected);
    let mut reasons: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    for end in ends {
        reasons.entry((&end.client, &end.peer)).or_default().push(&end.reason);
    }
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
    verdict
}

fn ended_by(drain: &Drained, it: &Connection) -> bool {
    let there = it.granted.is_some_and(|granted| granted < drain.from);
    it.node == drain.node && there && it.ended >= drain.from && it.ended <= drain.exited + NOTICED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event, s};
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

    #[test]
    fn a_client_that_is_not_told_and_an_event_that_is_missing_are_found() {
        assert_eq!(judge(true, End::Closed, "go_away"), 1);
        assert_eq!(judge(true, End::Told(0x80), "go_away"), 1);
        assert_eq!(judge(true, End::Told(0x9C), "server_internal_error"), 1);
    }
}
