//! What several matching subscriptions of one session come to: it gets one copy of a message.

use rollcall_proto::message::SubscriptionIds;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::roster::SubscriptionOptions;

/// The subscriptions of one session that match one topic.
#[derive(Debug, Default)]
pub struct Matching(Vec<SubscriptionOptions>);

/// What they ask for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// The highest of theirs [MQTT-3.3.4-2].
    pub qos: QoS,
    /// Whether one of them wants RETAIN as it was published.
    pub retain_as_published: bool,
    pub subscription_ids: SubscriptionIds,
}

/// What they ask for of others' messages, and of those that their own client publishes: what is no-local is not for these
/// [MQTT-3.8.3-3].
#[derive(Debug, Clone)]
pub struct Wanted {
    pub of_others: Together,
    own: Own,
}

#[derive(Debug, Clone)]
enum Own {
    AsOfOthers,
    Nothing,
    Less(Box<Together>),
}

impl Matching {
    pub fn add(&mut self, options: &SubscriptionOptions) {
        self.0.push(*options);
    }

    pub fn finish(self) -> Wanted {
        let of_own = self.0.iter().filter(|options| !options.no_local);
        let own = match of_own.clone().count() {
            all if all == self.0.len() => Own::AsOfOthers,
            0 => Own::Nothing,
            _ => Own::Less(Box::new(Together::of(of_own))),
        };
        Wanted { of_others: Together::of(self.0.iter()), own }
    }
}

impl Together {
    fn of<'a>(matching: impl Iterator<Item = &'a SubscriptionOptions> + Clone) -> Self {
        let qos = matching.clone().map(|options| QoS::from_bits(options.qos as u8).unwrap_or_default()).max();
        let ids = matching.clone().map(|options| options.subscription_id).filter(|id| *id > 0);
        Together {
            qos: qos.unwrap_or_default(),
            retain_as_published: matching.clone().any(|options| options.retain_as_published),
            subscription_ids: SubscriptionIds::from(ids.collect::<Vec<_>>().as_slice()),
        }
    }
}

impl Wanted {
    /// Of one message; `None` if it is not for this session. Whether its own client published it is asked only where that
    /// matters.
    pub fn of(&self, is_own: impl FnOnce() -> bool) -> Option<&Together> {
        match &self.own {
            Own::AsOfOthers => Some(&self.of_others),
            Own::Nothing => (!is_own()).then_some(&self.of_others),
            Own::Less(less) => Some(if is_own() { less } else { &self.of_others }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(matching: &[(u32, bool, u32)]) -> Wanted {
        let mut all = Matching::default();
        for (qos, no_local, subscription_id) in matching.iter().copied() {
            all.add(&SubscriptionOptions { qos, no_local, subscription_id, ..SubscriptionOptions::default() });
        }
        all.finish()
    }

    fn seen(together: Option<&Together>) -> Option<(u8, &[u32])> {
        together.map(|together| (together.qos as u8, together.subscription_ids.as_slice()))
    }

    #[test]
    fn what_is_no_local_counts_for_the_messages_of_others_alone() {
        // [MQTT-3.3.4-2], [MQTT-3.8.3-3]
        for (matching, of_others, of_own) in [
            (&[(1, false, 3), (2, false, 0)][..], (2, &[3][..]), Some((2, &[3][..]))),
            (&[(2, true, 3)], (2, &[3]), None),
            (&[(2, true, 3), (1, false, 4), (0, false, 5)], (2, &[3, 4, 5]), Some((1, &[4, 5]))),
        ] {
            let wanted = wanted(matching);
            assert_eq!(seen(wanted.of(|| false)), Some(of_others));
            assert_eq!(seen(wanted.of(|| true)), of_own);
        }
    }
}
