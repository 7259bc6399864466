//! The rules of the house that a compiler does not check: pure modules stay pure, dependencies point one way, files
//! stay readable, queues have bounds.

use std::path::{Path, PathBuf};
use std::process::Command;

use rollcall_tests::binary::{source, sources, workspace};
use rollcall_tests::clauses;
use serde_json::Value;

/// Files, or folders with everything in them, whose code is a function of its arguments alone.
const PURE: &[&str] = &[
    "proto/src/codec.rs",
    "proto/src/codec",
    "proto/src/packet.rs",
    "proto/src/properties.rs",
    "proto/src/reason.rs",
    "proto/src/session.rs",
    "proto/src/session",
    "proto/src/topic.rs",
    "proto/src/trie.rs",
    "cluster/src/roster.rs",
    "cluster/src/roster",
    "cluster/src/routes.rs",
    "cluster/src/inbox.rs",
    "cluster/src/inbox",
    "cluster/src/pages.rs",
    "cluster/src/records.rs",
    "cluster/src/sorted.rs",
];

/// What pure code never names: runtimes, Raft, transports, stores, clocks, chance, files, sockets, threads.
const IMPURE: &[&str] = &[
    "tokio",
    "openraft",
    "tonic",
    "sled",
    "Instant",
    "SystemTime",
    "rand",
    "RandomState",
    "fs",
    "net",
    "thread",
    "process",
    "env",
    "rustix",
    "rollcall_storage",
];

/// Longer files hold more than one idea.
const MOST_LINES: usize = 500;

/// Which of our crates each crate may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("rollcall-proto", &[]),
    ("rollcall-storage", &[]),
    ("rollcall-cluster", &["rollcall-proto", "rollcall-storage"]),
    ("rollcall", &["rollcall-proto", "rollcall-cluster"]),
    ("rollcall-tests", &["rollcall-proto", "rollcall-storage", "rollcall-cluster", "rollcall", "rollcall-chaos"]),
    ("rollcall-chaos", &[]),
];

/// What a crate's own tests may use besides: a simulation is judged by the checkers that judge real clusters.
const TESTS_MAY_USE: &[(&str, &str)] = &[("rollcall-cluster", "rollcall-chaos")];

/// The code of a file: without comments, and without the test module at its end.
fn code(text: &str) -> String {
    let tested = text.split("#[cfg(test)]").next().unwrap_or_default();
    tested.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names in a piece of code.
fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty())
}

/// What a piece of code names although a pure one must not; a path such as `std::fs` counts by its parts.
fn impurities(code: &str) -> Vec<&'static str> {
    let paths = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').filter(|path| path.contains("::"));
    let parts: Vec<&str> = paths.flat_map(|path| path.split("::")).collect();
    let imported: Vec<&str> =
        code.lines().filter(|line| line.trim_start().starts_with("use ")).flat_map(names).collect();
    IMPURE.iter().filter(|bad| parts.contains(bad) || imported.contains(bad)).copied().collect()
}

fn is_test(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "benches", "fuzz", "simulation", "simulation.rs"];
    path.iter().any(|part| names.iter().any(|name| part == *name))
}

#[test]
fn pure_modules_name_no_runtime_raft_storage_clock_or_chance() {
    let all = sources();
    for pure in PURE {
        let ours: Vec<&PathBuf> = all.iter().filter(|path| path.starts_with(pure) && !is_test(path)).collect();
        assert!(!ours.is_empty(), "{pure} has moved: say here what became of it");
        for path in ours {
            let found = impurities(&code(&source(path)));
            assert!(found.is_empty(), "{} names {found:?}", path.display());
        }
    }
}

#[test]
fn an_impure_line_would_be_found() {
    assert_eq!(impurities("use std::time::Instant;"), ["Instant"]);
    assert_eq!(impurities("use std::{collections::HashMap, time::SystemTime};"), ["SystemTime"]);
    assert_eq!(impurities("let now = std::time::SystemTime::now();"), ["SystemTime"]);
    assert_eq!(impurities("tokio::spawn(work());"), ["tokio"]);
    assert_eq!(impurities("let x = rand::random::<u8>();"), ["rand"]);
    assert_eq!(impurities("std::fs::read(path)?;"), ["fs"]);
    assert!(impurities(&code("// tokio::spawn would be wrong here\nlet net = 3;")).is_empty());
    assert!(impurities(&code("fn f() {}\n#[cfg(test)]\nmod tests { use std::time::Instant; }")).is_empty());
}

#[test]
fn one_file_alone_names_sled() {
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().contains("sled::");
    let names_it = |path: &PathBuf| !is_test(path) && source(path).lines().any(without_comment);
    let found: Vec<PathBuf> = sources().into_iter().filter(names_it).collect();
    assert_eq!(found, [PathBuf::from("storage/src/bodies.rs")]);
}

#[test]
fn dependencies_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .expect("cargo tells the packages");
    let told: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = told["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), MAY_USE.len(), "a crate that this test does not know");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = MAY_USE.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is new"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            let ours = used == "rollcall" || used.starts_with("rollcall-");
            let in_tests = dependency["kind"] == "dev" && TESTS_MAY_USE.contains(&(name, used));
            assert!(!ours || in_tests || allowed.contains(&used), "{name} must not use {used}");
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    for path in sources() {
        let lines = source(&path).lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines, more than {MOST_LINES}", path.display());
    }
}

#[test]
fn no_channel_is_unbounded_and_nothing_is_left_for_later() {
    // Put together here so that this file does not find itself.
    let later = ["TODO", "FIXME"].map(|word| format!("{word}:"));
    let ignored = ["#[", "ignore"].concat();
    for path in sources() {
        let text = source(&path);
        if !is_test(&path) {
            let code = code(&text);
            assert!(!names(&code).any(|name| name.contains("unbounded")), "{}: an unbounded queue", path.display());
        }
        for left in later.iter().chain([&ignored]) {
            assert!(!text.contains(left.as_str()), "{}: {left}", path.display());
        }
    }
}

#[test]
fn every_statement_of_mqtt_has_a_test_or_a_reason_and_every_test_carries_statements_that_exist() {
    let complaints = clauses::complaints(&clauses::clauses(), &clauses::carried());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_conformance_document_is_up_to_date() {
    let path = workspace().join("docs/conformance.md");
    let document = clauses::document(&clauses::clauses(), &clauses::carried());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &document).expect("docs/conformance.md is written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/conformance.md is there");
    assert!(written == document, "docs/conformance.md is stale: UPDATE=1 cargo test -p rollcall-tests --test house");
}
