//! Messages that do not fit in memory wait on disk, and the disk's copy is never the only one.

use bytes::Bytes;
use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;

const MESSAGES: u32 = 600;
const SESSIONS: usize = 6;
const PAYLOAD: usize = 8 << 10;

fn asleep(index: usize) -> Options {
    Options::v5(format!("asleep-{index}")).persistent()
}

fn payload(number: u32) -> Bytes {
    let mut bytes = vec![number as u8; PAYLOAD];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

/// A counter of `/metrics`; 0 where it is not there.
async fn metric(cluster: &TestCluster, node: usize, name: &str) -> f64 {
    let path = reqwest::get(format!("{}/metrics", cluster.nodes[node].api().base())).await.expect("metrics");
    let text = path.text().await.expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spilled_comes_back_whatever_becomes_of_the_files_of_a_node_that_died() {
    let settings = ["inbox.memory=1MiB", "inbox.max_messages=10000", "inbox.max_bytes=1GiB"];
    let mut cluster = TestCluster::start_with(3, &settings).await;
    for index in 0..SESSIONS {
        let mut client = RawClient::connect(cluster.nodes[index % 3].mqtt(), &asleep(index)).await;
        client.subscribe(&format!("to/{index}"), QoS::AtLeastOnce).await;
        client.disconnect().await;
    }
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish(&format!("to/{}", number as usize % SESSIONS), &payload(number), QoS::AtLeastOnce).await;
    }
    for node in 0..3 {
        assert!(metric(&cluster, node, "rollcall_inbox_spilled_total").await > 0.0, "node-{node} has spilled nothing");
    }
    // One loses its spilled messages altogether, another finds them cut short.
    for node in [1, 2] {
        cluster.nodes[node].kill();
        let bodies = cluster.nodes[node].spec.data_dir.join("bodies");
        if node == 1 {
            std::fs::remove_dir_all(&bodies).expect("the folder goes");
        } else {
            cut_short(&bodies);
        }
        cluster.nodes[node].spawn();
        cluster.all_ready().await;
    }
    for index in 0..SESSIONS {
        let node = cluster.nodes[1 + index % 2].mqtt();
        let (mut client, ack) = RawClient::try_connect(node, &asleep(index)).await.expect("a CONNACK");
        assert!(ack.session_present);
        for number in (0..MESSAGES).filter(|number| *number as usize % SESSIONS == index) {
            assert_eq!(client.message(SOON).await.payload, payload(number), "{number} to {index}");
        }
        client.disconnect().await;
    }
}

/// Every file below it to half its length.
fn cut_short(dir: &std::path::Path) {
    for item in std::fs::read_dir(dir).expect("a folder") {
        let path = item.expect("an entry").path();
        if path.is_dir() {
            cut_short(&path);
        } else {
            let file = std::fs::File::options().write(true).open(&path).expect("a file");
            file.set_len(file.metadata().expect("its size").len() / 2).expect("it is cut");
        }
    }
}
