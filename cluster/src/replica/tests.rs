//! Who is told of a will, and when.

use bytes::Bytes;
use parking_lot::Mutex;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::roster::{Claim, Command, NodeUp, RaiseLevel, Release, Will, command};
use rollcall_storage::{EventLog, EventLogOptions};
use tempfile::TempDir;

use super::*;
use crate::message::to_body;
use crate::roster::level::FIRST;

const ME: NodeId = 1;

#[derive(Default)]
struct Heard(Mutex<Vec<Arc<Message>>>);

impl Observer for Heard {
    fn lost(&self, _: &Lost) {}
    fn send_away(&self, _: Vec<(String, u64)>) {}

    fn fenced(&self) {}
    fn replaced(&self, _: &Roster) {}
    fn forwarded(&self, _: crate::forward::Parcel) {}
    fn will(&self, message: Arc<Message>) {
        self.0.lock().push(message);
    }
}

impl Heard {
    fn topics(&self) -> Vec<String> {
        self.0.lock().iter().map(|message| message.topic.to_string()).collect()
    }
}

struct Bench {
    replica: Replica,
    heard: Arc<Heard>,
    index: u64,
    now: u64,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = TempDir::new().unwrap();
        let heard = Arc::new(Heard::default());
        let log = EventLog::open(dir.path(), EventLogOptions::default()).unwrap();
        let replica = Replica::new(ME, EventFeed::new(log, 100, 100), heard.clone());
        Bench { replica, heard, index: 0, now: 1_000, _dir: dir }
    }

    /// As the entry that this node has waited for.
    fn up() -> Bench {
        let mut bench = Bench::new();
        bench.replica.pending.put(0, 7, Vec::new());
        bench.apply(0, 7, command::Kind::NodeUp(NodeUp { boot: 7, name: "me".into(), ..NodeUp::default() }));
        assert_eq!(*bench.replica.epoch().borrow(), 1);
        bench
    }

    fn apply(&mut self, node_epoch: u64, number: u64, kind: command::Kind) {
        self.index += 1;
        let batch = Batch { node: ME, node_epoch, number, commands: vec![Command { kind: Some(kind) }] };
        self.replica.apply(self.index, self.now, &batch.encode_to_vec().into()).unwrap();
        self.replica.advance(self.index);
    }

    /// A connection that comes and goes, and leaves its will.
    fn leave(&mut self, client_id: &str, expires_in: Option<u64>) {
        let message = Message {
            topic: format!("gone/{client_id}").into(),
            payload: Bytes::from_static(b"gone"),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: client_id.into(),
            expires_at: None,
        };
        let will = Will { message: to_body(&message), expires_in, ..Will::default() };
        let claim = Claim { client_id: client_id.into(), will: Some(will), ..Claim::default() };
        let number = self.index * 2;
        self.apply(1, number, command::Kind::Claim(claim));
        let epoch = self.replica.roster().session(client_id).unwrap().epoch;
        let release = Release { client_id: client_id.into(), epoch, ..Release::default() };
        self.apply(1, number + 1, command::Kind::Release(release));
    }
}

#[test]
fn a_will_is_given_at_the_very_entry_that_publishes_it() {
    let mut bench = Bench::up();
    bench.leave("x", Some(5_000));
    let heard = bench.heard.0.lock().clone();
    assert_eq!((&*heard[0].topic, &*heard[0].publisher, heard.len()), ("gone/x", "x", 1));
    let left = heard[0].expires_at.unwrap() - boottime().as_millis() as u64;
    assert!((4_000..=5_000).contains(&left), "its life begins now, by this node's clock: {left}");
}

#[test]
fn a_will_that_cannot_be_read_is_passed_over() {
    let mut bench = Bench::up();
    let will = Will { message: Bytes::from_static(&[0xff]), ..Will::default() };
    let claim = Claim { client_id: "x".into(), will: Some(will), ..Claim::default() };
    bench.apply(1, 1, command::Kind::Claim(claim));
    bench.apply(1, 2, command::Kind::Release(Release { client_id: "x".into(), epoch: 1, ..Release::default() }));
    assert!(bench.heard.topics().is_empty());
    bench.leave("y", None);
    assert_eq!(bench.heard.topics(), ["gone/y"]);
}

#[test]
fn a_log_that_is_read_again_after_a_start_publishes_nothing() {
    let mut bench = Bench::new();
    bench.apply(0, 7, command::Kind::NodeUp(NodeUp { boot: 7, name: "me".into(), ..NodeUp::default() }));
    bench.leave("x", None);
    assert_eq!(bench.replica.roster().will_number(), 1);
    assert!(bench.heard.topics().is_empty());
}

#[test]
fn after_a_snapshot_the_wills_are_given_that_were_not_before() {
    let mut bench = Bench::up();
    let mut ahead = Bench::up();
    for other in [&mut bench, &mut ahead] {
        other.leave("known", None);
    }
    ahead.leave("missed", Some(5_000));
    ahead.now += 2_000;
    ahead.leave("missed-too", None);
    let roster = ahead.replica.roster().clone();
    bench.replica.replace(roster.clone(), ahead.index);
    assert_eq!(bench.heard.topics(), ["gone/known", "gone/missed", "gone/missed-too"]);
    let left = bench.heard.0.lock()[1].expires_at.unwrap() - boottime().as_millis() as u64;
    assert!((2_000..=3_000).contains(&left), "less what it has lived in the log: {left}");
    bench.replica.replace(roster, ahead.index);
    assert_eq!(bench.heard.topics().len(), 3, "once");
}

#[test]
fn a_node_does_not_go_on_behind_a_level_that_its_version_does_not_know() {
    let mut bench = Bench::up();
    for level in FIRST + 1..=LEVEL {
        bench.apply(1, u64::from(level), command::Kind::RaiseLevel(RaiseLevel { level }));
    }
    let next = Command { kind: Some(command::Kind::RaiseLevel(RaiseLevel { level: LEVEL + 1 })) };
    let batch = Batch { node: ME, node_epoch: 1, number: 100, commands: vec![next] };
    let refused = bench.replica.apply(bench.index + 1, bench.now, &batch.encode_to_vec().into());
    assert!(refused.unwrap_err().to_string().contains("start a newer version"));
    let mut ahead = Vec::new();
    bench.replica.roster().write_to(&mut ahead).unwrap();
    let restored = Bench::new().replica.restore(&mut &ahead[..], 1);
    assert!(restored.unwrap_err().to_string().contains("start a newer version"));
}

#[test]
fn a_snapshot_that_the_node_starts_from_is_no_news() {
    let mut ahead = Bench::up();
    ahead.leave("old", None);
    let mut bench = Bench::new();
    bench.replica.replace(ahead.replica.roster().clone(), ahead.index);
    bench.index = ahead.index;
    bench.replica.pending.put(0, 8, Vec::new());
    bench.apply(0, 8, command::Kind::NodeUp(NodeUp { boot: 8, name: "me".into(), ..NodeUp::default() }));
    let roster = bench.replica.roster().clone();
    bench.replica.replace(roster, bench.index);
    assert!(bench.heard.topics().is_empty());
}
