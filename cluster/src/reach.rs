//! Which of the other nodes this one reaches: it asks each of them, again and again, for a sign of life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_proto::schema::node::PingRequest;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::boottime;
use crate::courier::Office;
use crate::roster::NodeId;

/// Questions per route lease: several may be lost before a node counts as apart.
const ASKS_PER_LEASE: u32 = 2;

/// Since when each other node that is up has not answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach(Arc<Mutex<BTreeMap<(NodeId, u64), Duration>>>);

impl Reach {
    /// Those that have been silent for longer than `silence`.
    pub(crate) fn apart(&self, silence: Duration) -> Vec<NodeId> {
        let now = boottime();
        let heard = self.0.lock();
        heard.iter().filter(|(_, heard)| now > **heard + silence).map(|((node, _), _)| *node).collect()
    }

    pub(crate) async fn keep(self, office: Arc<Office>) {
        let mut ticks = interval(office.config.route_lease / ASKS_PER_LEASE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (node, epoch, address) in self.others(&office) {
                tokio::spawn(self.clone().ask(office.clone(), node, epoch, address));
            }
        }
    }

    /// The other nodes that are up. One that has just come up counts as heard.
    fn others(&self, office: &Office) -> Vec<(NodeId, u64, String)> {
        let roster = office.replica.roster();
        let others = roster.nodes().filter(|node| node.id != office.replica.me());
        let current = others.filter(|node| roster.is_current(node.id, node.epoch));
        let found: Vec<_> = current.map(|node| (node.id, node.epoch, node.rpc_address.clone())).collect();
        drop(roster);
        let mut heard = self.0.lock();
        heard.retain(|known, _| found.iter().any(|(node, epoch, _)| (*node, *epoch) == *known));
        for (node, epoch, _) in &found {
            heard.entry((*node, *epoch)).or_insert_with(boottime);
        }
        found
    }

    async fn ask(self, office: Arc<Office>, node: NodeId, epoch: u64, address: String) {
        let Ok(mut client) = office.peers.client(&address) else { return };
        let asking = client.ping(PingRequest { to: node });
        if let Ok(Ok(_)) = timeout(office.config.route_lease, asking).await
            && let Some(heard) = self.0.lock().get_mut(&(node, epoch))
        {
            *heard = boottime();
        }
    }
}
