//! The numbered statements of MQTT, the tests that carry their ids, and the document that joins the two.
//!
//! A test carries a statement by its id in a comment above it or anywhere within it: `[MQTT-3.8.3-3]` for 5.0,
//! `[MQTT-3.8.3-4/3.1.1]` for 3.1.1. The statements are in `tests/clauses`, in our own words; each has either a test or
//! a reason why none does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::binary::{source, sources};

/// What stands for a test that could be there and is not.
pub const NOT_YET: &str = "no test yet";

/// A version of the protocol: its file, and how its ids end in tests.
const VERSIONS: [(&str, &str, &str); 2] = [("5.0", "mqtt-5.0.tsv", ""), ("3.1.1", "mqtt-3.1.1.tsv", "/3.1.1")];

/// One numbered statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// As tests write it: without brackets, with the version where that is not 5.0.
    pub id: String,
    /// `server`, `client` or `both`.
    pub whom: String,
    pub statement: String,
    /// Why no test carries it; empty where one must.
    pub why: String,
}

impl Clause {
    fn chapter(&self) -> &str {
        self.id.trim_start_matches("MQTT-").split('.').next().unwrap_or_default()
    }
}

/// Where a test that carries an id is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    pub function: String,
}

/// By id, the tests that carry it.
pub type Carried = BTreeMap<String, BTreeSet<Place>>;

/// All statements of each version, in the order of the specification.
pub fn clauses() -> Vec<(&'static str, Vec<Clause>)> {
    VERSIONS.into_iter().map(|(version, file, suffix)| (version, read(file, suffix))).collect()
}

fn read(file: &str, suffix: &str) -> Vec<Clause> {
    let text = source(&Path::new("tests/clauses").join(file));
    let clause = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, whom, statement, why] = fields[..] else { panic!("{file}: four fields, not {line:?}") };
        assert!(["server", "client", "both"].contains(&whom), "{file}: {id} is about {whom:?}");
        Clause { id: format!("{id}{suffix}"), whom: whom.into(), statement: statement.into(), why: why.into() }
    };
    text.lines().skip(1).map(clause).collect()
}

/// The ids that tests anywhere in the workspace carry.
pub fn carried() -> Carried {
    let mut carried = Carried::new();
    for file in sources() {
        let text = source(&file);
        for (function, ids) in tests(&text, is_case_file(&file)) {
            for id in ids {
                let place = Place { file: file.display().to_string(), function: function.clone() };
                carried.entry(id).or_default().insert(place);
            }
        }
    }
    carried
}

/// Whether the tests of a file are cases of the conformance suite, which have no attribute.
fn is_case_file(file: &Path) -> bool {
    file.starts_with("tests/tests/conformance")
}

/// The test functions of a file, each with the ids in the comments above it and within it.
fn tests(text: &str, cases: bool) -> Vec<(String, BTreeSet<String>)> {
    let mut found: Vec<(String, BTreeSet<String>)> = Vec::new();
    let (mut above, mut is_test) = (BTreeSet::new(), false);
    // How far the function is indented whose lines these are, if it is a test.
    let mut within: Option<usize> = None;
    for line in text.lines() {
        let code = line.trim_start();
        let indented = line.len() - code.len();
        if let Some(depth) = within {
            if let Some((_, ids)) = found.last_mut() {
                ids.extend(ids_in(line));
            }
            if line == format!("{}}}", " ".repeat(depth)) {
                within = None;
            }
        } else if code.starts_with("//") {
            above.extend(ids_in(code));
        } else if code.starts_with("#[") {
            is_test |= code.starts_with("#[test]") || code.starts_with("#[tokio::test");
        } else {
            let ids = std::mem::take(&mut above);
            let marked = std::mem::take(&mut is_test);
            if let Some(name) = function(code)
                && (marked || cases && code.contains("(broker: Broker)"))
            {
                found.push((name.to_owned(), ids));
                within = Some(indented);
            }
        }
    }
    found
}

/// The name of the function that begins on this line.
fn function(code: &str) -> Option<&str> {
    let code = code.strip_prefix("pub ").unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code);
    code.strip_prefix("fn ")?.split(['(', '<']).next()
}

/// Every `[MQTT-…]` of a line, without its brackets.
fn ids_in(line: &str) -> impl Iterator<Item = String> {
    let behind = line.split("[MQTT-").skip(1);
    behind.filter_map(|rest| rest.split_once(']')).map(|(id, _)| format!("MQTT-{id}"))
}

/// What is wrong between statements and tests; nothing, if all is well.
pub fn complaints(clauses: &[(&str, Vec<Clause>)], carried: &Carried) -> Vec<String> {
    let all: BTreeMap<&str, &Clause> = clauses.iter().flat_map(|(_, of)| of).map(|c| (&*c.id, c)).collect();
    let mut complaints = Vec::new();
    if all.len() < clauses.iter().map(|(_, of)| of.len()).sum() {
        complaints.push("an id is there twice".to_owned());
    }
    for (id, places) in carried.iter().filter(|(id, _)| !all.contains_key(&***id)) {
        complaints.push(format!("{id} is no statement of MQTT, but {places:?} carry it"));
    }
    for (id, clause) in all {
        match (carried.contains_key(id), clause.why.is_empty()) {
            (false, true) => complaints.push(format!("{id} has neither a test nor a reason: {}", clause.statement)),
            (true, false) => complaints.push(format!("{id} has tests, and the reason for none: {}", clause.why)),
            (true, true) | (false, false) => {}
        }
    }
    complaints
}

/// `docs/conformance.md`.
pub fn document(clauses: &[(&str, Vec<Clause>)], carried: &Carried) -> String {
    let mut out = String::from(INTRODUCTION);
    for (version, of) in clauses {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## MQTT {version}\n\n{COUNTS}");
        let mut chapters: Vec<&str> = of.iter().map(Clause::chapter).collect();
        chapters.dedup();
        for chapter in &chapters {
            let of: Vec<&Clause> = of.iter().filter(|clause| clause.chapter() == *chapter).collect();
            let _ = writeln!(out, "| {chapter} | {} |", counts(&of));
        }
        let _ = writeln!(out, "| all | {} |", counts(&of.iter().collect::<Vec<_>>()));
        for chapter in chapters {
            let _ = write!(out, "\n### {version}, chapter {chapter}\n\n| | | tests |\n|---|---|---|\n");
            for clause in of.iter().filter(|clause| clause.chapter() == chapter) {
                let _ = writeln!(out, "| {} | {} | {} |", short(&clause.id), clause.statement, proof(clause, carried));
            }
        }
    }
    out
}

fn counts(clauses: &[&Clause]) -> String {
    let tested = clauses.iter().filter(|clause| clause.why.is_empty()).count();
    let not_yet = clauses.iter().filter(|clause| clause.why == NOT_YET).count();
    format!("{} | {tested} | {} | {not_yet}", clauses.len(), clauses.len() - tested - not_yet)
}

fn short(id: &str) -> &str {
    id.trim_start_matches("MQTT-").trim_end_matches("/3.1.1")
}

fn proof(clause: &Clause, carried: &Carried) -> String {
    let Some(places) = carried.get(&clause.id) else { return format!("*{}*", clause.why) };
    let place = |place: &Place| format!("[`{}`](../{})", place.function, place.file);
    places.iter().map(place).collect::<Vec<_>>().join("<br>")
}

const INTRODUCTION: &str = "# Conformance

Every numbered statement of MQTT 5.0 and of MQTT 3.1.1 (their Appendix B), in our own words, and the tests that prove it.
Generated from `tests/clauses` and the ids that tests carry (`UPDATE=1 cargo test -p rollcall-tests --test house` writes
it anew). MQTT 3.1 has no numbered statements; most cases of `tests/tests/conformance` run for it too.

A statement without a test has a reason instead: it is about clients alone, or about something that Rollcall does not
do. Where a test could be and is not, that is counted apart.
";

const COUNTS: &str = "| chapter | statements | with tests | with reasons | no test yet |\n|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    /// With other brackets, so that this file carries none of these itself.
    const TEXT: &str = "
/// [ID-9.9.9-9] is not in a test.
fn helper() {}

/// [ID-1.0.0-1], [ID-1.0.0-2/3.1.1]
#[test]
fn a_test() {
    // [ID-1.0.0-3]
    helper();
}
// [ID-9.9.9-8]
const OTHER: u8 = 0;

    #[tokio::test(flavor = \"multi_thread\")]
    async fn another() {
        assert!(true, \"[ID-1.0.0-4]\");
    }

/// [ID-1.0.0-5]
async fn a_case(broker: Broker) {
}
";

    fn found(cases: bool) -> Vec<(String, Vec<String>)> {
        tests(&TEXT.replace("[ID-", "[MQTT-"), cases)
            .into_iter()
            .map(|(name, ids)| (name, ids.into_iter().collect()))
            .collect()
    }

    #[test]
    fn a_test_carries_what_is_above_it_and_within_it() {
        let ids = |ids: &[&str]| ids.iter().map(|id| format!("MQTT-{id}")).collect::<Vec<_>>();
        let first = ("a_test".to_owned(), ids(&["1.0.0-1", "1.0.0-2/3.1.1", "1.0.0-3"]));
        let second = ("another".to_owned(), ids(&["1.0.0-4"]));
        let third = ("a_case".to_owned(), ids(&["1.0.0-5"]));
        assert_eq!(found(false), [first.clone(), second.clone()]);
        assert_eq!(found(true), [first, second, third]);
    }

    #[test]
    fn what_is_missing_twice_or_unknown_is_complained_of() {
        let clause = |id: &str, why: &str| Clause {
            id: id.into(),
            whom: "server".into(),
            statement: "it does".into(),
            why: why.into(),
        };
        let clauses = [("5.0", vec![clause("MQTT-1", ""), clause("MQTT-2", "declined"), clause("MQTT-3", "declined")])];
        let place = Place { file: "f.rs".into(), function: "f".into() };
        let carried: Carried = ["MQTT-2", "MQTT-4"].map(|id| (id.to_owned(), BTreeSet::from([place.clone()]))).into();
        let complaints = complaints(&clauses, &carried);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        for id in ["MQTT-1", "MQTT-2", "MQTT-4"] {
            assert!(complaints.iter().any(|complaint| complaint.starts_with(id)), "{id}: {complaints:?}");
        }
    }
}
