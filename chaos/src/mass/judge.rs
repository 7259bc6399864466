//! What the log and the groups tell after a mass death. Pure.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

/// An event, as much of it as counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub seq: u64,
    pub disconnected: bool,
    pub client: String,
    pub reason: String,
    pub node: String,
}

impl End {
    /// # Errors
    /// It has no position.
    pub fn read(event: &Value) -> Result<Self, String> {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let seq = event["seq"].as_u64().ok_or_else(|| format!("no seq in {event}"))?;
        let disconnected = event["event"] == "client.disconnected";
        Ok(Self { seq, disconnected, client: text("clientid"), reason: text("reason"), node: text("node") })
    }
}

/// What is wrong with the ends of so many clients: a gap, one that is missing or told twice, another reason, or told by
/// somebody else.
pub fn ends(events: &[End], prefix: &str, count: u32, reason: &str, by: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    if let Some(gap) = events.windows(2).find(|pair| pair[1].seq != pair[0].seq + 1) {
        broken.push(format!("event {} follows event {}", gap[1].seq, gap[0].seq));
    }
    let mut times: HashMap<&str, u32> = HashMap::new();
    let (mut wrong, mut example) = (0, None);
    for end in events.iter().filter(|event| event.disconnected && event.client.starts_with(prefix)) {
        *times.entry(&end.client).or_default() += 1;
        if end.reason != reason || !by.contains(&end.node) {
            wrong += 1;
            example.get_or_insert(end);
        }
    }
    if let Some(example) = example {
        broken.push(format!("{wrong} ends are not {reason} by one of {by:?}: {example:?}"));
    }
    let twice = times.values().filter(|times| **times > 1).count();
    if times.len() != count as usize || twice > 0 {
        broken.push(format!("{} of {count} ends are in the log, {twice} more than once", times.len()));
    }
    broken
}

/// Leader and term of each group.
pub type Groups = BTreeMap<String, (Option<String>, u64)>;

pub fn groups(view: &Value) -> Groups {
    let of = |group: &Value| {
        let leader = group["leader"].as_str().map(str::to_owned);
        (group["group"].as_str().unwrap_or_default().to_owned(), (leader, group["term"].as_u64().unwrap_or_default()))
    };
    view["groups"].as_array().into_iter().flatten().map(of).collect()
}

#[derive(Debug, PartialEq, Eq)]
pub struct Election {
    /// Groups that were led by the dead one.
    pub orphaned: usize,
    /// Elections that nobody needed, in words.
    pub needless: Vec<String>,
}

pub fn elections(before: &Groups, now: &Groups, dead: &str) -> Election {
    let mut election = Election { orphaned: 0, needless: Vec::new() };
    for (group, (leader, term)) in before {
        if leader.as_deref() == Some(dead) {
            election.orphaned += 1;
        } else if now.get(group).map(|(_, now)| now) != Some(term) {
            election.needless.push(format!("{group}, led by {leader:?} in term {term}, is now {:?}", now.get(group)));
        }
    }
    election
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(seq: u64, client: &str, reason: &str) -> End {
        End { seq, disconnected: true, client: client.into(), reason: reason.into(), node: "n".into() }
    }

    fn wrong(events: &[End]) -> usize {
        ends(events, "c", 2, "gone", &["n".to_owned()]).len()
    }

    #[test]
    fn every_end_once_and_in_order_passes() {
        assert_eq!(wrong(&[end(4, "c0", "gone"), end(5, "x", "normal"), end(6, "c1", "gone")]), 0);
    }

    #[test]
    fn a_gap_a_missing_end_a_repeated_one_and_another_reason_are_found() {
        assert_eq!(wrong(&[end(4, "c0", "gone"), end(6, "c1", "gone")]), 1);
        assert_eq!(wrong(&[end(4, "c0", "gone")]), 1);
        assert_eq!(wrong(&[end(4, "c0", "gone"), end(5, "c1", "gone"), end(6, "c1", "gone")]), 1);
        assert_eq!(wrong(&[end(4, "c0", "gone"), end(5, "c1", "normal")]), 1);
        let elsewhere = End { node: "m".into(), ..end(5, "c1", "gone") };
        assert_eq!(wrong(&[end(4, "c0", "gone"), elsewhere]), 1);
    }

    #[test]
    fn only_groups_that_the_dead_one_led_may_elect() {
        let group = |leader: &str, term| (Some(leader.to_owned()), term);
        let before: Groups = [("roster".to_owned(), group("a", 1)), ("shard-1".to_owned(), group("b", 1))].into();
        let mut now = before.clone();
        now.insert("shard-1".into(), group("a", 2));
        assert_eq!(elections(&before, &now, "b"), Election { orphaned: 1, needless: Vec::new() });
        now.insert("roster".into(), group("c", 2));
        assert_eq!(elections(&before, &now, "b").needless.len(), 1);
    }
}
