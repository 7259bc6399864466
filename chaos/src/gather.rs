//! What the healed cluster tells: every node's events, and every replica's state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::history::{Event, digest};

/// Until all ends of all connections are in the log: longer than a dead node's timeout and its reaping.
const SETTLED: Duration = Duration::from_secs(40);
const PAGE: usize = 1000;

/// Waits until nobody is connected any more, as all clients have left.
pub async fn nobody_online(cluster: &Cluster) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let online = cluster.get(0, "sessions?online=true&limit=1").await?;
        if online["items"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        if started.elapsed() > SETTLED {
            return Err(format!("{SETTLED:?} after the last client left, the cluster still counts {online}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What every node tells of the events, once nothing happens any more.
pub async fn logs(cluster: &Cluster) -> Result<(Vec<Event>, Vec<Vec<(u64, u64)>>), String> {
    let started = Instant::now();
    let mut events = Vec::new();
    let mut logs = vec![Vec::new(); cluster.size()];
    loop {
        for (index, log) in logs.iter_mut().enumerate() {
            for item in events_after(cluster, index, log.last().map_or(0, |(seq, _)| *seq)).await? {
                let event = Event::read(&item)?;
                log.push((event.seq, digest(&item)));
                if index == 0 {
                    events.push(event);
                }
            }
        }
        let lengths: BTreeSet<usize> = logs.iter().map(Vec::len).collect();
        if lengths.len() == 1 || started.elapsed() > SETTLED {
            return Ok((events, logs));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What one node tells of the events up to now.
pub async fn log(cluster: &Cluster, index: usize) -> Result<Vec<(u64, u64)>, String> {
    let events = events_after(cluster, index, 0).await?;
    events.iter().map(|event| Ok((number(event, "seq")?, digest(event)))).collect()
}

/// Those behind that position, up to now.
pub async fn events_after(cluster: &Cluster, index: usize, mut seq: u64) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    loop {
        let page = cluster.get(index, &format!("events?after={seq}&limit={PAGE}")).await?;
        let items = page["items"].as_array().ok_or_else(|| format!("no items in {page}"))?;
        let Some(last) = items.last() else { return Ok(all) };
        seq = number(last, "seq")?;
        all.extend(items.iter().cloned());
    }
}

/// Replicas are copies: every group has the same state on all its members at the same index of its log.
pub async fn same_state_everywhere(cluster: &Cluster) -> Result<usize, String> {
    let started = Instant::now();
    loop {
        let groups = states(cluster).await?;
        let mut behind = Vec::new();
        for (group, copies) in &groups {
            let indexes: BTreeSet<u64> = copies.keys().map(|(index, _)| *index).collect();
            if indexes.len() < copies.len() {
                return Err(format!("P4: the replicas of {group} differ at the same index: {copies:?}"));
            }
            if indexes.len() > 1 {
                behind.push(format!("{group}: {copies:?}"));
            }
        }
        if behind.is_empty() {
            return Ok(groups.len());
        }
        if started.elapsed() > SETTLED {
            return Err(format!("replicas do not come to the same index: {}", behind.join("; ")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Per group the states that there are, each with the nodes that have it.
type States = BTreeMap<String, BTreeMap<(u64, String), Vec<usize>>>;

async fn states(cluster: &Cluster) -> Result<States, String> {
    let mut groups = States::new();
    for index in 0..cluster.size() {
        let view = cluster.get(index, "cluster?hash=true").await?;
        let told = view["groups"].as_array().ok_or_else(|| format!("no groups in {view}"))?;
        for group in told.iter().filter(|group| group["held"] == Value::Bool(true)) {
            let state = (number(group, "applied")?, text(group, "state_hash").to_owned());
            groups.entry(text(group, "group").to_owned()).or_default().entry(state).or_default().push(index);
        }
    }
    Ok(groups)
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

fn number(event: &Value, field: &str) -> Result<u64, String> {
    event[field].as_u64().ok_or_else(|| format!("{field} is no number in {event}"))
}
