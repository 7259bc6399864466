//! A client id has one owner (P1), however often and wherever it connects again.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{assert_alternating, of_client, short};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const IDS: usize = 200;
const RECONNECTS: usize = 20;
/// Connects under way at one moment.
const AT_ONCE: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_ids_that_reconnect_20_times_anywhere_each_has_one_connection_and_an_alternating_history() {
    let cluster = TestCluster::start(3).await;
    let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.mqtt()).collect();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for id in 0..IDS {
        let (addresses, permits) = (addresses.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let options = Options::v5(format!("owner-{id}"));
            let mut connections = Vec::new();
            for _ in 0..=RECONNECTS {
                let _permit = permits.acquire().await.expect("the semaphore stays open");
                let node = addresses[rand::rng().random_range(0..addresses.len())];
                connections.push(RawClient::connect(node, &options).await);
            }
            connections
        });
    }
    // They stay open until the sessions have been counted.
    let mut newest = Vec::new();
    for mut connections in tasks.join_all().await {
        let mut last = connections.pop().expect("it connected");
        last.ping().await;
        for mut older in connections {
            let goodbye = older.closed(Duration::from_secs(5)).await.expect("5.0 clients are told why");
            assert_eq!(goodbye.reason, ReasonCode::SessionTakenOver);
        }
        newest.push(last);
    }
    let sessions = cluster.nodes[1].api().sessions("owner-").await;
    assert_eq!(sessions.len(), IDS);
    assert!(sessions.iter().all(|session| session["online"] == true), "a session without its connection");
    let events = cluster.agreed_events().await;
    assert_eq!(newest.len(), IDS);
    assert_alternating(&events);
    for id in 0..IDS {
        let history: Vec<String> = of_client(&events, &format!("owner-{id}")).iter().map(short).collect();
        let mut expected = ["client.connected", "client.disconnected(takeovered)"].repeat(RECONNECTS);
        expected.push("client.connected");
        assert_eq!(history, expected, "owner-{id}");
    }
}
