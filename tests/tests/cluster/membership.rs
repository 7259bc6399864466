//! Nodes that drain, leave, and come back without their disk: from the command line and over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use reqwest::Method;
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::binary::rollcall;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{of_client, text};
use rollcall_tests::external::command;
use rollcall_tests::patience::until;
use serde_json::Value;
use tokio::task::JoinSet;

/// Long enough for every replica to move, one at a time, on a busy machine.
const MOVED: Duration = Duration::from_secs(60);
/// A death is known soon, so that the tests need not wait long for it.
const QUICK: [&str; 3] = ["cluster.route_lease=1s", "cluster.lease=2s", "cluster.node_timeout=3s"];

async fn ctl(cluster: &TestCluster, asked: usize, arguments: &[&str]) -> Output {
    let url = cluster.nodes[asked].api().base().to_owned();
    let mut ctl = command(&rollcall().display().to_string(), &["ctl", "--url", &url]);
    ctl.args(arguments).output().await.expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every group has these voters, no learners, and a leader among them.
async fn is_led_by(cluster: &TestCluster, asked: usize, names: &[&str]) {
    until("every group has the right members", MOVED, || async {
        let view = cluster.nodes[asked].api().get("cluster").await?;
        for group in view["groups"].as_array().ok_or("no groups")? {
            let mut voters: Vec<&str> =
                group["voters"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            voters.sort_unstable();
            let is_led =
                group["held"] == false || group["leader"].as_str().is_some_and(|leader| names.contains(&leader));
            if voters != names || !is_led || group["learners"].as_array().is_some_and(|learners| !learners.is_empty()) {
                return Err(group.to_string());
            }
        }
        Ok(())
    })
    .await;
}

async fn names(cluster: &TestCluster, asked: usize) -> Vec<String> {
    let nodes = cluster.nodes[asked].api().get("nodes").await.expect("the nodes");
    nodes["items"].as_array().expect("a list").iter().map(|node| text(node, "name").to_owned()).collect()
}

/// One message waits in its inbox.
async fn leave_a_session(cluster: &TestCluster, name: &str, on: usize) {
    let mut client = RawClient::connect(cluster.nodes[on].mqtt(), &Options::v5(name).persistent()).await;
    client.subscribe(name, QoS::AtLeastOnce).await;
    client.disconnect().await;
    let mut publisher = RawClient::connect(cluster.nodes[on].mqtt(), &Options::v5("publisher")).await;
    publisher.publish(name, b"waits", QoS::AtLeastOnce).await;
}

async fn take_up(cluster: &TestCluster, name: &str, on: usize) {
    let options = Options::v5(name).persistent();
    let (mut client, ack) = RawClient::try_connect(cluster.nodes[on].mqtt(), &options).await.expect("a CONNACK");
    assert!(ack.session_present, "{name}");
    assert_eq!(client.message(SOON).await.payload, b"waits"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctl_drains_a_node_through_another_and_its_clients_are_told_where_to_go() {
    let mut cluster = TestCluster::start(3).await;
    let mut client = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("sent-away")).await;
    let output = ctl(&cluster, 0, &["drain", "node-1"]).await;
    assert!(output.status.success() && said(&output).contains("node-1 has stopped"), "{}", said(&output));
    let told = client.closed(SOON).await.expect("a DISCONNECT");
    assert_eq!(told.reason, ReasonCode::UseAnotherServer);
    let others = [0, 2].map(|other: usize| cluster.nodes[other].mqtt().to_string());
    let reference = told.properties.server_reference.expect("a server reference");
    assert!(others.contains(&reference.to_string()), "{reference}");
    assert!(cluster.nodes[1].ended(SOON).await.success());
    let events = of_client(&cluster.nodes[0].api().events_after(0).await, "sent-away");
    assert_eq!(text(events.last().expect("its end"), "reason"), "go_away");
    let again = ctl(&cluster, 0, &["drain", "node-1"]).await;
    assert!(!again.status.success() && said(&again).contains("has stopped already"), "{}", said(&again));
    let unknown = ctl(&cluster, 0, &["drain", "node-7"]).await;
    assert!(said(&unknown).contains("there are node-0, node-1, node-2"), "{}", said(&unknown));
    // The node that is asked may be the one that goes.
    let output = ctl(&cluster, 0, &["drain", "node-0", "--no-wait"]).await;
    assert!(said(&output).contains("node-0 is asked to drain"), "{}", said(&output));
    assert!(cluster.nodes[0].ended(MOVED).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_removed_while_it_serves_and_nothing_is_lost() {
    let mut cluster = TestCluster::start_with(3, &QUICK).await;
    cluster.join(&QUICK);
    cluster.ready(3).await;
    for (number, name) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        leave_a_session(&cluster, name, number % 4).await;
    }
    let leader = cluster.leader().await;
    let name = format!("node-{leader}");
    let mut client = RawClient::connect(cluster.nodes[leader].mqtt(), &Options::v5("sent-away")).await;
    let output = ctl(&cluster, leader, &["node", "remove", &name]).await;
    assert!(output.status.success() && said(&output).contains("is no member any more"), "{}", said(&output));
    assert_eq!(client.closed(SOON).await.expect("a DISCONNECT").reason, ReasonCode::UseAnotherServer);
    assert!(cluster.nodes[leader].ended(SOON).await.success());
    let rest = cluster.others(leader);
    let left: Vec<String> = rest.iter().map(|index| format!("node-{index}")).collect();
    assert_eq!(names(&cluster, rest[0]).await, left);
    is_led_by(&cluster, rest[0], &left.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (number, name) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        take_up(&cluster, name, rest[number % 3]).await;
    }
    // With its old disk it is a stranger, and says so.
    cluster.nodes[leader].spawn();
    until("the removed node says what it is", MOVED, || {
        let lines = cluster.nodes[leader].log_lines("was removed from the cluster");
        async move { if lines.is_empty() { Err("not yet".to_owned()) } else { Ok(()) } }
    })
    .await;
    assert!(cluster.nodes[leader].api().ready().await.is_err());
    assert_eq!(names(&cluster, rest[0]).await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_leaves_no_majority_is_refused() {
    let mut cluster = TestCluster::start_with(3, &QUICK).await;
    cluster.nodes[2].kill();
    until("the death is known", MOVED, || async {
        let nodes = cluster.nodes[0].api().get("nodes").await?;
        if nodes["items"][2]["state"] == "down" { Ok(()) } else { Err(nodes.to_string()) }
    })
    .await;
    let output = ctl(&cluster, 0, &["node", "remove", "node-1"]).await;
    assert!(!output.status.success() && said(&output).contains("1 of 2 voters up"), "{}", said(&output));
    let answer = cluster.nodes[0].api().request(Method::DELETE, "/api/v1/nodes/node-9", None).await.expect("an answer");
    assert_eq!(answer.status(), 404);
    // The dead one may go; then the two that are left are all there is.
    let output = ctl(&cluster, 0, &["node", "remove", "node-2"]).await;
    assert!(output.status.success(), "{}", said(&output));
    is_led_by(&cluster, 0, &["node-0", "node-1"]).await;
    let single = TestCluster::start(1).await;
    let output = ctl(&single, 0, &["node", "remove", "node-0"]).await;
    assert!(said(&output).contains("the only node"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_its_disk_takes_the_place_of_what_it_was() {
    const ALL: [&str; 3] = ["node-0", "node-1", "node-2"];
    let mut cluster = TestCluster::start_with(3, &QUICK).await;
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        leave_a_session(&cluster, name, number % 3).await;
    }
    let lost = cluster.leader().await;
    cluster.nodes[lost].kill();
    std::fs::remove_dir_all(&cluster.nodes[lost].spec.data_dir).expect("the disk is emptied");
    cluster.nodes[lost].spawn();
    cluster.ready(lost).await;
    let rest = cluster.others(lost);
    until("what it was is gone", MOVED, || async {
        let names = names(&cluster, rest[0]).await;
        if names == ALL { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    is_led_by(&cluster, rest[0], &ALL).await;
    // It counts: with it alone beside it, one of the others may go.
    cluster.nodes[rest[0]].kill();
    cluster.ready(rest[1]).await;
    for name in ["a", "b", "c", "d"] {
        take_up(&cluster, name, lost).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_sends_its_surplus_to_the_others() {
    const CLIENTS: usize = 90;
    let cluster = TestCluster::start(3).await;
    let addresses: BTreeMap<String, SocketAddr> =
        cluster.nodes.iter().map(|node| (node.mqtt().to_string(), node.mqtt())).collect();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (first, addresses) = (cluster.nodes[0].mqtt(), addresses.clone());
        let options = Options::v5(format!("client-{number}"));
        let mut client = RawClient::connect(first, &options).await;
        // As a client that keeps to MQTT 5.0 does.
        clients.spawn(async move {
            while let Some(told) = client.closed(Duration::from_secs(3600)).await {
                let reference = told.properties.server_reference.expect("a server reference").to_string();
                client = RawClient::connect(addresses[&reference], &options).await;
            }
        });
    }
    let output = ctl(&cluster, 1, &["rebalance"]).await;
    assert!(output.status.success() && said(&output).contains("spread evenly"), "{}", said(&output));
    let nodes = cluster.nodes[1].api().get("nodes").await.expect("the nodes");
    let counts: Vec<u64> =
        nodes["items"].as_array().expect("a list").iter().filter_map(|n| n["connections"].as_u64()).collect();
    assert_eq!(counts, [30, 30, 30]);
    let events = cluster.nodes[1].api().events_after(0).await;
    let sent_away = events.iter().filter(|event| event["reason"] == "go_away").count();
    assert_eq!(sent_away, CLIENTS * 2 / 3, "no one more than has to");
    clients.abort_all();
}

fn recover(cluster: &TestCluster, node: usize, more: &[&str]) -> tokio::process::Command {
    let mut recover = command(&rollcall().display().to_string(), &["recover"]);
    recover.args(more);
    for setting in &cluster.nodes[node].spec.settings {
        recover.args(["--set", setting]);
    }
    recover
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_disk_of_three_is_made_a_cluster_that_fresh_nodes_join_and_the_old_ones_do_not() {
    let mut cluster = TestCluster::start_with(3, &QUICK).await;
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        leave_a_session(&cluster, name, number % 3).await;
    }
    cluster.same_position().await;
    let seq = cluster.nodes[0].api().last_seq().await.expect("a position");
    let output = recover(&cluster, 0, &["--accept-data-loss"]).output().await.expect("it runs");
    assert!(!output.status.success() && said(&output).contains("in use by another process"), "{}", said(&output));
    cluster.kill_all();
    let output = recover(&cluster, 0, &[]).output().await.expect("it runs");
    assert!(!output.status.success() && said(&output).contains("nothing was changed"), "{}", said(&output));
    assert!(said(&output).contains("node-0 node-1 node-2"), "it shows whose votes there were: {}", said(&output));
    let output = recover(&cluster, 0, &["--accept-data-loss"]).output().await.expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    cluster.nodes[0].spawn();
    cluster.ready(0).await;
    until("the others are forgotten", MOVED, || async {
        let names = names(&cluster, 0).await;
        if names == ["node-0"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    assert!(cluster.nodes[0].api().last_seq().await.expect("a position") >= seq, "the log of events goes on");
    // Together they were a majority.
    for node in [1, 2] {
        cluster.nodes[node].spawn();
    }
    for node in [1, 2] {
        until("what is left of the old cluster says so", MOVED, || {
            let lines = cluster.nodes[node].log_lines("was removed from the cluster");
            async move { if lines.is_empty() { Err("not yet".to_owned()) } else { Ok(()) } }
        })
        .await;
        assert!(cluster.nodes[node].api().ready().await.is_err());
    }
    for node in [1, 2] {
        cluster.nodes[node].kill();
        std::fs::remove_dir_all(&cluster.nodes[node].spec.data_dir).expect("the disk is emptied");
        cluster.nodes[node].spawn();
    }
    cluster.all_ready().await;
    is_led_by(&cluster, 0, &["node-0", "node-1", "node-2"]).await;
    cluster.nodes[0].kill();
    cluster.ready(1).await;
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        take_up(&cluster, name, 1 + number % 2).await;
    }
}
