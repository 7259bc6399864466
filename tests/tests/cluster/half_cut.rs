//! Two nodes that reach the leader and not each other: one of them is fenced until they meet again.

use std::time::Duration;

use rollcall_chaos::net::{Condition, Net};
use rollcall_proto::packet::QoS;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::node::Node;
use rollcall_tests::patience::until;
use rollcall_tests::ports;

/// `cluster.node_timeout`, then the lease of the node that is set apart, on a busy machine.
const FENCED: Duration = Duration::from_secs(25);

/// Three nodes whose links lead through a network that can be cut.
async fn start() -> (TestCluster, Net) {
    let first = ports::consecutive(3);
    let fronts = [first, first + 1, first + 2];
    let peers = fronts.map(|port| format!("127.0.0.1:{port}")).join(",");
    let settings = ["cluster.route_lease=1s", "cluster.lease=2s", "cluster.node_timeout=3s"];
    let mut cluster = TestCluster::spawn_changed(3, &settings, |spec| {
        let index: u16 = spec.name.trim_start_matches("node-").parse().expect("a node's number");
        spec.settings.push(format!("cluster.rpc_advertise=127.0.0.1:{}", first + index));
        spec.settings.push(format!("cluster.peers={peers}"));
    });
    let back = |node: &Node| {
        let bind = node.spec.setting("cluster.rpc_bind").expect("a setting");
        bind.rsplit_once(':').expect("a port").1.parse().expect("a number")
    };
    let backs: Vec<u16> = cluster.nodes.iter().map(back).collect();
    let net = Net::start(&fronts, &backs).await.expect("free ports");
    for (index, node) in cluster.nodes.iter().enumerate() {
        net.born(index, node.pid());
    }
    cluster.all_ready().await;
    (cluster, net)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_do_not_reach_each_other_the_emptier_is_fenced_until_they_do() {
    let (mut cluster, net) = start().await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader);
    let (fuller, emptier) = (others[1], others[0]);
    let mut staying = Vec::new();
    for number in 0..3 {
        let options = Options::v5(format!("staying-{number}"));
        staying.push(RawClient::connect(cluster.nodes[fuller].mqtt(), &options).await);
    }
    let mut losing = RawClient::connect(cluster.nodes[emptier].mqtt(), &Options::v5("losing")).await;
    net.set_pair(fuller, emptier, Condition::CUT);
    assert!(losing.is_closed_within(FENCED).await, "nobody could tell it what is published on the other");
    until("the emptier one says why it does not serve", SOON, || async {
        let readiness = cluster.nodes[emptier].api().ready().await;
        if readiness.as_ref().is_err_and(|why| why.contains("has no lease")) {
            Ok(())
        } else {
            Err(format!("{readiness:?}"))
        }
    })
    .await;
    for client in &mut staying {
        client.ping().await;
    }
    // Whoever was there is served by the others, wherever what it needs was led.
    let options = Options::v5("losing").persistent();
    let mut losing = RawClient::connect(cluster.nodes[fuller].mqtt(), &options).await;
    losing.subscribe("half/cut", QoS::AtLeastOnce).await;
    for (number, node) in [leader, fuller].into_iter().enumerate() {
        let options = Options::v5(format!("publisher-{number}"));
        let mut publisher = RawClient::connect(cluster.nodes[node].mqtt(), &options).await;
        publisher.publish("half/cut", b"heard", QoS::AtLeastOnce).await;
        assert_eq!(losing.message(SOON).await.payload, b"heard"[..]);
    }
    net.heal();
    cluster.ready(emptier).await;
    let mut publisher = RawClient::connect(cluster.nodes[emptier].mqtt(), &Options::v5("back")).await;
    publisher.publish("half/cut", b"again", QoS::AtLeastOnce).await;
    assert_eq!(losing.message(SOON).await.payload, b"again"[..]);
}
