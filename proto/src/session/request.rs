//! SUBSCRIBE and UNSUBSCRIBE.

use bytestring::ByteString;

use super::connect::is_event_topic;
use super::{Action, Session, Stage, SubscribeRequest, UnsubscribeRequest};
use crate::packet::{Packet, PacketId, SubAck, Subscribe, Unsubscribe};
use crate::properties::AckProperties;
use crate::reason::ReasonCode;
use crate::topic::Filter;

/// The requests that the shell has not answered. There are few: `max_requests` bounds them.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<Request>);

#[derive(Debug)]
struct Request {
    packet_id: PacketId,
    kind: Kind,
    /// One per filter of the packet; `None` is for the shell to decide.
    decided: Vec<Option<ReasonCode>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Subscribe,
    Unsubscribe,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn holds(&self, packet_id: PacketId) -> bool {
        self.0.iter().any(|request| request.packet_id == packet_id)
    }

    pub(super) fn trim(&mut self) {
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    fn take(&mut self, packet_id: PacketId, kind: Kind) -> Option<Request> {
        let at = self.0.iter().position(|request| request.packet_id == packet_id && request.kind == kind)?;
        Some(self.0.swap_remove(at))
    }
}

impl Session {
    pub(super) fn on_subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { packet_id, mut filters, properties } = subscribe;
        let decided = filters.iter().map(|(filter, _)| self.check_filter(filter)).collect();
        filters.retain(|(filter, _)| self.check_filter(filter).is_none());
        // Granted less, not refused [MQTT-3.2.2-10].
        filters.iter_mut().for_each(|(_, options)| options.qos = options.qos.min(self.config.max_qos));
        if self.open_request(packet_id, Kind::Subscribe, decided) {
            let subscription_id = properties.subscription_id;
            let request = SubscribeRequest { packet_id, filters, subscription_id, user: properties.user };
            self.actions.push_back(Action::Subscribe(Box::new(request)));
        }
    }

    pub(super) fn on_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let Unsubscribe { packet_id, mut filters, .. } = unsubscribe;
        let decided = filters.iter().map(invalid).collect();
        filters.retain(|filter| invalid(filter).is_none());
        if self.open_request(packet_id, Kind::Unsubscribe, decided) {
            self.actions.push_back(Action::Unsubscribe(Box::new(UnsubscribeRequest { packet_id, filters })));
        }
    }

    /// Whether there is something left for the shell to decide.
    fn open_request(&mut self, packet_id: PacketId, kind: Kind, decided: Vec<Option<ReasonCode>>) -> bool {
        if self.requests.holds(packet_id) || self.inbound.holds(packet_id) {
            self.fail(ReasonCode::ProtocolError, "a packet identifier in use [MQTT-2.2.1-3]");
            return false;
        }
        let open = decided.contains(&None);
        let request = Request { packet_id, kind, decided };
        if open {
            self.requests.0.push(request)
        } else {
            self.answer(request, &[])
        }
        open
    }

    /// The answer to [`Action::Subscribe`]: one reason per filter, in their order. What is missing counts as 0x80.
    pub fn subscribed(&mut self, packet_id: PacketId, reasons: &[ReasonCode]) {
        self.answered(packet_id, Kind::Subscribe, reasons);
    }

    /// The answer to [`Action::Unsubscribe`]: one reason per filter, in their order. What is missing counts as 0x80.
    pub fn unsubscribed(&mut self, packet_id: PacketId, reasons: &[ReasonCode]) {
        self.answered(packet_id, Kind::Unsubscribe, reasons);
    }

    fn answered(&mut self, packet_id: PacketId, kind: Kind, reasons: &[ReasonCode]) {
        if self.stage == Stage::Online
            && let Some(request) = self.requests.take(packet_id, kind)
        {
            self.answer(request, reasons);
        }
    }

    fn answer(&mut self, request: Request, reasons: &[ReasonCode]) {
        let mut reasons = reasons.iter().copied();
        let reasons = request
            .decided
            .into_iter()
            .map(|decided| decided.or_else(|| reasons.next()).unwrap_or(ReasonCode::UnspecifiedError))
            .collect();
        let ack = Box::new(SubAck { packet_id: request.packet_id, reasons, properties: AckProperties::default() });
        self.send(match request.kind {
            Kind::Subscribe => Packet::SubAck(ack),
            Kind::Unsubscribe => Packet::UnsubAck(ack),
        });
    }

    fn check_filter(&self, filter: &ByteString) -> Option<ReasonCode> {
        match Filter::parse(filter) {
            Err(_) => Some(ReasonCode::TopicFilterInvalid),
            Ok(Filter { filter, .. }) if filter.split('/').count() > self.config.max_topic_levels => {
                Some(ReasonCode::TopicFilterInvalid)
            }
            Ok(Filter { group: Some(_), .. }) if !self.config.shared_subscriptions => {
                Some(ReasonCode::SharedSubscriptionsNotSupported)
            }
            // Events are not shared out: each subscriber reads the log for itself.
            Ok(Filter { group: Some(_), filter }) if is_event_topic(filter) => Some(ReasonCode::TopicFilterInvalid),
            Ok(_) => None,
        }
    }
}

fn invalid(filter: &ByteString) -> Option<ReasonCode> {
    Filter::parse(filter).err().map(|_| ReasonCode::TopicFilterInvalid)
}
