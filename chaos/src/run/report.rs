//! The table at the end of a run.

use std::fmt::Write;
use std::time::Duration;

use clap::ValueEnum;

use crate::check::Verdict;
use crate::check::p4_majority_of_disks::judge;
use crate::history::{Action, History};
use crate::run::recovery::{measure, percentile};
use crate::run::schedule::Fault;

const ACTIONS: [(Action, &str); 5] = [
    (Action::Connect, "connect"),
    (Action::Subscribe, "subscribe"),
    (Action::Publish, "publish to clean sessions"),
    (Action::Retain, "publish retained"),
    (Action::Queue, "publish to queues"),
];
/// Answered operations per second of a run that says something.
const LEAST_RATE: f64 = 10.0;

pub fn table(history: &History, verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    // Writing into memory cannot fail.
    let _ = operations(&mut text, history);
    let _ = deliveries(&mut text, history);
    let _ = faults(&mut text, history);
    let _ = promises(&mut text, verdicts);
    text
}

fn operations(text: &mut String, history: &History) -> std::fmt::Result {
    writeln!(text, "\n{:<28} {:>10} {:>13} {:>9} {:>9}", "operations", "tried", "acknowledged", "p50 ms", "p99 ms")?;
    for (action, name) in ACTIONS {
        let of_this = || history.operations.iter().filter(|operation| operation.action == action);
        let took: Vec<Duration> = of_this().filter_map(|operation| operation.took).collect();
        let tried = match (&history.queues, action) {
            (Some(queues), Action::Queue) => queues.sent.0.values().map(Vec::len).sum(),
            _ => of_this().count(),
        };
        let [middle, slow] = [0.5, 0.99].map(|part| milliseconds(percentile(&took, part)));
        writeln!(text, "{name:<28} {tried:>10} {:>13} {middle:>9} {slow:>9}", took.len())?;
    }
    Ok(())
}

fn deliveries(text: &mut String, history: &History) -> std::fmt::Result {
    if let Some(queues) = &history.queues {
        let judgement = judge(queues);
        writeln!(text, "\n{:<28} {:>10} {:>13} {:>9} {:>9}", "queues", "owed", "came", "lost", "twice")?;
        let (owed, came, lost) = (judgement.owed, judgement.delivered, judgement.lost.count);
        let duplicates = judgement.duplicates;
        writeln!(text, "{:<28} {owed:>10} {came:>13} {lost:>9} {duplicates:>9}", "at QoS 1 and 2")?;
        writeln!(text, "{:<28} {:>10} {:>13} {:>9} {:>9}", "at QoS 2 alone", "", "", "", judgement.repeated.count)?;
    }
    let (wills, came) = (history.wills.len(), history.will_arrivals.len());
    let (events, refused) = (history.events.len(), history.refused_by_limit);
    writeln!(text, "\n{wills} wills, {came} came; {events} events; {refused} refused by the limit of {}", history.limit)
}

/// Seconds from the beginning of a fault until clients succeed at the nodes that were left alone, and from its end until
/// they do at all.
fn faults(text: &mut String, history: &History) -> std::fmt::Result {
    writeln!(text, "\n{:<28} {:>10} {:>23} {:>23}", "", "", "the others go on, s", "all recover, s")?;
    write!(text, "{:<28} {:>10}", "faults", "times")?;
    writeln!(text, " {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}", "p50", "p99", "longest", "p50", "p99", "longest")?;
    let row = |text: &mut String, name: &str, kind: Option<Fault>| {
        let spans = || history.spans.iter().filter(|span| kind.is_none_or(|kind| span.fault == kind));
        let recovery = measure(history, spans(), history.logs.len());
        write!(text, "{name:<28} {:>10}", spans().count())?;
        for times in [recovery.others, recovery.all] {
            let [middle, slow, longest] = [0.5, 0.99, 1.0].map(|part| seconds(percentile(&times, part)));
            write!(text, " {middle:>7} {slow:>7} {longest:>7}")?;
        }
        writeln!(text)
    };
    for kind in Fault::value_variants() {
        if history.spans.iter().any(|span| span.fault == *kind) {
            row(text, kind.name(), Some(*kind))?;
        }
    }
    row(text, "all", None)
}

fn promises(text: &mut String, verdicts: &[Verdict]) -> std::fmt::Result {
    writeln!(text, "\n{:<28} {:>10} {:>13}", "promises", "checked", "violations")?;
    for Verdict { promise, checked, broken, .. } in verdicts {
        let unseen = if *checked == 0 && *broken == 0 { "  nothing to check in this run" } else { "" };
        writeln!(text, "{promise:<28} {checked:>10} {broken:>13}{unseen}")?;
    }
    Ok(())
}

/// # Errors
/// So little happened that it proves nothing.
pub fn says_something(history: &History, time: Duration) -> Result<(), String> {
    let answered = history.operations.iter().filter(|operation| operation.took.is_some()).count();
    if (answered as f64) < LEAST_RATE * time.as_secs_f64() {
        return Err(format!("only {answered} operations were answered, which says nothing"));
    }
    if history.spans.is_empty() { Err("no fault was injected".into()) } else { Ok(()) }
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1000.0))
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{s, span};
    use crate::history::Operation;

    #[test]
    fn the_table_has_operations_faults_and_promises() {
        let operations = vec![Operation { action: Action::Connect, ended: s(1), took: Some(s(1)) }];
        let spans = vec![span(Fault::Kill, &[0], 1, 2), span(Fault::Kill, &[1], 3, 4)];
        let history = History { operations, spans, ..History::default() };
        let mut verdict = Verdict::new("P1 one owner");
        verdict.expect(false, || "wrong".into());
        let text = table(&history, &[verdict, Verdict::new("P2 exact limits")]);
        assert!(text.contains("connect                               1             1    1000.0    1000.0"), "{text}");
        assert!(text.contains("kill -9                               2       -"), "{text}");
        assert!(text.contains("P1 one owner                          1             1\n"));
        assert!(text.contains("nothing to check"));
    }

    #[test]
    fn a_run_in_which_nothing_happened_says_nothing() {
        let mut history = History { spans: vec![span(Fault::Kill, &[0], 1, 2)], ..History::default() };
        assert!(says_something(&history, s(1)).is_err());
        let operation = Operation { action: Action::Connect, ended: s(1), took: Some(s(1)) };
        history.operations = vec![operation; 10];
        assert!(says_something(&history, s(1)).is_ok());
        history.spans.clear();
        assert!(says_something(&history, s(1)).is_err());
    }
}
