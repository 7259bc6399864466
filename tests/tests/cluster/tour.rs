//! The README's tour, through `rollcall dev` and the mosquitto clients: connected on node 1, taken over on node 2,
//! kicked through node 0, all seen on node 0.

use std::process::Stdio;
use std::time::Duration;

use rollcall_tests::binary::rollcall;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::events::{number, short, text};
use rollcall_tests::external::{Running, line_by_line};
use rollcall_tests::http::Api;
use rollcall_tests::ports;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `mosquitto_sub -v` prints the topic, a blank, the payload.
fn parsed(line: &str) -> (String, Value) {
    let (topic, payload) = line.split_once(' ').expect("topic and payload");
    (topic.to_owned(), serde_json::from_str(payload).expect("an event is JSON"))
}

async fn next_of(subscriber: &mut Running, client_id: &str) -> (String, Value) {
    parsed(&subscriber.line_with(&format!("\"{client_id}\""), SOON).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_seen_to_connect_to_be_taken_over_and_to_be_kicked() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = ports::consecutive(9);
    let mut dev = tokio::process::Command::new(rollcall());
    dev.arg("dev").arg("--data-dir").arg(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    for (flag, port) in [("--mqtt-port", first), ("--http-port", first + 3), ("--rpc-port", first + 6)] {
        dev.arg(flag).arg(port.to_string());
    }
    let mut dev = Running::start(dev);
    dev.line_with("ready: 3 nodes", Duration::from_secs(30)).await;
    for node in 0..3 {
        Api::new(first + 3 + node).ready().await.expect("what dev says is so");
    }
    // -d prints the SUBACK, after which nothing is missed.
    let watch = ["-h", "127.0.0.1", "-p", &first.to_string(), "-d", "-v", "-t", "$events/#"];
    let mut subscriber = Running::start(line_by_line("mosquitto_sub", &watch));
    subscriber.line_with("Subscribed", SOON).await;
    let node = |index: u16| ([127, 0, 0, 1], first + index).into();
    let name = |index: u16| format!("127.0.0.1:{}", first + index);

    let mut older = RawClient::connect(node(1), &Options::v5("sensor")).await;
    let (topic, connected) = next_of(&mut subscriber, "sensor").await;
    assert_eq!(topic, "$events/client_connected");
    assert_eq!((short(&connected).as_str(), text(&connected, "node")), ("client.connected", name(1).as_str()));
    for field in ["clean_start", "connected_at", "keepalive", "proto_ver", "timestamp", "username"] {
        assert!(connected.get(field).is_some(), "{field} is missing: {connected}");
    }

    let mut newer = RawClient::connect(node(2), &Options::v5("sensor")).await;
    let (topic, taken) = next_of(&mut subscriber, "sensor").await;
    assert_eq!(topic, "$events/client_disconnected");
    assert_eq!(short(&taken), "client.disconnected(takeovered)");
    assert_eq!(text(&taken, "node"), name(1), "the node that held the connection: {taken}");
    assert_eq!(number(&taken, "epoch"), number(&connected, "epoch"));
    let (_, again) = next_of(&mut subscriber, "sensor").await;
    assert_eq!((short(&again).as_str(), text(&again, "node")), ("client.connected", name(2).as_str()));
    assert_eq!(number(&again, "epoch"), number(&connected, "epoch") + 1);
    older.closed(SOON).await;

    assert!(Api::new(first + 3).kick("sensor").await.status().is_success());
    let (_, kicked) = next_of(&mut subscriber, "sensor").await;
    assert_eq!((short(&kicked).as_str(), text(&kicked, "node")), ("client.disconnected(kicked)", name(2).as_str()));
    newer.closed(SOON).await;
    stops_when_asked(&mut dev).await;
}

/// SIGTERM drains and stops the whole cluster.
async fn stops_when_asked(dev: &mut Running) {
    let pid = dev.child.id().and_then(|id| Pid::from_raw(id as i32)).expect("it runs");
    kill_process(pid, Signal::TERM).expect("the signal reaches it");
    let status = tokio::time::timeout(Duration::from_secs(30), dev.child.wait()).await;
    let status = status.expect("rollcall dev stops when asked").expect("a status");
    assert!(status.success(), "{status}");
}
