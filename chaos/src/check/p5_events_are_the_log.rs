//! P5: each change yields exactly one event, in one order with a gap-free `seq`, the same on every node.

use std::collections::{BTreeMap, HashMap};

use crate::check::Verdict;
use crate::history::{Connection, Event, History, Kind};

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P5 events are the log");
    alike(&history.logs, &mut verdict);
    connections(history, &mut verdict);
    subscriptions(history, &mut verdict);
    verdict
}

fn alike(logs: &[Vec<(u64, u64)>], verdict: &mut Verdict) {
    let Some(first) = logs.first() else { return };
    for (node, log) in logs.iter().enumerate() {
        for (place, (seq, _)) in (1..).zip(log) {
            verdict.expect(*seq == place, || format!("node-{node} tells {seq} as its event number {place}"));
        }
        let differs = first.iter().zip(log).find(|(one, other)| one != other);
        let same = differs.is_none() && first.len() == log.len();
        verdict.expect(same, || {
            let (count, of) = (log.len(), first.len());
            format!("node-{node} tells {count} events, node-0 {of}; the first that differ: {differs:?}")
        });
    }
}

/// Each connection that a client was granted is in the log once, and the log has none that no client asked for.
fn connections(history: &History, verdict: &mut Verdict) {
    let connected = |event: &&Event| event.kind == Kind::Connected;
    let mut logged: HashMap<(&str, &str), u64> = HashMap::new();
    for event in history.events.iter().filter(connected) {
        *logged.entry((&event.client, &event.peer)).or_default() += 1;
    }
    // An address may come again in a long run.
    let mut asked: HashMap<(&str, &str), (u64, u64)> = HashMap::new();
    for it in &history.connections {
        let counts = asked.entry((&it.client_id, &it.peer)).or_default();
        counts.0 += u64::from(it.granted.is_some());
        counts.1 += 1;
    }
    for (key, (granted, attempts)) in asked {
        let found = logged.get(&key).copied().unwrap_or_default();
        let (client, peer) = key;
        verdict.expect((granted..=attempts).contains(&found), || {
            format!("{client} from {peer} was granted {granted} of {attempts} connections, {found} are in the log")
        });
    }
}

/// Each filter that had its SUBACK is in the log once per connection.
fn subscriptions(history: &History, verdict: &mut Verdict) {
    let mut peers: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    let mut logged: HashMap<(&str, &str, &str), u64> = HashMap::new();
    for event in &history.events {
        match event.kind {
            Kind::Connected => {
                peers.insert((&event.client, event.epoch), &event.peer);
            }
            Kind::Subscribed => {
                let peer = peers.get(&(event.client.as_str(), event.epoch)).copied().unwrap_or_default();
                *logged.entry((&event.client, peer, &event.topic)).or_default() += 1;
            }
            Kind::Disconnected | Kind::Unsubscribed => {}
        }
    }
    // The same address may come again, and ask for the same.
    let mut asked: HashMap<(&str, &str, &str), (u64, u64)> = HashMap::new();
    for Connection { client_id, peer, subscribed, .. } in &history.connections {
        for (filter, granted) in subscribed {
            let counts = asked.entry((client_id, peer, filter)).or_default();
            counts.0 += u64::from(*granted);
            counts.1 += 1;
        }
    }
    for (key, (granted, asked)) in asked {
        let found = logged.get(&key).copied().unwrap_or_default();
        let (client, peer, filter) = key;
        verdict.expect((granted..=asked).contains(&found), || {
            format!("{client} from {peer} was granted {filter} {granted} times of {asked}, {found} are in the log")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event};
    use crate::history::Kind::{Connected, Subscribed};

    fn broken(logs: &[&[(u64, u64)]]) -> u64 {
        let logs = logs.iter().map(|log| log.to_vec()).collect();
        check(&History { logs, ..History::default() }).broken
    }

    #[test]
    fn logs_that_are_alike_and_gap_free_pass() {
        assert_eq!(broken(&[&[(1, 7), (2, 8)], &[(1, 7), (2, 8)]]), 0);
    }

    #[test]
    fn a_gap_an_event_twice_another_event_and_a_missing_one_are_found() {
        assert_eq!(broken(&[&[(1, 7), (3, 8)]]), 1);
        assert_eq!(broken(&[&[(1, 7), (1, 7)]]), 1);
        assert_eq!(broken(&[&[(1, 7), (2, 8)], &[(1, 7), (2, 9)]]), 1);
        assert_eq!(broken(&[&[(1, 7), (2, 8)], &[(1, 7)]]), 1);
    }

    fn history() -> History {
        let filter = Event { topic: "t".into(), ..event(2, Subscribed, "a", 1) };
        let mut asked = connection("a", 1, 2);
        asked.subscribed = vec![("t".into(), true)];
        History { events: vec![event(1, Connected, "a", 1), filter], connections: vec![asked], ..History::default() }
    }

    #[test]
    fn a_granted_connection_and_subscription_are_in_the_log_once() {
        assert_eq!(check(&history()).broken, 0);
        let mut unanswered = history();
        unanswered.connections[0] = Connection { granted: None, subscribed: Vec::new(), ..connection("a", 1, 2) };
        assert_eq!(check(&unanswered).broken, 0, "its CONNACK may have got lost");
    }

    #[test]
    fn a_connection_or_subscription_missing_from_the_log_or_twice_in_it_is_found() {
        let mut missing = history();
        missing.events.clear();
        assert_eq!(check(&missing).broken, 2);
        let mut twice = history();
        twice.events.extend(history().events);
        assert_eq!(check(&twice).broken, 2);
    }
}
