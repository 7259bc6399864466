//! Retained messages for subscriptions that were just made, page by page.

use std::collections::VecDeque;
use std::time::Duration;

use bytestring::ByteString;
use rollcall_cluster::{Cluster, RetainedMessages, Unavailable};
use rollcall_proto::message::{Delivery, SubscriptionIds};
use rollcall_proto::packet::QoS;

/// Messages asked for at once.
const PAGE: usize = 64;
/// Before a page is asked for again that could not be had.
const ASK_AGAIN: Duration = Duration::from_millis(100);

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
    pub(super) async fn page(&self, cluster: &Cluster) -> Result<RetainedMessages, Unavailable> {
        cluster.retained(self.shard, &self.filter, self.after.as_deref(), PAGE).await
    }

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
    asking: Option<Box<Quest>>,
}

/// Whose inbox it is that goes on being filled without its connection.
pub(super) struct Absentee<'a> {
    pub client_id: &'a str,
    pub shard: u32,
    pub incarnation: u64,
}

impl Quests {
    pub(super) fn push(&mut self, quest: Quest) {
        self.waiting.push_back(quest);
    }

    /// Whether there is a next page to ask for now.
    pub(super) fn are_waiting(&self) -> bool {
        self.asking.is_none() && !self.waiting.is_empty()
    }

    /// The next page to ask for.
    pub(super) fn next(&mut self) -> Option<Quest> {
        if self.asking.is_some() {
            return None;
        }
        let quest = self.waiting.pop_front()?;
        self.asking = Some(Box::new(quest.clone()));
        Some(quest)
    }

    /// A page has come; its quest goes on before the others.
    pub(super) fn answered(&mut self, rest: Option<Quest>) {
        self.asking = None;
        if let Some(rest) = rest {
            self.waiting.push_front(rest);
        }
    }

    /// The subscription has gone.
    pub(super) fn forget(&mut self, filter: &str) {
        self.waiting.retain(|quest| quest.filter != filter);
    }

    /// The connection has ended, and its session goes on: what is retained for it and goes by the inbox still does.
    pub(super) async fn go_on_without(self, cluster: &Cluster, session: Absentee<'_>) {
        let quests = self.asking.map(|quest| *quest).into_iter().chain(self.waiting);
        let mut quests: VecDeque<Quest> = quests.filter(|quest| quest.qos > QoS::AtMostOnce).collect();
        while let Some(quest) = quests.pop_front() {
            let page = match quest.page(cluster).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%error, shard = quest.shard, "retained messages cannot be read now");
                    quests.push_front(quest);
                    tokio::time::sleep(ASK_AGAIN).await;
                    continue;
                }
            };
            let (deliveries, rest) = quest.deliveries(page);
            for delivery in deliveries.iter().filter(|delivery| delivery.qos > QoS::AtMostOnce) {
                cluster.enqueue_for(session.shard, session.client_id, session.incarnation, delivery);
            }
            if let Some(rest) = rest {
                quests.push_front(rest);
            }
        }
    }
}
