//! Nodes that show each other certificates, and those that are refused, which both sides say.

use std::time::Duration;

use rollcall_proto::packet::QoS;
use rollcall_tests::authority::{Authority, Issued};
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::node::{Node, NodeSpec};
use rollcall_tests::patience::until;
use rollcall_tests::ports;
use tempfile::TempDir;

/// A node that is refused tries again soon.
const SAID: Duration = Duration::from_secs(20);

fn tls_of(authority: &str, folder: &TempDir, issued: &Issued) -> [String; 4] {
    [
        format!("cluster.tls.ca={}", folder.path().join(format!("{authority}.pem")).display()),
        format!("cluster.tls.cert={}", issued.cert.display()),
        format!("cluster.tls.key={}", issued.key.display()),
        "cluster.tls.reload=1s".to_owned(),
    ]
}

/// Each node with a certificate of its own, `node-0` and so on.
async fn with_tls(folder: &TempDir, authority: &Authority) -> TestCluster {
    TestCluster::start_changed(3, &[], |spec| {
        let issued = authority.issue(&spec.name);
        spec.settings.extend(tls_of("ca", folder, &issued));
    })
    .await
}

/// A node beside the cluster, with other settings, that names it as its peers.
fn newcomer(cluster: &TestCluster, name: &str, settings: &[String]) -> Node {
    let port = ports::consecutive(3);
    let known = |node: &Node| node.spec.setting("cluster.rpc_bind").expect("a setting").to_owned();
    let own = format!("127.0.0.1:{}", port + 2);
    let peers: Vec<String> = cluster.nodes.iter().map(known).chain([own.clone()]).collect();
    let (data_dir, log) = (cluster.scratch(name), cluster.scratch(&format!("{name}.log")));
    let mut all = vec![
        format!("node.name={name}"),
        format!("node.data_dir={}", data_dir.display()),
        format!("listeners.tcp.bind=127.0.0.1:{port}"),
        format!("http.bind=127.0.0.1:{}", port + 1),
        format!("cluster.rpc_bind={own}"),
        format!("cluster.peers={}", peers.join(",")),
    ];
    all.extend_from_slice(settings);
    let (mqtt_port, http_port) = (port, port + 1);
    Node::start(NodeSpec {
        name: name.into(),
        mqtt_port,
        http_port,
        data_dir,
        log,
        settings: all,
        file: None,
        env: Vec::new(),
        program: None,
    })
}

async fn says(node: &Node, part: &str) {
    until(&format!("{} says {part:?}", node.spec.name), SAID, || {
        let lines = node.log_lines(part);
        async move { if lines.is_empty() { Err("not yet".to_owned()) } else { Ok(()) } }
    })
    .await;
}

async fn passes_on(cluster: &TestCluster, from: usize, to: usize) {
    let mut subscriber = RawClient::connect(cluster.nodes[to].mqtt(), &Options::v5("subscriber")).await;
    subscriber.subscribe("over/the/link", QoS::AtLeastOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[from].mqtt(), &Options::v5("publisher")).await;
    let large = vec![b'x'; 200 << 10];
    publisher.publish("over/the/link", &large, QoS::AtLeastOnce).await;
    assert_eq!(subscriber.message(SOON).await.payload, large);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_of_one_authority_are_a_cluster_and_others_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, stranger) = (Authority::new(folder.path(), "ca"), Authority::new(folder.path(), "stranger"));
    let cluster = with_tls(&folder, &authority).await;
    passes_on(&cluster, 0, 2).await;
    // It trusts the cluster, and shows what a stranger has issued.
    let mut impostor = tls_of("ca", &folder, &stranger.issue("impostor"));
    let node = newcomer(&cluster, "impostor", &impostor);
    says(&node, "received fatal alert").await;
    says(&cluster.nodes[0], "UnknownIssuer").await;
    drop(node);
    // It does not trust the cluster.
    impostor = tls_of("stranger", &folder, &authority.issue("distrustful"));
    let node = newcomer(&cluster, "distrustful", &impostor);
    says(&node, "UnknownIssuer").await;
    says(&cluster.nodes[0], "UnknownCA").await;
    drop(node);
    let node = newcomer(&cluster, "plain", &[]);
    says(&node, "waiting for 127.0.0.1").await;
    says(&cluster.nodes[0], "it does not speak TLS, and this node does").await;
    drop(node);
    let mut other = tls_of("ca", &folder, &authority.issue("other")).to_vec();
    other.push("cluster.name=other".to_owned());
    let node = newcomer(&cluster, "other", &other);
    says(&node, "correct cluster.name").await;
    says(&cluster.nodes[0], "another node was refused").await;
    assert!(node.api().ready().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_tls_and_one_without_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let cluster = TestCluster::start(1).await;
    let node = newcomer(&cluster, "encrypted", &tls_of("ca", &folder, &authority.issue("encrypted")));
    says(&node, "TLS to 127.0.0.1").await;
    says(&cluster.nodes[0], "it speaks TLS, and this node does not").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_while_the_cluster_is_at_work() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let mut cluster = with_tls(&folder, &authority).await;
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("staying")).await;
    for node in &cluster.nodes {
        let renewed = authority.issue(&format!("renewed-{}", node.spec.name));
        let place = |leaf: &str| folder.path().join(format!("{}.{leaf}", node.spec.name));
        std::fs::rename(renewed.key, place("key")).expect("the key takes its place");
        std::fs::rename(renewed.cert, place("crt")).expect("the certificate takes its place");
    }
    for node in &cluster.nodes {
        says(node, "other certificates are in use").await;
    }
    client.ping().await;
    cluster.nodes[2].kill();
    cluster.nodes[2].spawn();
    cluster.ready(2).await;
    passes_on(&cluster, 2, 0).await;
    client.ping().await;
}
