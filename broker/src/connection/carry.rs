//! Carrying out what the session asks for.

use std::sync::Arc;

use rollcall_proto::codec;
use rollcall_proto::message::{Delivery, Outgoing};
use rollcall_proto::packet::{Packet, QoS};
use rollcall_proto::session::{Action, Close, Delivered, DropReason};

use super::Connection;
use super::publish::Publication;

impl Connection {
    /// Everything that is to be done, until there is no more or the connection is to close.
    pub(super) fn carry_all(&mut self) -> Option<Box<Close>> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(packet) => self.write(&packet),
                Action::Deliver(outgoing) => self.write_publish(&outgoing),
                Action::Publish { token, packet_id, message } => {
                    self.shared.meters.messages_received[message.qos as usize].increment(1);
                    self.publish(Publication { token, packet_id, message: Arc::new(message) });
                }
                Action::Complete(id) => self.complete(id),
                Action::Received(id) => {
                    if let Some(inbox) = &mut self.inbox {
                        inbox.on_received(id);
                    }
                }
                Action::Settled(id) => self.settled(id),
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

    pub(super) fn deliver(&mut self, delivery: Delivery, now: u64) {
        match self.session.deliver(delivery, now) {
            Delivered::Sent | Delivered::Queued => {}
            Delivered::Dropped(why) => self.count_drop(why),
        }
    }

    pub(super) fn count_drop(&self, why: DropReason) {
        let meters = &self.shared.meters;
        match why {
            DropReason::Congested => meters.dropped_congested.increment(1),
            DropReason::QueueFull => meters.dropped_queue_full.increment(1),
            DropReason::Offline | DropReason::Expired | DropReason::TooLarge => meters.dropped_other.increment(1),
        }
    }
}

/// The QoS of events, before the subscription's own limits it: each bears its `seq`, so that one that comes twice is known.
pub(super) const EVENT_QOS: QoS = QoS::AtLeastOnce;
