//! A whole cluster of processes on this machine, in a folder of its own.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::events;
use crate::http::Api;
use crate::node::{Node, NodeSpec};
use crate::patience::until;
use crate::ports;

/// Longer than any start of three nodes on two busy cores.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What of each node's log a failed test shows.
const LOG_LINES: usize = 40;

/// Nodes `node-0`, `node-1`, … that form one cluster. Dropping it kills them all; a panicking test first prints the end
/// of every node's log.
pub struct TestCluster {
    pub nodes: Vec<Node>,
    folder: TempDir,
}

impl TestCluster {
    /// Starts `count` nodes with default settings and waits until all are ready.
    pub async fn start(count: u16) -> Self {
        Self::start_with(count, &[]).await
    }

    /// As [`TestCluster::start`], each node with these `key=value` settings besides.
    pub async fn start_with(count: u16, settings: &[&str]) -> Self {
        Self::start_changed(count, settings, |_| {}).await
    }

    /// As [`TestCluster::start_with`], after `change` has had its way with what each node is started with.
    pub async fn start_changed(count: u16, settings: &[&str], change: impl Fn(&mut NodeSpec)) -> Self {
        let mut cluster = Self::spawn_changed(count, settings, change);
        cluster.all_ready().await;
        cluster
    }

    /// As [`TestCluster::start_changed`], without waiting for anything.
    pub fn spawn_changed(count: u16, settings: &[&str], change: impl Fn(&mut NodeSpec)) -> Self {
        let folder = tempfile::Builder::new().prefix("rollcall-test-").tempdir().expect("a temporary folder");
        let first_port = ports::consecutive(count * 3);
        let start = |index| {
            let mut spec = spec(&folder, first_port, count, index, settings);
            change(&mut spec);
            Node::start(spec)
        };
        let nodes = (0..count).map(start).collect();
        Self { nodes, folder }
    }

    /// Starts one more node, with an empty disk, that joins through the others.
    pub fn join(&mut self, settings: &[&str]) {
        self.join_changed(settings, |_| {});
    }

    /// As [`TestCluster::join`], after `change` has had its way with what it is started with.
    pub fn join_changed(&mut self, settings: &[&str], change: impl FnOnce(&mut NodeSpec)) {
        let first_port = ports::consecutive(3);
        let mut spec = spec(&self.folder, first_port, 1, 0, settings);
        let name = format!("node-{}", self.nodes.len());
        spec.data_dir = self.folder.path().join(&name);
        spec.log = self.folder.path().join(format!("{name}.log"));
        let known = |node: &Node| node.spec.setting("cluster.rpc_bind").expect("a setting").to_owned();
        let own = spec.setting("cluster.rpc_bind").expect("a setting").to_owned();
        let peers: Vec<String> = self.nodes.iter().map(known).chain([own]).collect();
        let place = [("node.name", name.clone()), ("node.data_dir", spec.data_dir.display().to_string())];
        spec.settings.retain(|setting| !place.iter().any(|(key, _)| setting.starts_with(key)));
        spec.settings.extend(place.map(|(key, value)| format!("{key}={value}")));
        spec.settings.push(format!("cluster.peers={}", peers.join(",")));
        spec.name = name;
        change(&mut spec);
        self.nodes.push(Node::start(spec));
    }

    /// Waits until every running node says it may serve.
    pub async fn all_ready(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_running() {
                self.ready(index).await;
            }
        }
    }

    /// Waits until node `index` says it may serve.
    pub async fn ready(&mut self, index: usize) {
        let api = self.nodes[index].api();
        let node = &mut self.nodes[index];
        let name = node.spec.name.clone();
        until(&format!("{name} is ready"), START_LIMIT, || {
            node.assert_alive();
            let api = api.clone();
            async move { api.ready().await }
        })
        .await;
    }

    /// The index of the node that leads the roster.
    pub async fn leader(&self) -> usize {
        let asked = self.reachable();
        let name = until("all nodes name one leader", Duration::from_secs(10), || {
            let asked = asked.clone();
            async move {
                let mut names = Vec::new();
                for api in asked {
                    names.push(api.leader().await?);
                }
                names.dedup();
                if names.len() == 1 { Ok(names.remove(0)) } else { Err(format!("they name {names:?}")) }
            }
        })
        .await;
        let index = self.nodes.iter().position(|node| node.spec.name == name);
        index.unwrap_or_else(|| panic!("the leader {name:?} is none of ours"))
    }

    /// A node that does not lead the roster.
    pub async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.nodes.len()
    }

    /// The nodes other than `index`.
    pub fn others(&self, index: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&other| other != index).collect()
    }

    /// Waits until all running nodes have applied the same events, and so everything before the last of them.
    pub async fn same_position(&self) {
        let apis = self.reachable();
        until("all nodes hold the same number of events", Duration::from_secs(20), || {
            let apis = apis.clone();
            async move {
                let mut heads = Vec::new();
                for api in &apis {
                    heads.push(api.last_seq().await?);
                }
                heads.dedup();
                if heads.len() == 1 { Ok(()) } else { Err(format!("their last seq: {heads:?}")) }
            }
        })
        .await;
    }

    /// All events that the running nodes hold, after they agreed on how many there are: read from each node, found
    /// gap-free and identical.
    pub async fn agreed_events(&self) -> Vec<Value> {
        self.same_position().await;
        let apis = self.reachable();
        let first = apis[0].events_after(0).await;
        events::assert_gap_free(&first);
        for api in &apis[1..] {
            events::assert_identical(&first, &api.events_after(0).await);
        }
        first
    }

    fn reachable(&self) -> Vec<Api> {
        self.nodes.iter().filter(|node| node.is_running() && !node.is_paused()).map(Node::api).collect()
    }

    /// Kills whatever still runs, with SIGKILL.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().filter(|node| node.is_running()).for_each(Node::kill);
    }

    /// A path for a file of the test's own, gone with the cluster.
    pub fn scratch(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn spec(folder: &TempDir, first_port: u16, count: u16, index: u16, extra: &[&str]) -> NodeSpec {
    let mqtt_port = first_port + index;
    let http_port = first_port + count + index;
    let rpc_port = |i: u16| first_port + 2 * count + i;
    let data_dir = folder.path().join(format!("node-{index}"));
    let mut settings = vec![
        format!("node.name=node-{index}"),
        format!("node.data_dir={}", data_dir.display()),
        format!("listeners.tcp.bind=127.0.0.1:{mqtt_port}"),
        format!("http.bind=127.0.0.1:{http_port}"),
    ];
    settings.push(format!("cluster.rpc_bind=127.0.0.1:{}", rpc_port(index)));
    if count > 1 {
        let peers: Vec<String> = (0..count).map(|i| format!("127.0.0.1:{}", rpc_port(i))).collect();
        settings.push(format!("cluster.peers={}", peers.join(",")));
    }
    settings.extend(extra.iter().map(|setting| setting.to_string()));
    let log = folder.path().join(format!("node-{index}.log"));
    let name = format!("node-{index}");
    NodeSpec { name, mqtt_port, http_port, data_dir, log, settings, file: None, env: Vec::new(), program: None }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("--- the end of {}'s log ---\n{}", node.spec.name, node.log_tail(LOG_LINES));
            }
        }
    }
}
