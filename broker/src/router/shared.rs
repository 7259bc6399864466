//! Shared subscriptions: each message goes to one member, by turns: to those who are connected first, then to persistent
//! sessions that are away [MQTT 5.0 §4.8.2].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use rollcall_cluster::forward::Link;
use rollcall_cluster::roster::NodeId;
use rollcall_cluster::routes::{self, Member};
use rollcall_cluster::{Cluster, boottime};
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::node::Addressee;
use tokio::time::timeout;

use super::outward::{Outward, Way};
use super::{Hold, Routed, Router};
use crate::mailbox::Mailbox;

/// How long a message that a member did not get may wait for this node to be able to give it to another.
const PASSED_ON: Duration = Duration::from_secs(30);

/// One group, as one node sees it.
pub(super) struct Group {
    share: Arc<str>,
    turn: AtomicUsize,
    there: Vec<Candidate>,
    away: Vec<Candidate>,
    /// Whose turn it is for a will, the same on all nodes.
    members: routes::Group,
}

struct Candidate {
    client_id: Arc<str>,
    member: Member,
    /// Of its inbox.
    shard: u32,
    place: Place,
}

enum Place {
    Here(Arc<Mailbox>),
    There(NodeId, u64),
    Nowhere,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} there, {} away", self.share, self.there.len(), self.away.len())
    }
}

impl Group {
    pub(super) fn new(
        cluster: &Cluster,
        connections: &DashMap<u64, Arc<Mailbox>>,
        share: &Arc<str>,
        members: &routes::Group,
    ) -> Self {
        let candidate = |(client_id, member): (&Arc<str>, &Member)| {
            let place = match member.owner {
                Some(owner) if owner.node == cluster.me() => {
                    connections.get(&owner.connection).map_or(Place::Nowhere, |mailbox| Place::Here(mailbox.clone()))
                }
                Some(owner) => Place::There(owner.node, owner.connection),
                None => Place::Nowhere,
            };
            Candidate { client_id: client_id.clone(), member: *member, shard: cluster.shard_of(client_id), place }
        };
        let is_there = |candidate: &Candidate| !matches!(candidate.place, Place::Nowhere);
        let (there, away) = members.members().map(candidate).partition(is_there);
        // Nodes that begin at the same member would all give it more than its share.
        let turn = AtomicUsize::new(rand::random::<u16>().into());
        Group { share: share.clone(), turn, there, away, members: members.clone() }
    }

    pub(super) fn is(&self, share: &str) -> bool {
        *self.share == *share
    }

    /// The next member that can get the message, and how.
    pub(super) fn choose(&self, message: &Arc<Message>, link_to: impl Fn(NodeId) -> Option<Arc<Link>>) -> Option<Way> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let by_turns = |candidates: &'_ [Candidate]| {
            let count = candidates.len();
            (0..count).map(move |step| turn.wrapping_add(step) % count)
        };
        let there = by_turns(&self.there).find_map(|at| self.way(&self.there[at], message, &link_to));
        there.or_else(|| by_turns(&self.away).find_map(|at| self.way(&self.away[at], message, &link_to)))
    }

    fn way(
        &self,
        candidate: &Candidate,
        message: &Arc<Message>,
        link_to: &impl Fn(NodeId) -> Option<Arc<Link>>,
    ) -> Option<Way> {
        let Candidate { client_id, member, shard, place } = candidate;
        if let Some(target) = member.target(client_id, message) {
            return Some(Way::Inbox(*shard, target));
        }
        let addressee = |connection| Addressee {
            connection,
            share: self.share.to_string(),
            qos: member.qos(message) as u32,
            retain: member.retain(message),
            subscription_id: member.options.subscription_id,
        };
        match place {
            Place::Here(mailbox) => Some(Way::Mailbox(mailbox.clone(), delivery(message.clone(), addressee(0)))),
            Place::There(node, connection) => Some(Way::Link(link_to(*node)?, addressee(*connection))),
            Place::Nowhere => None,
        }
    }

    /// For the member whose turn a will is, if it is connected here and does not find the will in its inbox.
    pub(super) fn of_will(&self, message: &Arc<Message>) -> Option<(Arc<Mailbox>, Delivery)> {
        let (client_id, _) = self.members.of_will(message)?;
        let member = self.there.iter().find(|candidate| candidate.client_id == *client_id)?;
        match self.way(member, message, &|_| None)? {
            Way::Mailbox(mailbox, delivery) => Some((mailbox, delivery)),
            Way::Link(..) | Way::Inbox(..) => None,
        }
    }
}

/// What an addressee gets.
pub(super) fn delivery(message: Arc<Message>, addressee: Addressee) -> Delivery {
    let Addressee { share, qos, retain, subscription_id, .. } = addressee;
    Delivery {
        message,
        qos: QoS::from_bits(qos as u8).unwrap_or_default(),
        retain,
        dup: false,
        subscription_ids: Some(subscription_id)
            .filter(|id| *id > 0)
            .map_or(SubscriptionIds::None, SubscriptionIds::One),
        share: Some(share.into()),
    }
}

impl Router {
    /// What a member of a shared subscription was to have and did not get goes to another; anything else, and QoS 0, is
    /// lost with the connection.
    pub fn pass_on(&self, undelivered: Vec<Delivery>) {
        let left: Vec<_> = undelivered
            .into_iter()
            .filter(|delivery| delivery.qos > QoS::AtMostOnce)
            .filter_map(|delivery| Some((delivery.message, delivery.share?)))
            .collect();
        let Some(router) = self.me.upgrade().filter(|_| !left.is_empty()) else { return };
        tokio::spawn(async move {
            let count = left.len();
            if timeout(PASSED_ON, router.give_to_others(left)).await.is_err() {
                tracing::debug!(count, "messages of members that had left found no other in time");
            }
        });
    }

    /// In their order.
    async fn give_to_others(&self, left: Vec<(Arc<Message>, Arc<str>)>) {
        for (message, share) in left {
            loop {
                match self.give_to_another(&message, &share) {
                    Ok(Some(mut routed)) => {
                        self.meters.passed_on.increment(1);
                        if let Err(error) = routed.received().await {
                            tracing::debug!(%error, "a message was not taken for another member");
                        }
                        break;
                    }
                    Ok(None) => {
                        self.meters.dropped_other.increment(1);
                        break;
                    }
                    Err(hold) => hold.over().await,
                }
            }
        }
    }

    /// `None` when nobody is left, or the message has expired.
    fn give_to_another(&self, message: &Arc<Message>, share: &str) -> Result<Option<Routed>, Hold> {
        let Some(cluster) = self.cluster.get() else { return Ok(None) };
        if !cluster.leases().may_route() {
            return Err(Hold::Lease(cluster.clone()));
        }
        if message.is_expired(boottime().as_millis() as u64) {
            return Ok(None);
        }
        let matched = self.matched(cluster, &message.topic);
        let Some(group) = matched.groups.iter().find(|group| group.is(share)) else { return Ok(None) };
        let Some(way) = self.way_to_member(cluster, group, message)? else { return Ok(None) };
        let mut outward = Outward::default();
        outward.add(way, message);
        Ok(Some(Routed { matched: true, awaited: self.send(cluster, message, outward, None)? }))
    }
}
