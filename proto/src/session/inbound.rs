//! PUBLISH from the client, and what it is answered.

use std::collections::VecDeque;

use bytestring::ByteString;

use super::connect::{detach, is_event_topic};
use super::{Action, PublishToken, Session, Stage};
use crate::message::Message;
use crate::packet::{Ack, Packet, PacketId, Publish, QoS};
use crate::reason::{DisconnectReason, ReasonCode};

/// The client's publishes that are not done with.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// Sorted by packet id; ids mostly rise, so insertion is mostly at the end. Its length is what the client has
    /// used up of our receive maximum.
    held: Vec<(PacketId, Held)>,
    /// PUBLISH packets of QoS 1 and 2 in the order of arrival, which is the order of the answers [MQTT-4.6.0-2],
    /// [MQTT-4.6.0-3].
    answers: VecDeque<Answer>,
    /// The token of the front of `answers`.
    first_token: u64,
    /// Index 0 is alias 1.
    aliases: Vec<Option<ByteString>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// QoS 1, PUBACK not sent.
    Once,
    /// QoS 2, PUBREC not sent.
    Exactly,
    /// QoS 2, PUBREC sent, PUBREL awaited.
    Received,
    /// QoS 2 of a session with an inbox: PUBREL has come, and that the packet id is free is being recorded.
    Completing,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    packet_id: PacketId,
    exactly_once: bool,
    code: Option<ReasonCode>,
}

type Violation = (ReasonCode, &'static str);

impl Inbound {
    /// Publishes waiting for the shell.
    pub(super) fn unanswered(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn trim(&mut self) {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        if self.answers.is_empty() {
            self.answers = VecDeque::new();
        }
    }

    /// QoS 2 messages whose PUBREL has not come on an earlier connection; sorted.
    pub(super) fn resume(&mut self, held: impl IntoIterator<Item = PacketId>) {
        self.held = held.into_iter().map(|id| (id, Held::Received)).collect();
    }

    pub(super) fn holds(&self, id: PacketId) -> bool {
        self.find(id).is_ok()
    }

    fn find(&self, id: PacketId) -> Result<usize, usize> {
        match self.held.last() {
            Some((last, _)) if *last < id => Err(self.held.len()),
            _ => self.held.binary_search_by_key(&id, |(held, _)| *held),
        }
    }

    fn remove(&mut self, id: PacketId) {
        if let Ok(at) = self.find(id) {
            self.held.remove(at);
        }
    }

    /// Replaces the alias by its topic, or remembers a new one [MQTT 5.0 §3.3.2.3.4].
    fn resolve_alias(&mut self, publish: &mut Publish, maximum: u16) -> Result<(), Violation> {
        let Some(alias) = publish.properties.as_ref().and_then(|p| p.topic_alias) else {
            return if publish.topic.is_empty() {
                Err((ReasonCode::ProtocolError, "a PUBLISH without topic and alias"))
            } else {
                Ok(())
            };
        };
        if alias == 0 || alias > maximum {
            // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
            return Err((ReasonCode::TopicAliasInvalid, "a topic alias out of range"));
        }
        let at = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let Some(Some(topic)) = self.aliases.get(at) else {
                return Err((ReasonCode::ProtocolError, "an unknown topic alias"));
            };
            publish.topic = topic.clone();
            return Ok(());
        }
        if self.aliases.len() <= at {
            self.aliases.resize(at + 1, None);
        }
        self.aliases[at] = Some(detach(&publish.topic));
        Ok(())
    }

    /// Takes the front answer once it is there.
    fn next_answer(&mut self) -> Option<(Answer, ReasonCode)> {
        let answer = *self.answers.front()?;
        let code = answer.code?;
        self.answers.pop_front();
        self.first_token += 1;
        Some((answer, code))
    }
}

impl Session {
    pub(super) fn on_publish(&mut self, mut publish: Publish, now: u64) {
        let checked = self.check_publish(&publish);
        let checked = checked.and_then(|()| self.inbound.resolve_alias(&mut publish, self.config.topic_alias_maximum));
        if let Err((code, detail)) = checked {
            return self.fail(code, detail);
        }
        let denied = is_event_topic(&publish.topic);
        let packet_id = publish.packet_id;
        if denied && (packet_id.is_none() || !self.is_v5()) {
            // There is no other way to tell it [MQTT-3.3.5-2 of 3.1.1].
            return self.end(DisconnectReason::NotAuthorized, ReasonCode::NotAuthorized, None, None);
        }
        let token = match packet_id {
            None => None,
            Some(id) => match self.accept(id, publish.qos, publish.dup, denied.then_some(ReasonCode::NotAuthorized)) {
                Some(token) => Some(token),
                None => return,
            },
        };
        let message = Message::from_publish(publish, self.client_id.clone(), now);
        self.actions.push_back(Action::Publish { token, packet_id, message });
    }

    fn check_publish(&self, publish: &Publish) -> Result<(), Violation> {
        if publish.qos > self.config.max_qos {
            return Err((ReasonCode::QoSNotSupported, "QoS above the listener's max_qos"));
        }
        if publish.retain && !self.config.retain_available {
            return Err((ReasonCode::RetainNotSupported, "RETAIN on a listener without it"));
        }
        if publish.packet_id.is_some() == (publish.qos == QoS::AtMostOnce) {
            return Err((ReasonCode::ProtocolError, "packet identifier and QoS contradict each other"));
        }
        if publish.properties.as_ref().is_some_and(|p| !p.subscription_ids.is_empty()) {
            return Err((ReasonCode::ProtocolError, "a subscription identifier from a client [MQTT-3.3.4-6]"));
        }
        Ok(())
    }

    /// A PUBLISH larger than the listener takes, of which the shell has read no more than this and will read nothing: it
    /// is answered and dropped. 3.x has no words for that: there it counts as taken, or it would come again for ever.
    pub fn handle_oversized(&mut self, qos: QoS, dup: bool, packet_id: Option<PacketId>, now: u64) {
        if self.stage != Stage::Online {
            return;
        }
        self.clock.touch(now);
        if let Some(id) = packet_id {
            let code = if self.is_v5() { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
            self.accept(id, qos, dup, Some(code));
        }
    }

    /// A PUBLISH of QoS 1 or 2: `Some` if it is a new one for the shell to answer, unless it is `decided`.
    fn accept(
        &mut self,
        packet_id: PacketId,
        qos: QoS,
        dup: bool,
        decided: Option<ReasonCode>,
    ) -> Option<PublishToken> {
        let exactly_once = qos == QoS::ExactlyOnce;
        let at = match self.inbound.find(packet_id) {
            Ok(at) => {
                self.repeated(packet_id, self.inbound.held[at].1, exactly_once, dup);
                return None;
            }
            Err(at) => at,
        };
        // A 3.x client knows no receive maximum; it is slowed down by `accepts_packets`.
        if self.is_v5() && self.inbound.held.len() >= usize::from(self.config.receive_maximum.get()) {
            self.fail(ReasonCode::ReceiveMaximumExceeded, "more publishes in flight than the receive maximum");
            return None;
        }
        if self.requests.holds(packet_id) {
            self.fail(ReasonCode::ProtocolError, "a packet identifier in use [MQTT-2.2.1-3]");
            return None;
        }
        self.inbound.held.insert(at, (packet_id, if exactly_once { Held::Exactly } else { Held::Once }));
        let token = PublishToken(self.inbound.first_token + self.inbound.answers.len() as u64);
        self.inbound.answers.push_back(Answer { packet_id, exactly_once, code: decided });
        if decided.is_some() {
            self.flush_answers();
            return None;
        }
        Some(token)
    }

    /// A PUBLISH with an id that is in use: the same one again, or a violation.
    fn repeated(&mut self, packet_id: PacketId, held: Held, exactly_once: bool, dup: bool) {
        match (held, exactly_once) {
            // Its PUBREC got lost on the way; the message is not published twice [MQTT-4.3.3-10].
            (Held::Received, true) => self.send(Packet::PubRec(ack(packet_id, ReasonCode::Success))),
            // The answer is on its way.
            (Held::Exactly, true) => {}
            (Held::Once, false) if dup => {}
            (Held::Once | Held::Exactly | Held::Received | Held::Completing, _) => {
                self.fail(ReasonCode::ProtocolError, "a packet identifier in use [MQTT-2.2.1-3]");
            }
        }
    }

    /// The answer to [`Action::Publish`]. A second one for the same token is without effect.
    ///
    /// 3.x has no words for a refusal: a publish that is not allowed or not valid is acknowledged as if it had been
    /// taken [MQTT-3.3.5-2 of 3.1.1]; after any other error the connection is closed, so that the client repeats it.
    pub fn published(&mut self, token: PublishToken, code: ReasonCode) {
        if self.stage != Stage::Online {
            return;
        }
        let at = token.0.checked_sub(self.inbound.first_token).and_then(|at| usize::try_from(at).ok());
        if let Some(answer) = at.and_then(|at| self.inbound.answers.get_mut(at)) {
            answer.code.get_or_insert(code);
            self.flush_answers();
        }
    }

    fn flush_answers(&mut self) {
        while let Some((Answer { packet_id, exactly_once, .. }, code)) = self.inbound.next_answer() {
            if code.is_error() && !self.is_v5() && !v3_hides(code) {
                let detail = Some("a publish failed and MQTT 3 cannot say so");
                return self.end(DisconnectReason::ServerInternalError, code, None, detail);
            }
            let code = if self.is_v5() { code } else { ReasonCode::Success };
            if exactly_once && !code.is_error() {
                if let Ok(at) = self.inbound.find(packet_id) {
                    self.inbound.held[at].1 = Held::Received;
                }
            } else {
                self.inbound.remove(packet_id);
            }
            let ack = ack(packet_id, code);
            self.send(if exactly_once { Packet::PubRec(ack) } else { Packet::PubAck(ack) });
        }
    }

    pub(super) fn on_pubrel(&mut self, pubrel: &Ack) {
        let packet_id = pubrel.packet_id;
        let held = self.inbound.find(packet_id).ok().map(|at| self.inbound.held[at].1);
        let code = match held {
            Some(Held::Received) if self.has_inbox => {
                if let Ok(at) = self.inbound.find(packet_id) {
                    self.inbound.held[at].1 = Held::Completing;
                }
                return self.actions.push_back(Action::Complete(packet_id));
            }
            Some(Held::Received) => {
                self.inbound.remove(packet_id);
                ReasonCode::Success
            }
            // Its PUBCOMP is on its way.
            Some(Held::Completing) => return,
            Some(Held::Exactly) => {
                return self.fail(ReasonCode::ProtocolError, "PUBREL before its PUBREC [MQTT-4.3.3-4]");
            }
            Some(Held::Once) | None => ReasonCode::PacketIdentifierNotFound,
        };
        self.send(Packet::PubComp(ack(packet_id, code)));
    }

    /// The answer to [`Action::Complete`].
    pub fn completed(&mut self, packet_id: PacketId) {
        if self.stage != Stage::Online {
            return;
        }
        if let Ok(at) = self.inbound.find(packet_id)
            && self.inbound.held[at].1 == Held::Completing
        {
            self.inbound.held.remove(at);
            self.send(Packet::PubComp(ack(packet_id, ReasonCode::Success)));
        }
    }
}

pub(super) fn ack(packet_id: PacketId, reason: ReasonCode) -> Ack {
    Ack { packet_id, reason, properties: None }
}

/// Errors that repeating the publish would not mend.
fn v3_hides(code: ReasonCode) -> bool {
    matches!(code, ReasonCode::NotAuthorized | ReasonCode::TopicNameInvalid | ReasonCode::PayloadFormatInvalid)
}
