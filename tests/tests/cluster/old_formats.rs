//! What earlier versions left on their disks is opened, and has all that they promised: `tests/data/format-N.tar.gz` is the
//! data directory of a node that was killed while format N was the newest.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rollcall_proto::packet::{QoS, Version};
use rollcall_tests::binary::workspace;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::assert_gap_free;
use rollcall_tests::node::NodeSpec;
use rollcall_tests::patience::until;

/// Formats there have been.
const FORMATS: u32 = 1;
/// Events in each of these logs, at least.
const EVENTS: usize = 270;

fn unpack(format: u32, spec: &mut NodeSpec) {
    let archive = workspace().join(format!("tests/data/format-{format}.tar.gz"));
    std::fs::create_dir_all(&spec.data_dir).expect("a folder");
    let unpacked = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&spec.data_dir).status();
    assert!(unpacked.expect("tar runs").success(), "{}", archive.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_every_earlier_format_is_opened_and_has_all_that_was_acknowledged() {
    let kept = std::fs::read_dir(workspace().join("tests/data")).expect("the folder").count();
    assert_eq!(kept, FORMATS as usize, "one directory of each format");
    for format in 1..=FORMATS {
        let cluster =
            TestCluster::start_changed(1, &["cluster.name=old", "cluster.shards=2"], |spec| unpack(format, spec)).await;
        let node = &cluster.nodes[0];
        let limits = node.api().get("limits").await.expect("the limits");
        assert_eq!(limits["max_connections"], 1234);
        let events = node.api().events_after(0).await;
        assert_gap_free(&events);
        assert!(events.len() >= EVENTS, "{} events", events.len());

        let keeper = Options::new(Version::V5, "keeper").persistent();
        let (mut client, ack) = RawClient::try_connect(node.mqtt(), &keeper).await.expect("a CONNACK");
        assert!(ack.session_present);
        for (topic, payload) in [("old/one", "first"), ("old/two", "second")] {
            let message = client.message(SOON).await;
            assert_eq!((&*message.topic, &*message.payload), (topic, payload.as_bytes()));
        }
        client.subscribe("kept/#", QoS::AtLeastOnce).await;
        assert_eq!(client.message(SOON).await.payload, "retained");

        until("the level rises", Duration::from_secs(10), || async {
            let cluster = node.api().get("cluster").await?;
            (cluster["level"].as_u64() > Some(1)).then_some(()).ok_or(cluster["level"].to_string())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_format_that_this_version_does_not_know_is_refused_untouched() {
    let newer = |spec: &mut NodeSpec| {
        unpack(FORMATS, spec);
        let meta = spec.data_dir.join("meta");
        let text = std::fs::read_to_string(&meta).expect("meta").replace("data format 1", "data format 99");
        std::fs::write(&meta, text).expect("meta");
    };
    let mut cluster = TestCluster::spawn_changed(1, &["cluster.name=old"], newer);
    let status = cluster.nodes[0].ended(Duration::from_secs(10)).await;
    assert!(!status.success());
    assert!(cluster.nodes[0].log_tail(20).contains("format"), "{}", cluster.nodes[0].log_tail(20));
    let wal = cluster.nodes[0].spec.data_dir.join("raft-log/00000000000000000001.wal");
    assert!(Path::new(&wal).exists());
}
