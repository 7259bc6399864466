//! What the client is sent besides live messages, as fast as it keeps up: its inbox, lifecycle events, retained
//! messages; and the record of what it has acknowledged.

use bytestring::ByteString;
use rollcall_cluster::{RetainedMessages, Unavailable};
use rollcall_proto::message::Delivery;
use rollcall_proto::packet::{PacketId, QoS, SubscribeOptions};
use rollcall_proto::reason::DisconnectReason;
use rollcall_proto::session::Delivered;
use rollcall_proto::topic::Filter;

use super::request::Done;
use super::retained::Quest;
use super::{Connection, now_ms};

impl Connection {
    /// Only while the client keeps up.
    pub(super) fn may_pump(&self) -> bool {
        self.output.is_empty() && self.session.queued() == 0
    }

    pub(super) fn pump(&mut self) {
        self.ask_for_retained();
        self.pump_inbox();
        self.pump_events();
    }

    fn pump_inbox(&mut self) {
        let room = self.session.room();
        let Some(inbox) = self.inbox.as_mut().filter(|_| room > 0) else { return };
        if !self.output.is_empty() {
            return;
        }
        let due = match inbox.due(room) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, client_id = %self.session.client_id(), "an inbox cannot be read");
                return self.session.disconnect(DisconnectReason::ServerInternalError, None);
            }
        };
        let now = now_ms();
        for (id, message) in due {
            let Some(body) = message.message else {
                self.session.release_numbered(id);
                continue;
            };
            let dup = self.inbox.as_ref().is_some_and(|inbox| inbox.is_repeated(message.position));
            let (qos, retain, subscription_ids) = (message.qos, message.retain, message.subscription_ids);
            self.deliver_numbered(id, Delivery { message: body, qos, retain, dup, subscription_ids, share: None }, now);
        }
    }

    fn deliver_numbered(&mut self, id: PacketId, delivery: Delivery, now: u64) {
        match self.session.deliver_numbered(delivery, id, now) {
            Delivered::Sent | Delivered::Queued => {}
            Delivered::Dropped(why) => {
                self.count_drop(why);
                self.settled(id);
            }
        }
    }

    /// The client is done with a message that the shell has numbered.
    pub(super) fn settled(&mut self, id: PacketId) {
        if let Some(inbox) = &mut self.inbox
            && !inbox.on_settled(id)
        {
            self.events.on_settled(id);
        }
    }

    fn pump_events(&mut self) {
        if !self.events.is_active() || !self.may_pump() {
            return;
        }
        let room = self.inbox.as_ref().map(|_| self.session.room());
        let due = match self.events.due(self.shared.cluster.events(), self.shared.event_node, room) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the event log cannot be read");
                return self.session.disconnect(DisconnectReason::ServerInternalError, None);
            }
        };
        let now = now_ms();
        for (id, delivery) in due {
            match id {
                Some(id) => self.deliver_numbered(id, delivery, now),
                None => self.deliver(delivery, now),
            }
        }
    }

    /// Records what the client has acknowledged, one record at a time: under load each carries much.
    pub(super) fn record(&mut self) {
        let Some(inbox) = &mut self.inbox else { return };
        if let Some((done, sent)) = self.events.progress() {
            inbox.on_events(done, sent);
        }
        let Some((released, record)) = inbox.next_record(self.session.client_id(), self.epoch) else { return };
        let answer = self.shared.cluster.acknowledge(inbox.shard(), record);
        self.requests.push(Box::pin(async move { Done::Recorded(released, answer.await.map(|_| ())) }));
    }

    pub(super) fn on_recorded(&mut self, released: Vec<PacketId>, result: Result<(), Unavailable>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.recorded();
        }
        match result {
            Ok(()) => released.into_iter().for_each(|id| self.session.recorded(id)),
            // This node is out of the cluster, and the connection about to end.
            Err(error) => tracing::debug!(%error, "acknowledgements were not recorded"),
        }
    }

    /// A new subscription is sent what is retained, unless it asked not to be [MQTT-3.3.1-9], [MQTT-3.3.1-10],
    /// [MQTT-3.3.1-11].
    pub(super) fn seek_retained(
        &mut self,
        filter: &ByteString,
        options: SubscribeOptions,
        subscription_id: Option<u32>,
        existed: bool,
    ) {
        let wanted = options.retain_handling.wants(existed);
        let Some(parsed) = Filter::parse(filter).ok().filter(|parsed| wanted && parsed.group.is_none()) else { return };
        let cluster = &self.shared.cluster;
        let shards = if parsed.has_wildcard() {
            1..=cluster.shard_count()
        } else {
            let shard = cluster.shard_of(filter);
            shard..=shard
        };
        for shard in shards {
            let filter = filter.clone();
            self.quests.push(Quest { filter, qos: options.qos, subscription_id, shard, after: None });
        }
    }

    fn ask_for_retained(&mut self) {
        if !self.may_pump() {
            return;
        }
        let Some(quest) = self.quests.next() else { return };
        let cluster = self.shared.cluster.clone();
        self.requests.push(Box::pin(async move {
            let page = quest.page(&cluster).await;
            Done::Retained(Box::new(quest), page)
        }));
    }

    pub(super) fn on_retained(&mut self, quest: Quest, page: Result<RetainedMessages, Unavailable>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%error, shard = quest.shard, "retained messages cannot be read now");
                return self.quests.answered(Some(quest));
            }
        };
        let (deliveries, rest) = quest.deliveries(page);
        self.quests.answered(rest);
        let now = now_ms();
        for delivery in deliveries {
            match &self.inbox {
                Some(inbox) if delivery.qos > QoS::AtMostOnce => {
                    let (client_id, incarnation) = (self.session.client_id(), inbox.incarnation());
                    self.shared.cluster.enqueue_for(inbox.shard(), client_id, incarnation, &delivery);
                }
                Some(_) | None => self.deliver(delivery, now),
            }
        }
    }
}
