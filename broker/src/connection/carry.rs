//! Carrying out what the session asks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rollcall_proto::codec;
use rollcall_proto::message::{Delivery, Message, Outgoing};
use rollcall_proto::packet::{Packet, QoS};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::session::{Action, Close, Delivered, DropReason, PublishToken};

use super::{Connection, now_ms};
use crate::router::Routed;

/// A publish that has to wait.
pub(super) struct Held {
    message: Arc<Message>,
    token: Option<PublishToken>,
    pub(super) over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connection {
    /// Everything that is to be done, until there is no more or the connection is to close.
    pub(super) fn carry_all(&mut self) -> Option<Box<Close>> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(packet) => self.write(&packet),
                Action::Deliver(outgoing) => self.write_publish(&outgoing),
                Action::Publish { token, message } => {
                    self.shared.meters.messages_received[message.qos as usize].increment(1);
                    self.publish(token, Arc::new(message));
                }
                Action::Claim(request) => self.claim(*request),
                Action::Subscribe(request) => self.subscribe(*request),
                Action::Unsubscribe(request) => self.unsubscribe(*request),
                Action::Dropped { why, .. } => self.count_drop(why),
                Action::Close(close) => return Some(close),
            }
        }
        None
    }

    fn write(&mut self, packet: &Packet) {
        self.shared.meters.packets_sent.increment(1);
        if let Err(error) = codec::encode(packet, self.session.version(), &mut self.output) {
            tracing::error!(%error, "a packet of our own cannot be encoded");
            self.session.handle_closed();
        }
    }

    fn write_publish(&mut self, outgoing: &Outgoing) {
        self.shared.meters.packets_sent.increment(1);
        self.shared.meters.messages_sent[outgoing.delivery.qos as usize].increment(1);
        if let Err(error) = codec::encode_publish(&outgoing.parts(), self.session.version(), &mut self.output) {
            tracing::error!(%error, topic = %outgoing.delivery.message.topic, "a message cannot be encoded");
            self.session.handle_closed();
        }
    }

    /// Routes it, or keeps it until it may be routed.
    fn publish(&mut self, token: Option<PublishToken>, message: Arc<Message>) {
        match self.shared.router.route(&message) {
            Ok(routed) => self.routed(token, routed),
            Err(hold) => {
                self.session.hold(now_ms());
                self.held = Some(Held { message, token, over: Box::pin(hold.over()) });
            }
        }
    }

    pub(super) fn retry_held(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.session.release(now_ms());
        self.publish(held.token, held.message);
        self.more = true;
    }

    fn routed(&mut self, token: Option<PublishToken>, routed: Routed) {
        let Some(token) = token else { return };
        if routed.is_received() {
            self.session.published(token, reason_for(&routed));
        } else {
            self.unconfirmed.push_back((token, routed));
        }
    }

    /// The first of the unconfirmed publishes is confirmed.
    pub(super) fn confirm(&mut self) {
        if let Some((token, routed)) = self.unconfirmed.pop_front() {
            self.session.published(token, reason_for(&routed));
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery, now: u64) {
        match self.session.deliver(delivery, now) {
            Delivered::Sent | Delivered::Queued => {}
            Delivered::Dropped(why) => self.count_drop(why),
        }
    }

    fn count_drop(&self, why: DropReason) {
        let meters = &self.shared.meters;
        match why {
            DropReason::Congested => meters.dropped_congested.increment(1),
            DropReason::QueueFull => meters.dropped_queue_full.increment(1),
            DropReason::Offline | DropReason::Expired | DropReason::TooLarge => meters.dropped_other.increment(1),
        }
    }

    /// The way out of the event log: at most so many at once, and only while the client keeps up.
    pub(super) fn pump_events(&mut self) {
        if !self.events.is_active() || !self.may_pump() {
            return;
        }
        let now = now_ms();
        let due = match self.events.due(self.shared.cluster.events(), self.shared.event_node) {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the event log cannot be read");
                self.session.disconnect(rollcall_proto::reason::DisconnectReason::ServerInternalError, None);
                return;
            }
        };
        for delivery in due {
            self.deliver(delivery, now);
        }
    }

    pub(super) fn may_pump(&self) -> bool {
        self.output.is_empty() && self.session.queued() == 0
    }
}

/// Only a publisher of QoS 1 or 2 hears it.
fn reason_for(routed: &Routed) -> ReasonCode {
    if routed.matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
}

/// The QoS of events, before the subscription's own limits it.
pub(super) const EVENT_QOS: QoS = QoS::ExactlyOnce;
