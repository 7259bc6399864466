//! Clients that connect and leave at nodes all the time: how long their connects take tells what others feel.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::load::visit::clean;
use crate::mqtt::link::{Link, Lost};
use crate::mqtt::wire::{self, Version};

/// Between two connects: one after the other, as close as leaves the machine to the cluster.
const PAUSE: Duration = Duration::from_millis(5);

pub struct Probes {
    over: watch::Sender<bool>,
    probing: JoinSet<(usize, Took)>,
}

/// Of each connect how long it took, if it was granted.
pub type Took = Vec<Option<Duration>>;

impl Probes {
    /// One at each of these nodes.
    pub fn start(nodes: impl Iterator<Item = (usize, u16)>) -> Self {
        let over = watch::channel(false).0;
        let mut probing = JoinSet::new();
        for (node, port) in nodes {
            probing.spawn(probe(node, port, over.subscribe()));
        }
        Self { over, probing }
    }

    pub async fn finish(mut self) -> Result<Vec<(usize, Took)>, String> {
        self.over.send_replace(true);
        let mut all = Vec::new();
        while let Some(took) = self.probing.join_next().await {
            all.push(took.map_err(|error| error.to_string())?);
        }
        all.sort_by_key(|(node, _)| *node);
        Ok(all)
    }
}

async fn probe(node: usize, port: u16, over: watch::Receiver<bool>) -> (usize, Took) {
    let mut took = Vec::new();
    while !*over.borrow() {
        let asked = Instant::now();
        let link = connect(node, port).await;
        took.push(link.is_ok().then(|| asked.elapsed()));
        if let Ok(mut link) = link {
            wire::disconnect(link.output());
            // Closing before the broker has could overtake the DISCONNECT.
            let _ = link.flush().await;
            while link.receive().await.is_ok() {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    (node, took)
}

async fn connect(node: usize, port: u16) -> Result<Link, Lost> {
    let (stream, _) = Link::dial(port).await?;
    Ok(Link::open(stream, &clean(format!("probe-{node}"), Version::V5)).await?.0)
}
