//! A node that is killed: the survivors go on, its clients are taken in elsewhere at once, and each lost connection
//! ends with exactly one event, in the same log on all nodes (P1, P5).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{assert_alternating, of_client, short, text};
use rollcall_tests::patience::until;
use serde_json::Value;
use tokio::task::JoinSet;

const PER_NODE: usize = 300;
/// From the kill to the CONNACK elsewhere.
const TAKEN_IN: Duration = Duration::from_secs(5);
/// Clients of the dead node that never come back.
const LOST: usize = 25;
/// `cluster.node_timeout` and what the reaper takes.
const REAPED: Duration = Duration::from_secs(20);

async fn clients(node: SocketAddr, prefix: String, count: usize) -> Vec<RawClient> {
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let options = Options::v5(format!("{prefix}-{index}"));
        tasks.spawn(async move { RawClient::connect(node, &options).await });
    }
    tasks.join_all().await
}

/// Tries until it is accepted, as a device would: refusals and closed connections are repeated.
async fn accepted_elsewhere(node: SocketAddr, options: Options, killed: Instant) -> (RawClient, Duration) {
    loop {
        if let Ok((client, ack)) = RawClient::try_connect(node, &options).await {
            if ack.reason == ReasonCode::Success {
                return (client, killed.elapsed());
            }
            assert_eq!(ack.reason, ReasonCode::ServerUnavailable, "{}: the only refusal for now", options.client_id);
        }
        assert!(killed.elapsed() < 2 * TAKEN_IN, "{} is not taken in", options.client_id);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn reconnect_elsewhere(cluster: &TestCluster, survivors: &[usize], killed: Instant) -> Vec<RawClient> {
    let mut tasks = JoinSet::new();
    for index in 0..PER_NODE {
        let node = cluster.nodes[survivors[index % survivors.len()]].mqtt();
        tasks.spawn(accepted_elsewhere(node, Options::v5(format!("dead-{index}")), killed));
    }
    let (clients, took): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    let slowest = took.into_iter().max().unwrap_or_default();
    println!("the last of {PER_NODE} clients was accepted elsewhere {slowest:.1?} after the kill");
    assert!(slowest <= TAKEN_IN, "the last client was accepted only after {slowest:.1?}");
    clients
}

/// A message from one survivor to the other, both connected before the node died.
async fn still_serving(first: &mut RawClient, second: &mut RawClient) {
    first.subscribe("still/here", QoS::AtLeastOnce).await;
    second.publish("still/here", b"yes", QoS::AtLeastOnce).await;
    assert_eq!(first.message(SOON).await.payload, "yes");
    first.unsubscribe("still/here").await;
}

/// Waits until every client of the dead node that stayed away has its one end in the log, told by a survivor.
async fn assert_lost_ones_reaped(cluster: &TestCluster, survivors: &[usize]) {
    let api = cluster.nodes[survivors[0]].api();
    let ended = |events: &[Value]| {
        let reaped =
            |e: &&Value| text(e, "reason") == "server_internal_error" && text(e, "clientid").starts_with("lost-");
        events.iter().filter(reaped).cloned().collect::<Vec<_>>()
    };
    let ends = until("every lost client's end is in the log", REAPED, || async {
        let ends = ended(&api.events_after(0).await);
        if ends.len() >= LOST { Ok(ends) } else { Err(format!("{} of {LOST}", ends.len())) }
    })
    .await;
    let tellers: Vec<String> = survivors.iter().map(|&index| cluster.nodes[index].event_name()).collect();
    for end in ends {
        assert!(tellers.iter().any(|teller| teller == text(&end, "node")), "a survivor tells it: {end}");
    }
}

fn assert_one_end_per_lost_connection(events: &[Value]) {
    for index in 0..PER_NODE {
        let history: Vec<String> = of_client(events, &format!("dead-{index}")).iter().map(short).collect();
        assert_eq!(history.len(), 3, "dead-{index}: {history:?}");
        assert_eq!((history[0].as_str(), history[2].as_str()), ("client.connected", "client.connected"));
        let ends = ["client.disconnected(takeovered)", "client.disconnected(server_internal_error)"];
        assert!(ends.contains(&history[1].as_str()), "dead-{index}: {history:?}");
    }
    for index in 0..LOST {
        let history: Vec<String> = of_client(events, &format!("lost-{index}")).iter().map(short).collect();
        assert_eq!(history, ["client.connected", "client.disconnected(server_internal_error)"], "lost-{index}");
    }
    assert_alternating(events);
}

/// What one node knows of the roster: equal on all nodes that have applied the same log.
async fn state_hash(cluster: &TestCluster, index: usize) -> Result<String, String> {
    let told = cluster.nodes[index].api().get("cluster").await?;
    let groups = told["groups"].as_array().ok_or_else(|| format!("no groups in {told}"))?;
    let of = |group: &Value| format!("{} {}", group["applied"], group["state_hash"]);
    Ok(groups.iter().map(of).collect::<Vec<_>>().join(", "))
}

async fn assert_same_state(cluster: &TestCluster) {
    until("all nodes hold the same state", Duration::from_secs(20), || async {
        let mut hashes = Vec::new();
        for index in 0..cluster.nodes.len() {
            hashes.push(state_hash(cluster, index).await?);
        }
        hashes.dedup();
        if hashes.len() == 1 && !hashes[0].contains("null") { Ok(()) } else { Err(format!("{hashes:?}")) }
    })
    .await;
}

async fn survive_the_death_of(cluster: &mut TestCluster, victim: usize) {
    let survivors = cluster.others(victim);
    let mut bystanders = Vec::new();
    for &survivor in &survivors {
        let address = cluster.nodes[survivor].mqtt();
        bystanders.push(clients(address, format!("alive-{survivor}"), PER_NODE).await);
    }
    let address = cluster.nodes[victim].mqtt();
    let dead = clients(address, "dead".into(), PER_NODE).await;
    let lost = clients(address, "lost".into(), LOST).await;
    let before = cluster.agreed_events().await;

    cluster.nodes[victim].kill();
    let killed = Instant::now();
    let back = reconnect_elsewhere(cluster, &survivors, killed).await;
    let (left, right) = bystanders.split_at_mut(1);
    still_serving(&mut left[0][0], &mut right[0][0]).await;
    assert_lost_ones_reaped(cluster, &survivors).await;

    cluster.nodes[victim].spawn();
    cluster.ready(victim).await;
    let events = cluster.agreed_events().await;
    assert_eq!(&events[..before.len()], &before[..], "what was told stays told");
    assert_one_end_per_lost_connection(&events);
    assert_same_state(cluster).await;
    for client in bystanders.iter_mut().flatten() {
        client.ping().await;
    }
    let mut anew = RawClient::connect(address, &Options::v5("first-on-the-restarted-node")).await;
    still_serving(&mut anew, &mut bystanders[0][0]).await;
    drop((dead, lost, back));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_follower_loses_no_client_and_comes_back_to_the_same_log() {
    let mut cluster = TestCluster::start(3).await;
    let victim = cluster.follower().await;
    survive_the_death_of(&mut cluster, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_no_client_and_comes_back_to_the_same_log() {
    let mut cluster = TestCluster::start(3).await;
    let victim = cluster.leader().await;
    survive_the_death_of(&mut cluster, victim).await;
}
