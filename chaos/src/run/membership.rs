//! Faults that change who is in the cluster: a node that joins and is removed, and one that comes back without its disk.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::gather;
use crate::history::{Drained, Watch};
use crate::run::inject::Injector;
use crate::run::schedule::Planned;

/// Until every replica has moved, one at a time, on a busy machine.
const MOVED: Duration = Duration::from_secs(120);
/// Until a client succeeds at the new node: the crowd may take all connections for a while.
const SERVED: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// How many voters and learners each group has.
type Members = BTreeMap<String, (usize, usize)>;

impl Injector {
    /// Clients go to the new node as to the others while it is there.
    pub(super) async fn join_and_remove(&self, cluster: &mut Cluster, planned: &Planned) -> Result<(), String> {
        let (guest, asked) = (cluster.guest(), planned.order[0]);
        let before = members(&cluster.get(asked, "cluster").await?)?;
        cluster.wipe(guest)?;
        cluster.spawn(guest)?;
        cluster.ready(guest).await?;
        serves(cluster.mqtt_ports()[guest]).await.map_err(|lost| format!("node-{guest}, which has joined: {lost}"))?;
        self.say(format!("node-{guest} has joined, for {:.1} s", planned.lasts.as_secs_f32()));
        self.nodes.store(guest + 1, Ordering::Relaxed);
        tokio::time::sleep(planned.lasts).await;
        // It must have all that was before it came, as the others do.
        let seen = gather::log(cluster, guest).await?;
        let watch = Watch { name: format!("node-{guest}"), after: 0, repeats: false, seen };
        self.recorder.add(|history| history.watches.push(watch));
        self.nodes.store(guest, Ordering::Relaxed);
        let from = self.recorder.now();
        self.say(format!("node-{guest} is removed"));
        cluster.delete(asked, &format!("nodes/node-{guest}")).await?;
        cluster.ended(guest, MOVED).await?;
        let drained = Drained { node: guest, from, exited: self.recorder.now() };
        self.recorder.add(|history| history.drains.push(drained));
        is_as_before(cluster, asked, &before).await
    }

    pub(super) async fn replace(&self, cluster: &mut Cluster, node: usize, dead: Duration) -> Result<(), String> {
        let before = members(&cluster.get(node, "cluster").await?)?;
        cluster.kill(node)?;
        cluster.wipe(node)?;
        tokio::time::sleep(dead).await;
        cluster.spawn(node)?;
        cluster.all_ready().await?;
        // Until then the cluster may be one death away from losing its majority.
        is_as_before(cluster, node, &before).await
    }
}

async fn serves(port: u16) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let served = async {
            let mut client = Client::connect("guest-probe", port).await?;
            client.subscribe("guest").await?;
            client.publish("guest", "x").await?;
            client.leave().await;
            Ok(())
        };
        let served: Result<(), crate::client::Lost> = served.await;
        match served {
            Ok(()) => return Ok(()),
            Err(lost) if started.elapsed() > SERVED => return Err(format!("no client succeeds there: {lost:?}")),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The same nodes by name, and as many replicas of everything.
async fn is_as_before(cluster: &Cluster, asked: usize, before: &Members) -> Result<(), String> {
    let started = Instant::now();
    let wanted: Vec<String> = (0..cluster.size()).map(|node| format!("node-{node}")).collect();
    loop {
        let nodes = names(&cluster.get(asked, "nodes").await?);
        let view = cluster.get(asked, "cluster").await?;
        if nodes == wanted && members(&view)? == *before {
            return Ok(());
        }
        if started.elapsed() > MOVED {
            return Err(format!("the cluster is not as it was within {MOVED:?}: {nodes:?}, {view}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn names(nodes: &Value) -> Vec<String> {
    let mut names: Vec<String> = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["name"].as_str())
        .map(String::from)
        .collect();
    names.sort_unstable();
    names
}

fn members(view: &Value) -> Result<Members, String> {
    let groups = view["groups"].as_array().ok_or_else(|| format!("no groups in {view}"))?;
    let count = |group: &Value, role: &str| group[role].as_array().map_or(0, Vec::len);
    let of = |group: &Value| {
        (group["group"].as_str().unwrap_or_default().to_owned(), (count(group, "voters"), count(group, "learners")))
    };
    Ok(groups.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_that_lacks_a_voter_or_has_a_learner_more_is_not_as_before() {
        let view = |voters: &[&str], learners: &[&str]| json!({ "groups": [{ "group": "roster", "voters": voters, "learners": learners }] });
        let before = members(&view(&["a", "b", "c"], &[])).expect("groups");
        assert_eq!(members(&view(&["a", "b", "d"], &[])).expect("groups"), before);
        assert_ne!(members(&view(&["a", "b"], &[])).expect("groups"), before);
        assert_ne!(members(&view(&["a", "b", "c"], &["d"])).expect("groups"), before);
        assert!(members(&json!({})).is_err());
    }

    #[test]
    fn what_a_node_was_is_listed_beside_what_it_is_until_it_has_left() {
        let nodes = json!({ "items": [{ "name": "node-1" }, { "name": "node-0" }, { "name": "node-1" }] });
        assert_eq!(names(&nodes), ["node-0", "node-1", "node-1"]);
    }
}
