//! A node with an empty disk joins a cluster that is at work, and becomes equal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;
use serde_json::Value;

/// Long enough for replicas to move one at a time on a busy machine.
const MOVED: Duration = Duration::from_secs(60);

/// By group: the hashes that nodes tell at the same index, each with how many tell it, and how many hold the group.
async fn agreement(cluster: &TestCluster) -> Result<(), String> {
    let mut told: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for node in &cluster.nodes {
        let view = node.api().get("cluster?hash=true").await?;
        for group in view["groups"].as_array().ok_or("no groups")? {
            if group["held"] == Value::Bool(true) {
                let name = group["group"].as_str().unwrap_or_default().to_owned();
                let hash = group["state_hash"].as_str().unwrap_or_default().to_owned();
                told.entry(name).or_default().push((group["applied"].as_u64().unwrap_or_default(), hash));
            }
        }
    }
    for (group, copies) in &told {
        if copies.iter().any(|copy| copy != &copies[0] || copy.1.is_empty()) {
            return Err(format!("{group}: {copies:?}"));
        }
        let expected = if group == "roster" { cluster.nodes.len() } else { 3 };
        if copies.len() != expected {
            return Err(format!("{group} has {} copies", copies.len()));
        }
    }
    let held = |name: &str| told.keys().filter(|group| group.starts_with(name)).count();
    if held("shard-") == 8 { Ok(()) } else { Err(format!("groups: {:?}", told.keys())) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_node_joins_under_load_and_every_group_is_equal_on_all_its_members() {
    let mut cluster = TestCluster::start(3).await;
    for index in 0..20 {
        let options = Options::v5(format!("asleep-{index}")).persistent();
        let mut client = RawClient::connect(cluster.nodes[index % 3].mqtt(), &options).await;
        client.subscribe("load/#", QoS::AtLeastOnce).await;
        client.disconnect().await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (node, stopped) = (cluster.nodes[0].mqtt(), stop.clone());
    let publishing = tokio::spawn(async move {
        let mut publisher = RawClient::connect(node, &Options::v5("publisher")).await;
        let mut count = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            publisher.publish("load/x", &count.to_be_bytes(), QoS::AtLeastOnce).await;
            count += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        count
    });
    cluster.join(&["inbox.max_messages=1000000", "inbox.max_bytes=1GiB"]);
    cluster.ready(3).await;
    until("the new node holds shards", MOVED, || {
        let api = cluster.nodes[3].api();
        async move {
            let view = api.get("cluster").await?;
            let groups = view["groups"].as_array().ok_or("no groups")?;
            let held = groups.iter().filter(|group| group["held"] == Value::Bool(true)).count();
            if held >= 6 { Ok(()) } else { Err(format!("it holds {held} groups")) }
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let count = publishing.await.expect("the publisher ends well");
    let cluster = &cluster;
    until("every group is equal on its members", MOVED, || agreement(cluster)).await;
    // A session is taken up there, wherever its inbox is.
    let options = Options::v5("asleep-0").persistent();
    let (mut client, ack) = RawClient::try_connect(cluster.nodes[3].mqtt(), &options).await.expect("a CONNACK");
    assert!(ack.session_present);
    for number in count.saturating_sub(1000)..count {
        assert_eq!(client.message(SOON).await.payload, number.to_be_bytes()[..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stays_connected_gets_its_messages_also_after_its_shard_has_moved_off_its_node() {
    /// Enough for every shard at every node.
    const CLIENTS: usize = 60;
    let mut cluster = TestCluster::start(3).await;
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        let options = Options::v5(format!("awake-{index}")).persistent();
        let mut client = RawClient::connect(cluster.nodes[index % 3].mqtt(), &options).await;
        client.subscribe(&format!("awake/{index}"), QoS::AtLeastOnce).await;
        clients.push(client);
    }
    cluster.join(&[]);
    cluster.ready(3).await;
    let moved = &cluster;
    until("the new node holds shards, and the others let them go", MOVED, || agreement(moved)).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    for index in 0..CLIENTS {
        publisher.publish(&format!("awake/{index}"), b"still here", QoS::AtLeastOnce).await;
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.message(SOON).await.payload, "still here", "awake-{index}");
    }
}
