//! What a node refuses to start with: it says what is wrong and changes nothing.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rollcall_tests::binary::rollcall;
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::node::{Node, NodeSpec};
use rollcall_tests::{external, ports};

/// Runs it until it ends, which a refused start does by itself and not with success; answers with all it printed.
async fn refusal(command: Command) -> String {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let ended = tokio::time::timeout(external::PROGRAM_LIMIT, command.output()).await;
    let Output { status, stdout, stderr } = ended.expect("a refused start ends by itself").expect("rollcall starts");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!status.success(), "it started: {said}");
    assert!(!said.contains("panicked"), "a refusal is no panic: {said}");
    said
}

/// `rollcall serve` on free ports with these settings besides.
fn serve(folder: &Path, settings: &[&str]) -> Command {
    let port = ports::consecutive(3);
    let mut command = Command::new(rollcall());
    command.arg("serve").arg("--set").arg(format!("node.data_dir={}", folder.display()));
    command.arg("--set").arg(format!("listeners.tcp.bind=127.0.0.1:{port}"));
    command.arg("--set").arg(format!("http.bind=127.0.0.1:{}", port + 1));
    command.arg("--set").arg(format!("cluster.rpc_bind=127.0.0.1:{}", port + 2));
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    command
}

/// Every file under `folder` with what is in it, but the lock, which names the process that tried.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else if entry.file_name() != "lock" {
            all.insert(path.display().to_string(), std::fs::read(&path).expect("a file"));
        }
    }
    all
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_its_name_with_the_nearest_right_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = refusal(serve(folder.path(), &["limits.max_conections=100"])).await;
    assert!(said.contains("limits.max_conections"), "names the wrong key: {said}");
    assert!(said.contains("limits.max_connections"), "names the nearest right key: {said}");
    assert!(contents(folder.path()).is_empty(), "nothing was written");
}

#[tokio::test]
async fn a_wrong_value_is_refused_by_the_name_of_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    for (setting, key) in [
        ("cluster.lease=soon", "cluster.lease"),
        ("listeners.tcp.max_qos=3", "listeners.tcp.max_qos"),
        ("listeners.tcp.bind=localhost", "listeners.tcp.bind"),
        ("access.anonymous=perhaps", "access.anonymous"),
        ("limits.max_connections=-1", "limits.max_connections"),
    ] {
        let said = refusal(serve(folder.path(), &[setting])).await;
        assert!(said.contains(key), "{setting} is refused by name: {said}");
    }
}

#[tokio::test]
async fn a_wrong_key_in_the_file_and_in_the_environment_is_refused_by_name_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rollcall.toml");
    std::fs::write(&file, "[cluster]\nnode_timeuot = \"10s\"\n").expect("the file is written");
    let mut command = serve(&folder.path().join("data"), &[]);
    command.arg("--config").arg(&file);
    let said = refusal(command).await;
    assert!(said.contains("cluster.node_timeuot"), "{said}");
    assert!(said.contains("rollcall.toml"), "says where it stands: {said}");

    let mut command = serve(&folder.path().join("data"), &[]);
    command.env("ROLLCALL__HTTP__BNID", "127.0.0.1:1");
    let said = refusal(command).await;
    assert!(said.contains("ROLLCALL__HTTP__BNID") || said.contains("http.bnid"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for key in ["listeners.tcp.bind", "http.bind", "cluster.rpc_bind"] {
        let folder = tempfile::tempdir().expect("a folder");
        let said = refusal(serve(folder.path(), &[&format!("{key}={address}")])).await;
        assert!(said.contains(&address), "{key} in use is named: {said}");
    }
}

/// A data directory that a node has used and left cleanly, and what that node was started with.
async fn used_by_a_node() -> (TestCluster, NodeSpec) {
    let mut cluster = TestCluster::start(1).await;
    cluster.nodes[0].terminate();
    cluster.nodes[0].ended(Duration::from_secs(20)).await;
    let spec = cluster.nodes[0].spec.clone();
    (cluster, spec)
}

async fn assert_refused_untouched(spec: &NodeSpec, settings: &[&str], told: &str) {
    let before = contents(&spec.data_dir);
    let mut command = spec.command();
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    let said = refusal(command).await;
    assert!(said.contains(told), "it says {told:?}: {said}");
    assert!(said.contains(&spec.data_dir.display().to_string()), "it names the directory: {said}");
    assert_eq!(before, contents(&spec.data_dir), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_another_cluster_or_node_is_refused_untouched() {
    let (cluster, spec) = used_by_a_node().await;
    assert_refused_untouched(&spec, &["cluster.name=elsewhere"], "elsewhere").await;
    assert_refused_untouched(&spec, &["node.name=somebody-else"], "somebody-else").await;
    // The right node still starts on it.
    let mut node = Node::start(spec);
    let api = node.api();
    rollcall_tests::patience::until("the node is ready", Duration::from_secs(20), || async { api.ready().await }).await;
    node.kill();
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_of_a_newer_format_is_refused_untouched() {
    let (cluster, spec) = used_by_a_node().await;
    let meta = spec.data_dir.join("meta");
    std::fs::write(&meta, "rollcall data format 2\nwhatever that will be\n").expect("the meta file is written");
    assert_refused_untouched(&spec, &[], "format 2").await;
    drop(cluster);
}

#[tokio::test]
async fn a_folder_with_somebody_elses_files_is_refused_untouched() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("thesis.tex"), "years of work").expect("a file");
    let before = contents(folder.path());
    let said = refusal(serve(folder.path(), &[])).await;
    assert!(said.contains("thesis.tex"), "{said}");
    assert_eq!(before, contents(folder.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_in_use_is_refused() {
    let cluster = TestCluster::start(1).await;
    let folder = cluster.nodes[0].spec.data_dir.clone();
    let said = refusal(serve(&folder, &[])).await;
    assert!(said.contains(&folder.display().to_string()), "{said}");
    assert!(said.contains(&cluster.nodes[0].pid().to_string()), "it names the process: {said}");
}
