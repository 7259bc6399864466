//! What a rolling restart did to those who were there. Pure.

use std::time::Duration;

use crate::check::p9_rolling_restart::{GO_AWAY, NOTICED, Reasons, reasons};
use crate::check::{self, Verdict};
use crate::history::{Connection, Drained, End, History};
use crate::run::{percentile, shown};

/// Of one drain: clients that lost their connection by it, and what they and the log say of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    five: usize,
    in_words: usize,
    three: usize,
    in_events: usize,
}

/// # Errors
/// What does not hold.
pub fn judge(history: &History, backs: &[Duration], most: f64) -> Result<(), String> {
    let mut broken = drains(history);
    let [middle, slow, longest] = shown(backs);
    println!("\nback after losing the connection, {} times: p50 {middle}, p99 {slow}, longest {longest}", backs.len());
    if percentile(backs, 0.99).is_none_or(|slow| slow.as_secs_f64() > most) {
        broken.push(format!("99 % of the clients must be back within {most} s"));
    }
    if let Some(queues) = &history.queues {
        let judgement = check::p4_majority_of_disks::judge(queues);
        println!(
            "queues: {} acknowledged, {} deliveries owed, {} came, {} lost",
            judgement.acknowledged, judgement.owed, judgement.delivered, judgement.lost.count
        );
    }
    let logs = history.logs.len();
    println!("events: {}, at {logs} nodes\n", history.events.len());
    println!("{:<28} {:>10} {:>13}", "promises", "checked", "violations");
    for Verdict { promise, checked, broken: count, examples } in verdicts(history) {
        println!("{promise:<28} {checked:>10} {count:>13}");
        if count > 0 {
            broken.push(format!("{promise}: {}", examples.join("; ")));
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

/// Those whose subject occurs here.
fn verdicts(history: &History) -> Vec<Verdict> {
    vec![
        check::p1_one_owner::check(history),
        check::p4_majority_of_disks::check(history),
        check::p5_events_are_the_log::check(history),
        check::p8_nothing_acknowledged_is_lost::check(history),
        check::p9_rolling_restart::check(history),
    ]
}

fn drains(history: &History) -> Vec<String> {
    let reasons = reasons(history);
    let mut broken = Vec::new();
    println!(
        "\n{:<10} {:>9} {:>9} {:>22} {:>14} {:>15}",
        "drained", "took s", "clients", "5.0 told go_away", "3.1.1 closed", "go_away events"
    );
    for drain in &history.drains {
        let told = told(history, drain, &reasons);
        let (all, took) = (told.five + told.three, (drain.exited - drain.from).as_secs_f64());
        let words = format!("{} of {}", told.in_words, told.five);
        println!(
            "{:<10} {took:>9.2} {all:>9} {words:>22} {:>14} {:>15}",
            format!("node-{}", drain.node),
            told.three,
            told.in_events
        );
        if all == 0 || told.in_words != told.five || told.in_events != all {
            broken.push(format!("not all clients of node-{} were told: {told:?}", drain.node));
        }
    }
    let others = history.connections.iter().filter(|it| lost_otherwise(history, it)).count();
    if others > 0 {
        broken.push(format!("{others} clients lost their connection without a drain"));
    }
    broken
}

fn told(history: &History, drain: &Drained, reasons: &Reasons<'_>) -> Told {
    let mut told = Told::default();
    for it in history.connections.iter().filter(|it| ended_by(drain, it)) {
        if it.five {
            told.five += 1;
            told.in_words += usize::from(matches!(it.end, End::Told(code) if GO_AWAY.contains(&code)));
        } else {
            told.three += 1;
        }
        let logged = reasons.get(&(it.client_id.as_str(), it.peer.as_str()));
        told.in_events += usize::from(logged.is_some_and(|logged| logged.contains(&"go_away")));
    }
    told
}

fn was_ended(it: &Connection) -> bool {
    it.granted.is_some() && matches!(it.end, End::Told(_) | End::Closed)
}

fn ended_by(drain: &Drained, it: &Connection) -> bool {
    was_ended(it) && it.node == drain.node && it.ended >= drain.from && it.ended <= drain.exited + NOTICED
}

fn lost_otherwise(history: &History, it: &Connection) -> bool {
    was_ended(it) && !history.drains.iter().any(|drain| ended_by(drain, it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{connection, event, s};
    use crate::history::{Event, Kind};

    fn history(ends: &[(bool, End, &str)]) -> History {
        let mut history =
            History { drains: vec![Drained { node: 0, from: s(10), exited: s(12) }], ..History::default() };
        for (number, (five, end, reason)) in ends.iter().enumerate() {
            let client = format!("device-{number}");
            let gone = event(number as u64 + 1, Kind::Disconnected, &client, 1);
            history.events.push(Event { reason: (*reason).into(), ..gone });
            history.connections.push(Connection { five: *five, end: *end, ..connection(&client, 1, 11) });
        }
        history
    }

    fn judged(ends: &[(bool, End, &str)]) -> Told {
        let history = history(ends);
        told(&history, &history.drains[0], &reasons(&history))
    }

    #[test]
    fn a_client_that_was_closed_without_a_word_or_has_no_event_is_seen() {
        let all = judged(&[(true, End::Told(0x9C), "go_away"), (false, End::Closed, "go_away")]);
        assert_eq!(all, Told { five: 1, in_words: 1, three: 1, in_events: 2 });
        let silent = judged(&[(true, End::Closed, "server_internal_error")]);
        assert_eq!(silent, Told { five: 1, ..Told::default() });
    }

    #[test]
    fn who_left_was_not_sent_away_and_who_was_lost_without_a_drain_is_found() {
        assert_eq!(judged(&[(true, End::Left, "normal")]), Told::default());
        let mut history = history(&[(true, End::Closed, "tcp_closed")]);
        assert!(!lost_otherwise(&history, &history.connections[0]));
        history.drains[0].node = 1;
        assert!(lost_otherwise(&history, &history.connections[0]));
    }
}
