//! Retained messages for subscriptions that were just made, page by page.

use std::collections::VecDeque;

use bytestring::ByteString;
use rollcall_cluster::RetainedMessages;
use rollcall_proto::message::{Delivery, SubscriptionIds};
use rollcall_proto::packet::QoS;

/// Messages asked for at once.
pub(super) const PAGE: usize = 64;

/// One subscription's way through the retained messages of one shard.
#[derive(Debug, Clone)]
pub(super) struct Quest {
    pub filter: ByteString,
    pub qos: QoS,
    pub subscription_id: Option<u32>,
    pub shard: u32,
    /// The topic behind which to go on.
    pub after: Option<String>,
}

impl Quest {
    /// The messages of one page as this subscription gets them [MQTT-3.3.1-8], and where it goes on.
    pub(super) fn deliveries(self, page: RetainedMessages) -> (Vec<Delivery>, Option<Quest>) {
        let (qos, ids) = (self.qos, SubscriptionIds::from(self.subscription_id.as_slice()));
        let deliveries = page
            .messages
            .into_iter()
            .map(|message| Delivery {
                qos: message.qos.min(qos),
                message,
                retain: true,
                dup: false,
                subscription_ids: ids.clone(),
                share: None,
            })
            .collect();
        (deliveries, page.next.map(|topic| Quest { after: Some(topic), ..self }))
    }
}

/// The quests of one connection: one page at a time is on its way.
#[derive(Debug, Default)]
pub(super) struct Quests {
    waiting: VecDeque<Quest>,
    asking: bool,
}

impl Quests {
    pub(super) fn push(&mut self, quest: Quest) {
        self.waiting.push_back(quest);
    }

    /// Whether there is a next page to ask for now.
    pub(super) fn are_waiting(&self) -> bool {
        !self.asking && !self.waiting.is_empty()
    }

    /// The next page to ask for.
    pub(super) fn next(&mut self) -> Option<Quest> {
        if self.asking {
            return None;
        }
        let quest = self.waiting.pop_front()?;
        self.asking = true;
        Some(quest)
    }

    /// A page has come; its quest goes on before the others.
    pub(super) fn answered(&mut self, rest: Option<Quest>) {
        self.asking = false;
        if let Some(rest) = rest {
            self.waiting.push_front(rest);
        }
    }

    /// The subscription has gone.
    pub(super) fn forget(&mut self, filter: &str) {
        self.waiting.retain(|quest| quest.filter != filter);
    }
}
