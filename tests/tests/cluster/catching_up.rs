//! A node that was away so long that the others have freed their logs: it takes over a snapshot, and the events before
//! it (P5, P8).

use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;
use tokio::task::JoinSet;

const WORKERS: usize = 4;
/// Each is at least three entries while nothing else goes on.
const TURNS: usize = 500;

/// On the two nodes that are there; each worker leaves one session behind.
async fn turns(cluster: &TestCluster) {
    let mut tasks = JoinSet::new();
    for worker in 0..WORKERS {
        let node = cluster.nodes[worker % 2].mqtt();
        tasks.spawn(async move {
            for turn in 0..TURNS {
                let options = Options::v5(format!("away-{worker}-{turn}"));
                let mut client = RawClient::connect(node, &options).await;
                client.subscribe(&format!("away/{worker}/{turn}"), QoS::AtLeastOnce).await;
                client.disconnect().await;
            }
            let mut left = RawClient::connect(node, &Options::v5(format!("left-{worker}")).persistent()).await;
            left.subscribe("left/#", QoS::AtLeastOnce).await;
            left.disconnect().await;
        });
    }
    tasks.join_all().await;
}

/// The hash of the applied state, the same on all nodes.
async fn one_state(cluster: &TestCluster) -> String {
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.api()).collect();
    until("all nodes hold the same state", std::time::Duration::from_secs(20), || {
        let apis = apis.clone();
        async move {
            let mut hashes = Vec::new();
            for api in &apis {
                let told = api.get("cluster").await?;
                hashes.push(told["groups"][0]["state_hash"].as_str().unwrap_or_default().to_owned());
            }
            hashes.dedup();
            if hashes.len() == 1 { Ok(hashes.remove(0)) } else { Err(format!("{hashes:?}")) }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_longer_than_the_log_reaches_takes_over_a_snapshot_and_the_events() {
    let mut cluster = TestCluster::start_with(3, &["cluster.snapshot_after=64KiB"]).await;
    cluster.nodes[2].kill();
    turns(&cluster).await;
    cluster.nodes[2].spawn();
    cluster.ready(2).await;
    let events = cluster.agreed_events().await;
    assert!(events.len() >= WORKERS * TURNS * 3, "{} events", events.len());
    one_state(&cluster).await;
    let log = cluster.nodes[2].log_tail(usize::MAX);
    assert!(log.contains("took over a snapshot"), "its own log was not enough:\n{}", cluster.nodes[2].log_tail(30));

    cluster.kill_all();
    cluster.nodes.iter_mut().for_each(|node| node.spawn());
    cluster.all_ready().await;
    assert_eq!(cluster.agreed_events().await[..events.len()], events, "from snapshots and what follows them");
    one_state(&cluster).await;
    for worker in 0..WORKERS {
        let session = cluster.nodes[2].api().session(&format!("left-{worker}")).await.expect("it is kept");
        assert_eq!(session["subscriptions"][0]["filter"], "left/#", "{session}");
    }
}
