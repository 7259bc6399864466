//! Replaces an older version of the program by this one, node after node, while a persistent session is served: nothing is
//! lost, all nodes agree, and what only the newer version knows comes into force when the last node has it.
//!
//! `tests/upgrade COMMIT` builds the older one and calls this.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use rollcall_proto::packet::{QoS, Version};
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;

const NODES: usize = 3;
/// For a level to rise, or a newcomer to be refused.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a level is watched that must not rise: several looks of the leader.
const STAYS: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
#[command(about = "Upgrades a running cluster, node after node.")]
struct Arguments {
    /// The older program.
    #[arg(long)]
    old: PathBuf,
}

/// The feature level by each node that tells one.
async fn levels(cluster: &TestCluster) -> Vec<Option<u64>> {
    let mut levels = Vec::new();
    for node in &cluster.nodes[..NODES] {
        let told = node.api().get("cluster").await.expect("the cluster");
        levels.push(told["level"].as_u64());
    }
    levels
}

/// The states of all groups are the same at all nodes.
async fn agree(cluster: &TestCluster) {
    until("all nodes have the same states", PATIENCE, || async {
        let mut states = Vec::new();
        for node in &cluster.nodes[..NODES] {
            let told = node.api().get("cluster?hash=true").await?;
            let groups = told["groups"].as_array().ok_or("no groups")?;
            let state = |group: &serde_json::Value| (group["applied"].as_u64(), group["state_hash"].to_string());
            states.push(groups.iter().map(state).collect::<Vec<_>>());
        }
        states.iter().all(|state| *state == states[0]).then_some(()).ok_or(format!("{states:?}"))
    })
    .await;
}

async fn publish_and_receive(cluster: &TestCluster, session: &Options, number: usize) {
    let (from, to) = (&cluster.nodes[number % NODES], &cluster.nodes[(number + 1) % NODES]);
    let payload = format!("message {number}");
    let mut publisher = RawClient::connect(from.mqtt(), &Options::v5("publisher")).await;
    publisher.publish("upgrade/x", payload.as_bytes(), QoS::AtLeastOnce).await;
    let (mut client, ack) = RawClient::try_connect(to.mqtt(), session).await.expect("a CONNACK");
    assert!(ack.session_present, "the session is there");
    assert_eq!(client.message(SOON).await.payload, payload.as_bytes());
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let Arguments { old } = Arguments::parse();
    let mut cluster = TestCluster::start_changed(NODES as u16, &[], |spec| spec.program = Some(old.clone())).await;
    println!("three nodes of the older version are ready");
    let session = Options::new(Version::V5, "kept").persistent();
    let mut first = RawClient::connect(cluster.nodes[0].mqtt(), &session).await;
    first.subscribe("upgrade/+", QoS::AtLeastOnce).await;
    drop(first);
    for index in 0..NODES {
        cluster.nodes[index].terminate();
        let status = cluster.nodes[index].ended(PATIENCE).await;
        assert!(status.success(), "it drained: {status}");
        cluster.nodes[index].spec.program = None;
        cluster.nodes[index].spawn();
        cluster.ready(index).await;
        publish_and_receive(&cluster, &session, index).await;
        if index + 1 < NODES {
            tokio::time::sleep(STAYS).await;
            let told = levels(&cluster).await;
            assert!(
                told.iter().flatten().all(|level| *level == 1),
                "no new level while an old node is there: {told:?}"
            );
            println!("node-{index} has the newer version; the feature level waits for the others: {told:?}");
        }
        agree(&cluster).await;
    }
    until("every node is at the new level", PATIENCE, || async {
        let told = levels(&cluster).await;
        told.iter().all(|level| *level > Some(1)).then_some(()).ok_or(format!("{told:?}"))
    })
    .await;
    agree(&cluster).await;
    println!("all nodes have the newer version: the feature level has risen to {:?}", levels(&cluster).await);
    cluster.join_changed(&[], |spec| spec.program = Some(old));
    until("an old version is not let in any more", PATIENCE, || async {
        let refused = cluster.nodes[NODES].log_lines("its version is too old");
        (!refused.is_empty()).then_some(()).ok_or("not refused".into())
    })
    .await;
    println!("a newcomer of the older version is refused");
    let events = cluster.nodes[0].api().events_after(0).await;
    println!("{} events, without a gap", events.len());
    rollcall_tests::events::assert_gap_free(&events);
}
