//! Where the messages of one topic go, worked out once and remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dashmap::DashMap;
use rollcall_cluster::Cluster;
use rollcall_cluster::roster::NodeId;
use rollcall_cluster::routes::Local;
use rollcall_cluster::targets::{Gathering, Targets};
use rollcall_cluster::wanted::{Matching, Wanted};

use super::shared::Group;
use crate::mailbox::Mailbox;

/// One subscriber on this node, all its matching subscriptions taken together.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub mailbox: Arc<Mailbox>,
    /// What is above QoS 0 comes to it out of its inbox.
    pub durable: bool,
    pub client_id: Arc<str>,
    pub wanted: Wanted,
}

/// Where a topic's messages go.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// Of the routes that it was worked out from.
    pub generation: u64,
    pub local: Vec<Subscriber>,
    /// With a live subscription.
    pub nodes: Vec<NodeId>,
    /// Those among them that have to be sent what is above QoS 0 too, as not all of it goes into inboxes.
    pub live_nodes: Vec<NodeId>,
    pub durable: Targets,
    pub groups: Vec<Group>,
}

impl Matched {
    pub(super) fn new(cluster: &Cluster, connections: &DashMap<u64, Arc<Mailbox>>, topic: &str) -> Self {
        let replica = cluster.replica();
        let (mut subscribers, mut gathering) = (Subscribers::default(), Gathering::default());
        let (mut nodes, mut live_nodes) = (BTreeSet::new(), BTreeSet::new());
        let mut groups = Vec::new();
        // Read before the routes are: what changes meanwhile makes this match outdated, never wrong.
        let generation = replica.generation();
        replica.routes().for_each_match(topic, |route| {
            nodes.extend(route.remote.keys().copied());
            live_nodes.extend(route.remote.iter().filter(|(_, remote)| remote.live_only > 0).map(|(node, _)| *node));
            gathering.add(route);
            for (client_id, local) in &route.local {
                if let Some(mailbox) = connections.get(&local.connection) {
                    subscribers.add(client_id, local, mailbox.value());
                }
            }
            groups.extend(route.shared.iter().map(|(share, group)| Group::new(cluster, connections, share, group)));
        });
        Matched {
            generation,
            local: subscribers.finish(),
            nodes: nodes.into_iter().collect(),
            live_nodes: live_nodes.into_iter().collect(),
            durable: gathering.finish(|client_id| cluster.shard_of(client_id)),
            groups,
        }
    }
}

/// Live subscribers of this node by their connections, each with all its matching subscriptions.
#[derive(Default)]
struct Subscribers(BTreeMap<u64, Gathered>);

struct Gathered {
    mailbox: Arc<Mailbox>,
    durable: bool,
    client_id: Arc<str>,
    matching: Matching,
}

impl Subscribers {
    fn add(&mut self, client_id: &Arc<str>, local: &Local, mailbox: &Arc<Mailbox>) {
        let gathered = self.0.entry(local.connection).or_insert_with(|| Gathered {
            mailbox: mailbox.clone(),
            durable: local.durable,
            client_id: client_id.clone(),
            matching: Matching::default(),
        });
        gathered.matching.add(&local.options);
    }

    fn finish(self) -> Vec<Subscriber> {
        let finish = |Gathered { mailbox, durable, client_id, matching }| Subscriber {
            mailbox,
            durable,
            client_id,
            wanted: matching.finish(),
        };
        self.0.into_values().map(finish).collect()
    }
}
