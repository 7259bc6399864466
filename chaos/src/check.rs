//! What must hold once the cluster is healed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::owners::Owned;

/// Until all ends of all connections are in the log: longer than a dead node's timeout and its reaping.
const SETTLED: Duration = Duration::from_secs(40);
const PAGE: usize = 1000;

/// P5: the events of all nodes are the same, without a gap. Waits until nobody is connected any more, as all clients
/// have left.
pub async fn same_log_everywhere(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let started = Instant::now();
    loop {
        let online = cluster.get(0, "sessions?online=true&limit=1").await?;
        if online["items"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        if started.elapsed() > SETTLED {
            return Err(format!("{SETTLED:?} after the last client left, the cluster still counts {online}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    loop {
        let mut told = Vec::new();
        for index in 0..cluster.size() {
            told.push(events(cluster, index).await?);
        }
        let shortest = told.iter().map(Vec::len).min().unwrap_or_default();
        for (index, events) in told.iter().enumerate() {
            gap_free(events).map_err(|gap| format!("P5: node-{index}: {gap}"))?;
            if let Some(place) = (0..shortest).find(|&place| events[place] != told[0][place]) {
                return Err(format!("P5: node-0 tells {}, node-{index} tells {}", told[0][place], events[place]));
            }
        }
        if told.iter().all(|events| events.len() == shortest) {
            return Ok(told.swap_remove(0));
        }
        if started.elapsed() > 2 * SETTLED {
            let lengths: Vec<usize> = told.iter().map(Vec::len).collect();
            return Err(format!("P5: the nodes go on telling different numbers of events: {lengths:?}"));
        }
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

async fn events(cluster: &Cluster, index: usize) -> Result<Vec<Value>, String> {
    let (mut all, mut seq) = (Vec::new(), 0);
    loop {
        let page = cluster.get(index, &format!("events?after={seq}&limit={PAGE}")).await?;
        let items = page["items"].as_array().ok_or_else(|| format!("no items in {page}"))?;
        let Some(last) = items.last() else { return Ok(all) };
        seq = number(last, "seq")?;
        all.extend(items.iter().cloned());
    }
}

fn gap_free(events: &[Value]) -> Result<(), String> {
    for pair in events.windows(2) {
        if number(&pair[1], "seq")? != number(&pair[0], "seq")? + 1 {
            return Err(format!("a gap between {} and {}", pair[0], pair[1]));
        }
    }
    Ok(())
}

/// P1: connected and disconnected of each client id alternate, both with one epoch, each next one higher, at a takeover
/// by one; in the end nobody is left connected.
pub fn one_owner(events: &[Value]) -> Result<(), String> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    // The epoch of the last connection, and whether it was taken over.
    let mut last: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
    for event in events {
        let client = text(event, "clientid");
        match text(event, "event") {
            "client.connected" => {
                let epoch = number(event, "epoch")?;
                if open.insert(client, epoch).is_some() {
                    return Err(format!("P1: two connections at once: {event}"));
                }
                let (before, taken_over) = last.insert(client, (epoch, false)).unwrap_or_default();
                if epoch <= before || (taken_over && epoch != before + 1) {
                    return Err(format!("P1: the epoch does not follow {before}: {event}"));
                }
            }
            // A refused connection never was one: epoch 0.
            "client.disconnected" if number(event, "epoch")? != 0 => {
                let ended = open.remove(client);
                if ended != Some(number(event, "epoch")?) {
                    return Err(format!("P1: it ends a connection that was not there: {event}"));
                }
                if let Some((_, taken_over)) = last.get_mut(client) {
                    *taken_over = text(event, "reason") == "takeovered";
                }
            }
            _ => {}
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("P1: connected without an end: {open:?}")) }
}

/// Each connection that a client was granted is in the log, and the log has none that no client asked for.
pub fn as_clients_saw(events: &[Value], owned: &Owned) -> Result<(), String> {
    for (client_id, (accepted, attempts)) in &owned.by_id {
        let connected = |e: &&Value| text(e, "event") == "client.connected" && text(e, "clientid") == client_id;
        let logged = events.iter().filter(connected).count() as u64;
        if logged < *accepted || logged > *attempts {
            return Err(format!("P5: {client_id} was accepted {accepted} times of {attempts}, {logged} are logged"));
        }
    }
    Ok(())
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

fn number(event: &Value, field: &str) -> Result<u64, String> {
    event[field].as_u64().ok_or_else(|| format!("{field} is no number in {event}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, seq: u64, epoch: u64) -> Value {
        json!({"event": format!("client.{kind}"), "clientid": "a", "seq": seq, "epoch": epoch})
    }

    #[test]
    fn an_orderly_history_passes() {
        let events = [event("connected", 1, 5), event("disconnected", 2, 5), event("connected", 3, 6)];
        assert!(gap_free(&events).is_ok());
        assert_eq!(one_owner(&events), Err("P1: connected without an end: {\"a\": 6}".into()));
        assert!(one_owner(&events[..2]).is_ok());
    }

    #[test]
    fn two_owners_a_skipped_epoch_a_ghost_and_a_gap_are_found() {
        assert!(one_owner(&[event("connected", 1, 5), event("connected", 2, 6)]).is_err());
        assert!(one_owner(&[event("connected", 1, 5), event("disconnected", 2, 5), event("connected", 3, 5)]).is_err());
        let mut taken_over = event("disconnected", 2, 5);
        taken_over["reason"] = "takeovered".into();
        let skipped = [event("connected", 1, 5), taken_over, event("connected", 3, 7), event("disconnected", 4, 7)];
        assert!(one_owner(&skipped).is_err_and(|told| told.contains("does not follow")));
        assert!(one_owner(&[event("disconnected", 1, 5)]).is_err());
        assert!(one_owner(&[event("connected", 1, 5), event("disconnected", 2, 4)]).is_err());
        assert!(gap_free(&[event("connected", 1, 5), event("disconnected", 3, 5)]).is_err());
    }

    #[test]
    fn a_connection_missing_from_the_log_is_found() {
        let owned = Owned { by_id: [("a".to_owned(), (2, 3))].into() };
        let once = [event("connected", 1, 5), event("disconnected", 2, 5)];
        assert!(as_clients_saw(&once, &owned).is_err());
        let twice = [&once[..], &[event("connected", 3, 6), event("disconnected", 4, 6)]].concat();
        assert!(as_clients_saw(&twice, &owned).is_ok());
    }
}
