//! P1: at every position of the log a client id has at most one owner, and an older connection changes nothing any more
//! once the newer one has its CONNACK.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::Verdict;
use crate::history::{Event, History, Kind};

/// How long a connection that was taken over may stay open, time under faults not counted.
const CLOSED: Duration = Duration::from_secs(5);

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P1 one owner");
    in_the_log(&history.events, &mut verdict);
    for old in &history.connections {
        let Some(superseded) = old.superseded else { continue };
        let (client, peer, node) = (&old.client_id, &old.peer, old.node);
        if let Some((sent, granted)) = old.late {
            verdict.expect(!granted, || {
                format!(
                    "{client} from {peer} at node-{node} was superseded at {superseded:.1?}, subscribed at {sent:.1?} and \
                     was granted it"
                )
            });
        }
        verdict.expect(old.ended <= history.calm(superseded, CLOSED), || {
            format!(
                "{client} from {peer} at node-{node} was superseded at {superseded:.1?} and open until {:.1?}",
                old.ended
            )
        });
    }
    verdict
}

/// Connected and disconnected of each client id alternate, both with one epoch, each next one higher, at a takeover by
/// one; in the end nobody is left connected.
fn in_the_log(events: &[Event], verdict: &mut Verdict) {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    // The epoch of the last connection, and whether it was taken over.
    let mut last: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    for event in events {
        let client = event.client.as_str();
        match event.kind {
            Kind::Connected => {
                let twice = open.insert(client, event.epoch).is_some();
                verdict.expect(!twice, || format!("two owners at once: {event:?}"));
                let (before, taken_over) = last.insert(client, (event.epoch, false)).unwrap_or_default();
                let follows = event.epoch > before && (!taken_over || event.epoch == before + 1);
                verdict.expect(follows, || format!("the epoch does not follow {before}: {event:?}"));
            }
            // A refused connection never was one.
            Kind::Disconnected if event.epoch == 0 => {}
            Kind::Disconnected => {
                let ended = open.remove(client);
                verdict.expect(ended == Some(event.epoch), || format!("the end of what was not there: {event:?}"));
                if let Some((_, taken_over)) = last.get_mut(client) {
                    *taken_over = event.reason == "takeovered";
                }
            }
            Kind::Subscribed | Kind::Unsubscribed => {
                let owned = open.get(client) == Some(&event.epoch);
                verdict.expect(owned, || format!("a change by a connection that does not own the session: {event:?}"));
            }
        }
    }
    verdict.violation(open.len() as u64, || format!("connected without an end: {open:?}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event, s, span};
    use crate::history::Kind::{Connected, Disconnected, Subscribed};
    use crate::run::schedule::Fault;

    fn broken(events: Vec<Event>) -> u64 {
        check(&History { events, ..History::default() }).broken
    }

    #[test]
    fn an_orderly_history_passes() {
        let events = vec![
            event(1, Connected, "a", 5),
            event(2, Subscribed, "a", 5),
            event(3, Disconnected, "a", 5),
            event(4, Disconnected, "a", 0),
            event(5, Connected, "a", 6),
            event(6, Disconnected, "a", 6),
        ];
        let verdict = check(&History { events, ..History::default() });
        assert_eq!((verdict.broken, verdict.checked), (0, 7));
    }

    #[test]
    fn two_owners_a_skipped_epoch_a_ghost_and_one_without_an_end_are_found() {
        let (on, off) = (Connected, Disconnected);
        assert_eq!(broken(vec![event(1, on, "a", 5), event(2, on, "a", 6), event(3, off, "a", 6)]), 1);
        let [first, second] = [event(1, on, "a", 5), event(2, off, "a", 5)];
        let again = vec![first.clone(), second.clone(), event(3, on, "a", 5), event(4, off, "a", 5)];
        assert_eq!(broken(again), 1);
        let taken = Event { reason: "takeovered".into(), ..second };
        assert_eq!(broken(vec![first.clone(), taken, event(3, on, "a", 7), event(4, off, "a", 7)]), 1);
        assert_eq!(broken(vec![event(1, off, "a", 5)]), 1);
        assert_eq!(broken(vec![first]), 1, "without an end");
    }

    #[test]
    fn a_subscription_by_an_older_connection_is_found_in_the_log() {
        let taken = Event { reason: "takeovered".into(), ..event(2, Disconnected, "a", 5) };
        let events = vec![
            event(1, Connected, "a", 5),
            taken,
            event(3, Connected, "a", 6),
            event(4, Subscribed, "a", 5),
            event(5, Disconnected, "a", 6),
        ];
        assert_eq!(broken(events), 1);
    }

    #[test]
    fn an_old_owner_that_acts_after_the_new_connack_is_found() {
        let refused = History {
            connections: vec![crate::history::Connection {
                superseded: Some(s(10)),
                late: Some((s(10), false)),
                ..connection("a", 5, 11)
            }],
            ..History::default()
        };
        assert_eq!(check(&refused).broken, 0);
        let mut granted = refused;
        granted.connections[0].late = Some((s(10), true));
        assert_eq!(check(&granted).broken, 1);
    }

    #[test]
    fn an_old_connection_that_stays_open_is_found_unless_its_node_was_cut_off() {
        let mut history = History {
            connections: vec![crate::history::Connection { superseded: Some(s(10)), ..connection("a", 5, 17) }],
            ..History::default()
        };
        assert_eq!(check(&history).broken, 1);
        history.spans = vec![span(Fault::Partition, &[0], 8, 14)];
        assert_eq!(check(&history).broken, 0);
    }
}
