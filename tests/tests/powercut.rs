//! The power-cut layer loses what was not synced and nothing else, and what the storage acknowledges survives it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use bytes::Bytes;
use rollcall_chaos::disk::{Lost, PowerCut};
use rollcall_storage::{EventLog, EventLogOptions, RaftLog, RaftLogOptions, Snapshots};
use rustix::process::{Signal, getpid, kill_process};
use tempfile::TempDir;

/// Names the script that this program runs when it is a child of its own.
const SCRIPT: &str = "POWERCUT_TEST_SCRIPT";
const FOLDER: &str = "POWERCUT_TEST_FOLDER";

/// Not a test: what the children do, before the power is cut.
#[test]
fn child() {
    let Some(script) = std::env::var_os(SCRIPT) else { return };
    let folder = std::env::var_os(FOLDER).expect("a folder to work in");
    let dir = Path::new(&folder);
    match script.to_str() {
        Some("content") => change_content(dir),
        Some("names") => change_names(dir),
        Some("twice") => overwrite(dir, b"second"),
        Some("storage") => use_storage(dir),
        other => panic!("no script {other:?}"),
    }
    kill_process(getpid(), Signal::KILL).expect("a process can kill itself");
}

fn spawn(script: &str, dir: &Path, env: Vec<(String, String)>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(["--exact", "child", "--nocapture"]).env(SCRIPT, script).env(FOLDER, dir).envs(env);
    command.stdout(Stdio::piped()).spawn().expect("the child starts")
}

/// Runs a script to the SIGKILL at its end.
fn run(script: &str, dir: &Path, env: Vec<(String, String)>) {
    let output = spawn(script, dir, env).wait_with_output().expect("the child ends");
    assert_eq!(output.status.signal(), Some(9), "{script}: {}", String::from_utf8_lossy(&output.stdout));
}

/// A folder with some files that have long been durable.
fn prepared() -> (TempDir, std::path::PathBuf, PowerCut) {
    let folder = tempfile::Builder::new().prefix("rollcall-powercut-").tempdir().expect("a temporary folder");
    let dir = folder.path().join("disk");
    fs::create_dir(&dir).expect("the folder is ours");
    for name in ["overwritten", "emptied", "shortened", "lengthened", "renamed", "replaced", "removed", "kept"] {
        fs::write(dir.join(name), old(name)).expect("the folder is ours");
    }
    let power = PowerCut::over(&dir);
    (folder, dir, power)
}

fn old(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(5000).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("the file is there")
}

fn overwrite(dir: &Path, bytes: &[u8]) {
    open(&dir.join("overwritten")).write_all_at(bytes, 100).expect("the disk takes it");
}

/// Each change once synced, and then one that is not.
fn change_content(dir: &Path) {
    let overwritten = open(&dir.join("overwritten"));
    overwritten.write_all_at(b"durable", 100).expect("the disk takes it");
    overwritten.sync_data().expect("the disk syncs");
    overwritten.write_all_at(b"lost", 103).expect("the disk takes it");
    overwritten.write_all_at(b"lost", 4998).expect("the disk takes it");

    let lengthened = OpenOptions::new().append(true).open(dir.join("lengthened")).expect("the file is there");
    (&lengthened).write_all(b"durable").expect("the disk takes it");
    lengthened.sync_all().expect("the disk syncs");
    (&lengthened).write_all(b"lost").expect("the disk takes it");

    let shortened = open(&dir.join("shortened"));
    shortened.set_len(3000).expect("the disk takes it");
    shortened.sync_all().expect("the disk syncs");
    shortened.set_len(10).expect("the disk takes it");
    shortened.write_all_at(b"lost", 50).expect("the disk takes it");

    let mut emptied = File::create(dir.join("emptied")).expect("the disk takes it");
    emptied.write_all(b"lost").expect("the disk takes it");
}

fn check_content(dir: &Path, synced: bool) {
    let mut overwritten = old("overwritten");
    let mut lengthened = old("lengthened");
    let mut shortened = old("shortened");
    if synced {
        overwritten[100..107].copy_from_slice(b"durable");
        lengthened.extend_from_slice(b"durable");
        shortened.truncate(3000);
    }
    assert_eq!(read(&dir.join("overwritten")), overwritten);
    assert_eq!(read(&dir.join("lengthened")), lengthened);
    assert_eq!(read(&dir.join("shortened")), shortened);
    assert_eq!(read(&dir.join("emptied")), old("emptied"));
}

fn create_synced(path: &Path) {
    let mut file = File::create(path).expect("the disk takes it");
    file.write_all(b"new").expect("the disk takes it");
    file.sync_all().expect("the disk syncs");
}

fn sync_dir(dir: &Path) {
    File::open(dir).expect("the folder is there").sync_all().expect("the disk syncs");
}

fn change_names(dir: &Path) {
    fs::create_dir(dir.join("durable-folder")).expect("the disk takes it");
    create_synced(&dir.join("published.tmp"));
    fs::rename(dir.join("published.tmp"), dir.join("published")).expect("the disk takes it");
    sync_dir(dir);

    create_synced(&dir.join("created"));
    create_synced(&dir.join("replaced.tmp"));
    fs::rename(dir.join("replaced.tmp"), dir.join("replaced")).expect("the disk takes it");
    fs::rename(dir.join("renamed"), dir.join("renamed-away")).expect("the disk takes it");
    fs::remove_file(dir.join("removed")).expect("the disk takes it");
    fs::create_dir(dir.join("lost-folder")).expect("the disk takes it");
    create_synced(&dir.join("lost-folder/file"));
    sync_dir(&dir.join("lost-folder"));
    create_synced(&dir.join("durable-folder/file"));
    sync_dir(&dir.join("durable-folder"));
    create_synced(&dir.join("durable-folder/lost"));
}

fn check_names(dir: &Path, synced: bool) {
    for lost in ["created", "published.tmp", "replaced.tmp", "renamed-away", "lost-folder", "durable-folder/lost"] {
        assert!(!dir.join(lost).exists(), "{lost} is there");
    }
    for kept in ["renamed", "replaced", "removed", "kept"] {
        assert_eq!(read(&dir.join(kept)), old(kept), "{kept}");
    }
    for durable in ["published", "durable-folder", "durable-folder/file"] {
        assert_eq!(dir.join(durable).exists(), synced, "{durable}");
    }
    assert!(!synced || read(&dir.join("published")) == b"new");
}

#[test]
fn a_synced_write_survives_and_one_that_was_not_is_undone() {
    let (_folder, dir, power) = prepared();
    run("content", &dir, power.env());
    assert_eq!(read(&dir.join("emptied")), b"lost", "the layer must not be what loses it before the cut");
    assert!(power.cut().writes > 0);
    check_content(&dir, true);
    assert_eq!(power.cut(), Lost::default(), "a cut has nothing to undo twice");
}

#[test]
fn names_survive_if_their_directory_was_synced_and_are_undone_if_not() {
    let (_folder, dir, power) = prepared();
    run("names", &dir, power.env());
    assert!(!dir.join("removed").exists(), "the layer must not be what undoes it before the cut");
    assert!(power.cut().names >= 7);
    check_names(&dir, true);
}

#[test]
fn on_a_disk_that_does_not_sync_everything_is_undone() {
    for script in ["content", "names"] {
        let (_folder, dir, power) = prepared();
        run(script, &dir, power.env_ignoring_syncs());
        power.cut();
        check_content(&dir, false);
        check_names(&dir, false);
    }
}

#[test]
fn what_a_killed_process_left_unsynced_stays_so_in_the_next_one() {
    let (_folder, dir, power) = prepared();
    run("content", &dir, power.env());
    run("twice", &dir, power.env());
    assert_eq!(&read(&dir.join("overwritten"))[100..107], b"secondt");
    power.cut();
    check_content(&dir, true);
}

#[test]
fn a_process_without_the_layer_is_left_alone() {
    let (_folder, dir, power) = prepared();
    run("names", &dir, Vec::new());
    assert_eq!(power.cut(), Lost::default());
    assert!(dir.join("created").exists());
}

fn payload(index: u64) -> Bytes {
    (0..300).map(|at| (index.wrapping_mul(31) + at) as u8).collect()
}

fn raft_log(dir: &Path) -> RaftLog {
    let options = RaftLogOptions { segment_size: 16 << 10, ..RaftLogOptions::default() };
    RaftLog::open(&dir.join("raft-log"), options).expect("the log opens")
}

fn event_log(dir: &Path) -> EventLog {
    let options = EventLogOptions { segment_size: 8 << 10 };
    EventLog::open(&dir.join("events"), options).expect("the events open")
}

fn snapshots(dir: &Path) -> Snapshots {
    Snapshots::open(&dir.join("snapshots"), 1).expect("the snapshots open")
}

/// Appends for ever, with snapshots and purges, and says what is durable.
fn use_storage(dir: &Path) {
    let (log, events, snapshots) = (raft_log(dir), event_log(dir), snapshots(dir));
    for index in log.state(1).last_index.map_or(0, |last| last + 1).. {
        let (tx, rx) = mpsc::channel();
        log.append(1, vec![(index, payload(index))], move |result| tx.send(result).expect("it is waited for"));
        rx.recv().expect("an answer").expect("the disk works");
        println!("entry {index}");
        let last = events.last();
        events.append(&[(last + 1, payload(last + 1))]).expect("the disk works");
        if index % 20 == 19 {
            events.sync().expect("the disk works");
            println!("event {}", last + 1);
            events.retain(50).expect("the disk works");
            let mut snapshot = snapshots.begin().expect("the disk works");
            snapshot.write_all(&payload(index)).expect("the disk works");
            snapshot.finish(index, b"").expect("the disk works");
            println!("snapshot {index}");
            log.purge(1, index.saturating_sub(30), Bytes::new()).expect("the log takes it");
        }
    }
}

#[derive(Debug, Default)]
struct Durable {
    entry: Option<u64>,
    event: u64,
    snapshot: Option<u64>,
}

/// Lets a child use the storage until it has `count` more entries, kills it, and returns what it called durable.
fn use_storage_until(count: usize, dir: &Path, env: Vec<(String, String)>, mut durable: Durable) -> Durable {
    let mut child = spawn("storage", dir, env);
    let mut entries = 0;
    for line in BufReader::new(child.stdout.take().expect("its output is piped")).lines() {
        let line = line.expect("its output is text");
        match line.split_once(' ').and_then(|(what, number)| Some((what, number.parse().ok()?))) {
            Some(("entry", index)) => durable.entry = Some(index),
            Some(("event", seq)) => durable.event = seq,
            Some(("snapshot", index)) => durable.snapshot = Some(index),
            Some(_) | None => continue,
        }
        entries += 1;
        if entries == count {
            child.kill().expect("SIGKILL reaches the child");
        }
    }
    assert_eq!(child.wait().expect("the child ends").signal(), Some(9));
    durable
}

#[test]
fn what_the_storage_calls_durable_survives_power_cuts_and_kills() {
    let (_folder, dir, power) = prepared();
    let mut durable = Durable::default();
    for round in 0..8 {
        durable = use_storage_until(37 + 13 * round, &dir, power.env(), durable);
        // Now and then the process alone dies, and the power is cut in its next life.
        if round % 3 == 1 {
            continue;
        }
        power.cut();
        let log = raft_log(&dir);
        let entries = log.read(1, 0..u64::MAX, u64::MAX).expect("the log can be read");
        assert!(log.state(1).last_index >= durable.entry, "{durable:?}, but the last is {:?}", log.state(1).last_index);
        assert!(entries.iter().all(|(index, found)| *found == payload(*index)));
        let events = event_log(&dir);
        assert!(events.last() >= durable.event, "{durable:?}, but the last is {}", events.last());
        let latest = snapshots(&dir).latest().map(|snapshot| snapshot.index);
        assert!(latest >= durable.snapshot, "{durable:?}, but the newest is {latest:?}");
    }
}

#[test]
fn on_a_disk_that_does_not_sync_the_storage_loses_all_it_called_durable() {
    let (_folder, dir, power) = prepared();
    let durable = use_storage_until(60, &dir, power.env_ignoring_syncs(), Durable::default());
    assert!(durable.entry > Some(30) && durable.event > 0 && durable.snapshot.is_some(), "{durable:?}");
    power.cut();
    assert_eq!(raft_log(&dir).state(1).last_index, None);
    assert_eq!(event_log(&dir).last(), 0);
    assert_eq!(snapshots(&dir).latest(), None);
}
