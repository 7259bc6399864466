//! P2: at no position of the log does the cluster hold more connections than its limit, and no clients ever see more of
//! them answered at one moment.

use std::collections::BTreeSet;

use crate::check::Verdict;
use crate::history::{At, Connection, History, Kind};
use crate::run::schedule::Fault;

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P2 exact limits");
    let mut online = BTreeSet::new();
    for event in &history.events {
        match event.kind {
            Kind::Connected => {
                online.insert((&event.client, event.epoch));
                let held = online.len() as u64;
                verdict.expect(held <= history.limit, || {
                    format!("{held} connections where {} are allowed: {event:?}", history.limit)
                });
            }
            Kind::Disconnected => {
                online.remove(&(&event.client, event.epoch));
            }
            Kind::Subscribed | Kind::Unsubscribed => {}
        }
    }
    as_clients_saw(history, &mut verdict);
    verdict
}

/// Each connection was there from its CONNACK to the last ping that was answered. One that was taken over holds no slot;
/// one whose node stood still longer than its lease may answer before it closes.
fn as_clients_saw(history: &History, verdict: &mut Verdict) {
    let counts = |it: &&Connection| {
        it.superseded.is_none() && !history.hurt(it.node, it.asked, it.ended, |fault| fault == Fault::LongPause)
    };
    let mut changes: Vec<(At, i64)> = Vec::new();
    for connection in history.connections.iter().filter(counts) {
        if let Some(granted) = connection.granted.filter(|granted| *granted < connection.alive) {
            changes.extend([(granted, 1), (connection.alive, -1)]);
        }
    }
    // At the same moment the ends come first.
    changes.sort_unstable();
    let (mut held, mut most) = (0, (0, At::ZERO));
    for (at, change) in changes {
        held += change;
        most = most.max((held, at));
    }
    verdict.expect(most.0 <= history.limit as i64, || {
        format!("{} connections were answered at {:.3?}, {} are allowed", most.0, most.1, history.limit)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event, s, span};
    use crate::history::Kind::{Connected, Disconnected};

    #[test]
    fn as_many_as_allowed_pass_and_one_too_many_is_found() {
        let mut events = vec![
            event(1, Connected, "a", 1),
            event(2, Connected, "b", 1),
            event(3, Disconnected, "c", 0),
            event(4, Disconnected, "a", 1),
            event(5, Connected, "c", 1),
        ];
        let history = |events: &[_]| History { limit: 2, events: events.to_vec(), ..History::default() };
        assert_eq!(check(&history(&events)).broken, 0);
        events.remove(3);
        assert_eq!(check(&history(&events)).broken, 1);
    }

    fn answered(client: &str, from: u64, to: u64) -> Connection {
        Connection { alive: s(to), ..connection(client, from, to + 1) }
    }

    #[test]
    fn more_than_allowed_at_one_moment_are_found_by_what_clients_saw() {
        let connections = vec![answered("a", 1, 5), answered("b", 4, 8)];
        let mut history = History { limit: 1, connections, ..History::default() };
        assert_eq!(check(&history).broken, 1);
        history.spans = vec![span(Fault::LongPause, &[0], 2, 3)];
        assert_eq!(check(&history).broken, 0);
        history.spans.clear();
        history.connections[1] = answered("b", 5, 8);
        assert_eq!(check(&history).broken, 0);
    }
}
