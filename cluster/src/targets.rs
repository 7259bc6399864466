//! Which inboxes a publish goes into.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::shard::{ShardTargets, Target};

use crate::routes::Route;
use crate::wanted::{Matching, Wanted};

/// One persistent session, all its matching subscriptions taken together.
#[derive(Debug, Clone)]
struct Subscriber {
    incarnation: u64,
    wanted: Wanted,
}

/// Gathers the persistent subscribers of one topic from every route that matches it.
#[derive(Debug, Default)]
pub struct Gathering(BTreeMap<Arc<str>, (u64, Matching)>);

/// The persistent subscribers of one topic, by their shards.
#[derive(Debug, Clone, Default)]
pub struct Targets(Vec<InShard>);

/// A shard, and its subscribers by client id.
type InShard = (u32, Vec<(Arc<str>, Subscriber)>);

impl Gathering {
    pub fn add(&mut self, route: &Route) {
        for (client_id, (incarnation, options)) in &route.durable {
            let (_, matching) = self.0.entry(client_id.clone()).or_insert_with(|| (*incarnation, Matching::default()));
            matching.add(options);
        }
    }

    /// Those who are to have anything above QoS 0, which alone goes into inboxes.
    pub fn finish(self, shard_of: impl Fn(&str) -> u32) -> Targets {
        let mut shards: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (client_id, (incarnation, matching)) in self.0 {
            let wanted = matching.finish();
            if wanted.of_others.qos > QoS::AtMostOnce {
                let subscriber = Subscriber { incarnation, wanted };
                shards.entry(shard_of(&client_id)).or_default().push((client_id, subscriber));
            }
        }
        Targets(shards.into_iter().collect())
    }
}

/// One more inbox, with the others of its shard.
pub fn add(all: &mut Vec<ShardTargets>, shard: u32, target: Target) {
    match all.iter_mut().find(|known| known.shard == shard) {
        Some(known) => known.targets.push(target),
        None => all.push(ShardTargets { shard, targets: vec![target] }),
    }
}

impl Targets {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The inboxes that this message goes into: none at QoS 0.
    pub fn of(&self, message: &Message) -> Vec<ShardTargets> {
        if message.qos == QoS::AtMostOnce {
            return Vec::new();
        }
        let in_shard = |(shard, subscribers): &InShard| {
            let targets: Vec<Target> = subscribers.iter().filter_map(|(id, of)| of.to_target(id, message)).collect();
            (!targets.is_empty()).then_some(ShardTargets { shard: *shard, targets })
        };
        self.0.iter().filter_map(in_shard).collect()
    }
}

impl Subscriber {
    /// `None` if the message is not for it, or not by its inbox.
    fn to_target(&self, client_id: &str, message: &Message) -> Option<Target> {
        let together = self.wanted.of(|| *client_id == *message.publisher)?;
        let qos = together.qos.min(message.qos);
        (qos > QoS::AtMostOnce).then(|| Target {
            client_id: client_id.into(),
            incarnation: self.incarnation,
            qos: qos as u32,
            retain: message.retain && together.retain_as_published,
            subscription_ids: together.subscription_ids.as_slice().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rollcall_proto::schema::roster::SubscriptionOptions;

    use super::*;

    fn message(qos: QoS, publisher: &'static str) -> Message {
        Message {
            topic: "t".into(),
            payload: Bytes::new(),
            qos,
            retain: true,
            properties: None,
            publisher: publisher.into(),
            expires_at: None,
        }
    }

    fn route(entries: &[(&str, SubscriptionOptions)]) -> Route {
        let durable = entries.iter().map(|(id, options)| (Arc::from(*id), (7, *options))).collect();
        Route { durable, ..Route::default() }
    }

    fn options(qos: u32, no_local: bool, subscription_id: u32) -> SubscriptionOptions {
        SubscriptionOptions { qos, no_local, subscription_id, ..SubscriptionOptions::default() }
    }

    fn ids(targets: &[ShardTargets]) -> Vec<(u32, &str, u32)> {
        targets
            .iter()
            .flat_map(|shard| shard.targets.iter().map(|t| (shard.shard, t.client_id.as_str(), t.qos)))
            .collect()
    }

    fn shard_of(client_id: &str) -> u32 {
        client_id.len() as u32
    }

    #[test]
    fn overlapping_subscriptions_are_one_target_with_the_highest_qos_and_all_ids() {
        let mut gathering = Gathering::default();
        gathering.add(&route(&[("a", options(1, false, 3))]));
        gathering.add(&route(&[("a", options(2, true, 9)), ("bb", options(1, false, 0))]));
        let targets = gathering.finish(shard_of).of(&message(QoS::ExactlyOnce, "p"));
        assert_eq!(ids(&targets), [(1, "a", 2), (2, "bb", 1)]);
        assert_eq!(targets[0].targets[0].subscription_ids, [3, 9]);
        assert!(!targets[0].targets[0].retain, "nobody asked for it as published");
    }

    #[test]
    fn qos_0_goes_into_no_inbox_whether_published_or_subscribed_so() {
        let mut gathering = Gathering::default();
        gathering.add(&route(&[("a", options(0, false, 0)), ("bb", options(1, false, 0))]));
        let targets = gathering.finish(shard_of);
        assert_eq!(ids(&targets.of(&message(QoS::AtLeastOnce, "p"))), [(2, "bb", 1)]);
        assert_eq!(targets.of(&message(QoS::AtMostOnce, "p")), []);
    }

    #[test]
    fn what_a_client_publishes_itself_is_not_for_it_if_none_of_its_subscriptions_wants_it() {
        let mut gathering = Gathering::default();
        gathering.add(&route(&[("a", options(1, true, 0)), ("bb", options(1, true, 0))]));
        let targets = gathering.finish(shard_of);
        assert_eq!(ids(&targets.of(&message(QoS::AtLeastOnce, "a"))), [(2, "bb", 1)]);
    }

    #[test]
    fn what_a_client_publishes_itself_comes_to_it_as_its_other_subscriptions_ask() {
        let mut gathering = Gathering::default();
        gathering.add(&route(&[("a", options(2, true, 3)), ("bb", options(1, true, 3))]));
        gathering.add(&route(&[("a", options(1, false, 9)), ("bb", options(0, false, 9))]));
        let targets = gathering.finish(shard_of);
        let own = targets.of(&message(QoS::ExactlyOnce, "a"));
        assert_eq!((ids(&own), &*own[0].targets[0].subscription_ids), (vec![(1, "a", 1), (2, "bb", 1)], &[9][..]));
        assert_eq!(ids(&targets.of(&message(QoS::ExactlyOnce, "bb"))), [(1, "a", 2)], "QoS 0 comes without its inbox");
    }
}
