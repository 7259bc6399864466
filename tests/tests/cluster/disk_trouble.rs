//! A node whose disk fails stops serving what it can no longer promise and says so; the others go on, and nothing that was
//! acknowledged is lost (P4, P8).

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rollcall_chaos::disk::{Errno, Operation, Trouble};
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;

const TOPIC: &str = "to/the/absent";

fn absent() -> Options {
    Options::v5("absent").persistent()
}

async fn leave_a_session(cluster: &TestCluster) {
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &absent()).await;
    client.subscribe(TOPIC, QoS::AtLeastOnce).await;
    client.disconnect().await;
}

/// Everything that waits for the session, as numbers.
async fn assert_waiting(cluster: &TestCluster, node: usize, acknowledged: &[u32]) {
    let mut client = RawClient::connect(cluster.nodes[node].mqtt(), &absent()).await;
    let mut came = Vec::new();
    while acknowledged.iter().any(|number| !came.contains(number)) {
        let message = client.message(SOON).await;
        came.push(u32::from_be_bytes(message.payload[..].try_into().expect("a number")));
    }
    assert!(came.is_sorted(), "in the order of publishing: {came:?}");
    client.disconnect().await;
}

/// What the node's readiness says once it has given up.
async fn gave_up(cluster: &TestCluster, node: usize) -> String {
    let api = cluster.nodes[node].api();
    until("the node says that its disk failed", SOON, || {
        let api = api.clone();
        async move {
            match api.ready().await {
                Err(why) if why.contains("the disk failed") => Ok(why),
                other => Err(format!("{other:?}")),
            }
        }
    })
    .await
}

async fn disk_failed_metric(cluster: &TestCluster, node: usize) -> bool {
    let answer = reqwest::get(format!("{}/metrics", cluster.nodes[node].api().base())).await.expect("metrics");
    answer.text().await.expect("text").lines().any(|line| line == "rollcall_disk_failed 1")
}

/// Publishes one message after the other until one is not acknowledged; which were.
async fn publish_until_it_fails(mut client: RawClient, from: u32) -> Vec<u32> {
    let mut acknowledged = Vec::new();
    for number in from.. {
        if !client.try_publish(TOPIC, &number.to_be_bytes()).await {
            break;
        }
        acknowledged.push(number);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_fails_stops_serving_for_good_and_the_others_go_on() {
    let mut cluster = TestCluster::start_changed(3, &[], |spec| spec.env = Trouble::over(&spec.data_dir).env()).await;
    leave_a_session(&cluster).await;
    let troubles = [
        (Operation::Sync, Errno::Io, "Input/output error"),
        (Operation::Write, Errno::Full, "No space left on device"),
        (Operation::Write, Errno::Io, "Input/output error"),
    ];
    let mut acknowledged = Vec::new();
    for (round, (operation, errno, words)) in troubles.into_iter().enumerate() {
        // Once the roster's leader.
        let sick = if round == 0 { cluster.leader().await } else { round };
        let other = (sick + 1) % 3;
        let trouble = Trouble::over(&cluster.nodes[sick].spec.data_dir);
        let mut here = RawClient::connect(cluster.nodes[sick].mqtt(), &Options::v5("here")).await;
        let first = 1_000 * round as u32;
        let publisher = RawClient::connect(cluster.nodes[sick].mqtt(), &Options::v5("publisher-here")).await;
        let publishing = tokio::spawn(publish_until_it_fails(publisher, first));
        trouble.begin(operation, errno);
        let why = gave_up(&cluster, sick).await;
        assert!(why.contains(words), "{operation:?} {errno:?}: {why}");
        assert!(disk_failed_metric(&cluster, sick).await);
        assert!(cluster.nodes[sick].log_tail(1_000).contains("this node stops serving"));
        here.closed(SOON).await;
        acknowledged.extend(publishing.await.expect("it ends"));
        // It stays so when the trouble is over: what was not synced may be gone, whatever a later sync says.
        trouble.end();
        let refused = RawClient::try_connect(cluster.nodes[sick].mqtt(), &Options::v5("late")).await;
        assert!(refused.is_err() || refused.is_ok_and(|(_, ack)| ack.reason == ReasonCode::ServerUnavailable));
        let mut publisher = RawClient::connect(cluster.nodes[other].mqtt(), &Options::v5("publisher")).await;
        for number in first + 500..first + 520 {
            publisher.publish(TOPIC, &number.to_be_bytes(), QoS::AtLeastOnce).await;
            acknowledged.push(number);
        }
        gave_up(&cluster, sick).await;
        cluster.nodes[sick].kill();
        cluster.nodes[sick].spawn();
        cluster.all_ready().await;
    }
    assert_waiting(&cluster, 1, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_finds_its_log_damaged_does_not_start_and_says_where() {
    const MESSAGES: u32 = 50;
    let mut cluster = TestCluster::start(3).await;
    leave_a_session(&cluster).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish(TOPIC, &number.to_be_bytes(), QoS::AtLeastOnce).await;
    }
    cluster.nodes[2].kill();
    let (path, at) = the_record_of(&cluster, 2, MESSAGES / 2);
    let file = std::fs::File::options().write(true).open(&path).expect("the log is there");
    file.write_all_at(&[0xff], at).expect("a byte is overwritten");
    cluster.nodes[2].spawn();
    let ended = cluster.nodes[2].ended(SOON).await;
    assert!(!ended.success());
    let told = cluster.nodes[2].log_tail(1_000);
    assert!(told.contains("damaged") && told.contains(&*path.to_string_lossy()), "{told}");
    for number in MESSAGES..2 * MESSAGES {
        publisher.publish(TOPIC, &number.to_be_bytes(), QoS::AtLeastOnce).await;
    }
    assert_waiting(&cluster, 1, &(0..2 * MESSAGES).collect::<Vec<_>>()).await;
}

/// A file of the node's log, and where in it a byte of about that message lies.
fn the_record_of(cluster: &TestCluster, node: usize, number: u32) -> (PathBuf, u64) {
    let dir = cluster.nodes[node].spec.data_dir.join("raft-log");
    for item in std::fs::read_dir(dir).expect("the log's folder") {
        let path = item.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file of the log");
        let mut places = bytes.windows(TOPIC.len()).enumerate().filter(|(_, window)| *window == TOPIC.as_bytes());
        // The subscription comes first, and many messages after it.
        if let Some((at, _)) = places.nth(number as usize) {
            return (path, at as u64);
        }
    }
    panic!("the messages are not in the log");
}
