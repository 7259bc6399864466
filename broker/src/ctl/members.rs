//! Draining and removing nodes, and how far that is.

use std::thread::sleep;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{Error, Node, encoded};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long connections must not have changed to count as settled.
const SETTLED: Duration = Duration::from_secs(2);
/// How long no node may answer before that is told.
const PATIENCE: Duration = Duration::from_secs(30);

impl Node<'_> {
    /// Until the node has stopped.
    pub(super) fn drain(&self, name: &str, wait: bool) -> Result<(), Error> {
        let before = self.get("nodes")?;
        self.send("POST", &format!("nodes/{}/drain", encoded(name)), "application/json")?;
        if !wait {
            return self.tell(name, "is asked to drain");
        }
        let connections = named(&before, name).map_or(0, |node| node["connections"].as_u64().unwrap_or(0));
        let bar = ProgressBar::new(connections);
        bar.set_style(style("{prefix} {wide_bar} {pos} of {len} clients sent away, {elapsed}"));
        bar.set_prefix(name.to_owned());
        self.watch(&before, |nodes| {
            let node = named(nodes, name)?;
            let left = node["connections"].as_u64().unwrap_or(0);
            bar.set_length(bar.length().unwrap_or(0).max(left));
            bar.set_position(bar.length().unwrap_or(0) - left);
            matches!(node["state"].as_str(), Some("up" | "draining")).then_some(())
        })?;
        bar.finish_and_clear();
        self.tell(name, "has stopped")
    }

    /// Until the node is no longer listed.
    pub(super) fn remove(&self, name: &str, wait: bool) -> Result<(), Error> {
        let before = self.get("nodes")?;
        self.send("DELETE", &format!("nodes/{}", encoded(name)), "application/json")?;
        if !wait {
            return self.tell(name, "is leaving");
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(style("{prefix} {spinner} {msg}, {elapsed}"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(LOOK);
        self.watch(&before, |nodes| {
            let node = named(nodes, name).filter(|node| node["leaving"] == true)?;
            bar.set_message(match node["state"].as_str() {
                Some("up") => "its replicas move to other nodes",
                Some("draining") => "its clients are sent away",
                _ => "it has stopped; its replicas move to other nodes",
            });
            Some(())
        })?;
        bar.finish_and_clear();
        self.tell(name, "is no member any more")
    }

    /// Until there is nothing to move, or moving changes nothing: clients may come back to where they were.
    pub(super) fn rebalance(&self, wait: bool) -> Result<(), Error> {
        let mut surplus = u64::MAX;
        loop {
            let asked = self.ask("POST", "rebalance")?;
            let moves = asked["moves"].as_array().cloned().unwrap_or_default();
            let left: u64 = moves.iter().filter_map(|step| step["count"].as_u64()).sum();
            if self.options.json {
                println!("{asked}");
            } else if left == 0 {
                println!("the connections are spread evenly");
            } else {
                moves
                    .iter()
                    .for_each(|step| println!("{} clients go from {} to {}", step["count"], step["from"], step["to"]));
            }
            if left == 0 || !wait {
                return Ok(());
            }
            if left >= surplus {
                return Err(Error::NoProgress(left));
            }
            surplus = left;
            self.settled()?;
        }
    }

    /// Until no node's connections change any more.
    fn settled(&self) -> Result<(), Error> {
        let counts = |nodes: &Value| -> Vec<u64> {
            nodes["items"].as_array().into_iter().flatten().filter_map(|node| node["connections"].as_u64()).collect()
        };
        let (mut last, mut since) = (counts(&self.get("nodes")?), Instant::now());
        while since.elapsed() < SETTLED {
            sleep(LOOK);
            let now = counts(&self.get("nodes")?);
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    fn tell(&self, name: &str, what: &str) -> Result<(), Error> {
        if !self.options.json {
            println!("{name} {what}");
        }
        Ok(())
    }

    /// Asks again and again while `look` finds something to wait for. The node that was asked first may be the one that
    /// goes: then another of those there were `before` answers.
    fn watch(&self, before: &Value, look: impl Fn(&Value) -> Option<()>) -> Result<(), Error> {
        let addresses =
            before["items"].as_array().into_iter().flatten().filter_map(|node| node["http_address"].as_str());
        let others = addresses.map(|address| self.at(format!("http://{address}")));
        let nodes: Vec<Node<'_>> = [self.at(self.url.clone())].into_iter().chain(others).collect();
        let mut answered = Instant::now();
        loop {
            let mut failed = None;
            let found = nodes.iter().find_map(|node| match node.get("nodes") {
                Ok(found) => Some(found),
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
            match (found, failed) {
                (Some(found), _) if look(&found).is_none() => return Ok(()),
                (Some(_), _) => answered = Instant::now(),
                (None, Some(error)) if answered.elapsed() > PATIENCE => return Err(error),
                (None, _) => {}
            }
            sleep(LOOK);
        }
    }

    fn at(&self, url: String) -> Node<'_> {
        Node { agent: self.agent.clone(), options: self.options, url }
    }
}

/// While a node is replaced there are two of its name: the one that leaves is the one that is waited for.
fn named<'a>(nodes: &'a Value, name: &str) -> Option<&'a Value> {
    let mut of_name = nodes["items"].as_array()?.iter().filter(|node| node["name"] == name);
    let first = of_name.next()?;
    Some(of_name.find(|node| node["leaving"] == true).unwrap_or(first))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
