//! From CONNECT to CONNACK.

use bytes::Bytes;
use bytestring::ByteString;

use super::outbound::Outbound;
use super::{Action, ClientIdPolicy, ConnectRequest, KeepAliveOutside, Session, SessionConfig, Stage, timers::Clock};
use crate::packet::{ConnAck, Connect, Packet, PacketId, QoS, Version, Will};
use crate::properties::ConnAckProperties;
use crate::reason::{DisconnectReason, ReasonCode};
use crate::topic;

/// Only the server writes there: what `$events/#` matches.
pub(super) fn is_event_topic(topic: &str) -> bool {
    topic.strip_prefix("$events").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

struct Refusal {
    reason: DisconnectReason,
    code: ReasonCode,
    detail: Option<&'static str>,
}

impl Refusal {
    fn new(reason: DisconnectReason, code: ReasonCode) -> Self {
        Refusal { reason, code, detail: None }
    }
}

impl Session {
    pub(super) fn on_connect(&mut self, connect: Connect) {
        self.identify(&connect);
        match self.check_connect(&connect) {
            Ok(()) => self.claim(connect),
            Err(refusal) => self.refuse_connect(refusal.reason, refusal.code, refusal.detail),
        }
    }

    /// Remembers who it is, also for the event that tells of a refusal.
    pub(super) fn identify(&mut self, connect: &Connect) {
        self.version = connect.version;
        self.client_id = detach(&connect.client_id);
        self.username = connect.username.as_ref().map(detach);
        let p = &connect.properties;
        self.outbound = Outbound::new(
            p.receive_maximum.map_or(u16::MAX, |m| m.max(1)).min(self.config.outbound_window.get()),
            p.maximum_packet_size,
            p.topic_alias_maximum.unwrap_or(0).min(self.config.topic_aliases_sent),
        );
    }

    fn check_connect(&mut self, connect: &Connect) -> Result<(), Refusal> {
        self.check_client_id(connect)?;
        if connect.properties.authentication_method.is_some() {
            return Err(Refusal::new(DisconnectReason::NotAuthenticated, ReasonCode::BadAuthenticationMethod));
        }
        if let Some(will) = &connect.will {
            check_will(will, &self.config).map_err(|code| Refusal::new(DisconnectReason::BadWillMessage, code))?;
        }
        self.settle_keep_alive(connect)
    }

    fn check_client_id(&mut self, connect: &Connect) -> Result<(), Refusal> {
        let refusal = |reason| Refusal::new(reason, ReasonCode::ClientIdentifierNotValid);
        if self.client_id.is_empty() {
            let may_be_assigned = match connect.version {
                Version::V31 => false,
                // [MQTT-3.1.3-8] of 3.1.1
                Version::V311 => connect.clean_start,
                Version::V5 => true,
            };
            if !may_be_assigned || self.config.client_id_required {
                return Err(refusal(DisconnectReason::ClientIdRequired));
            }
            self.client_id = (self.config.assign_client_id)();
            self.greeting.assigned_client_id = Some(self.client_id.clone());
            return if self.client_id.is_empty() { Err(refusal(DisconnectReason::ClientIdRequired)) } else { Ok(()) };
        }
        if self.client_id.chars().count() > self.config.client_id_max_length {
            return Err(refusal(DisconnectReason::ClientIdTooLong));
        }
        match self.config.client_id_policy {
            ClientIdPolicy::Any if !self.client_id.chars().any(char::is_control) => Ok(()),
            ClientIdPolicy::Alphanumeric if self.client_id.bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(()),
            ClientIdPolicy::Any | ClientIdPolicy::Alphanumeric => Err(refusal(DisconnectReason::ClientIdInvalid)),
        }
    }

    fn settle_keep_alive(&mut self, connect: &Connect) -> Result<(), Refusal> {
        let (asked, min, max) = (connect.keep_alive, self.config.keep_alive_min, self.config.keep_alive_max);
        // 0 is no keep alive at all, the longest there is.
        let below = asked != 0 && asked < min;
        let above = if asked == 0 { max < u16::MAX } else { asked > max };
        self.keep_alive = asked;
        if !below && !above {
            return Ok(());
        }
        match self.config.keep_alive_outside {
            KeepAliveOutside::Refuse => Err(Refusal {
                reason: DisconnectReason::TcpClosed,
                code: ReasonCode::ImplementationSpecificError,
                detail: Some("keep alive outside the listener's range"),
            }),
            KeepAliveOutside::Adjust => {
                let nearest = if below { min } else { max };
                if connect.version == Version::V5 {
                    self.greeting.server_keep_alive = Some(nearest);
                    self.keep_alive = nearest;
                } else if below {
                    self.keep_alive = nearest;
                }
                Ok(())
            }
        }
    }

    fn claim(&mut self, connect: Connect) {
        let limit = self.config.session_expiry_max;
        let p = connect.properties;
        self.asked_expiry = match (connect.version, connect.clean_start) {
            (Version::V5, _) => p.session_expiry.unwrap_or(0),
            (Version::V31 | Version::V311, true) => 0,
            (Version::V31 | Version::V311, false) => u32::MAX,
        };
        let session_expiry = self.asked_expiry.min(limit);
        self.greeting.session_expiry = (session_expiry != self.asked_expiry).then_some(session_expiry);
        if self.is_v5() {
            offer(&self.config, &mut self.greeting);
        }
        if !self.can_be_greeted() {
            let detail = Some("the client allows no packet as large as its CONNACK");
            return self.refuse_connect(DisconnectReason::TcpClosed, ReasonCode::PacketTooLarge, detail);
        }
        let will = connect.will.map(detach_will);
        self.will = will.clone().map(Box::new);
        // Nothing is timed until the claim is answered.
        self.stage = Stage::Claiming;
        self.actions.push_back(Action::Claim(Box::new(ConnectRequest {
            client_id: self.client_id.clone(),
            client_id_assigned: self.greeting.assigned_client_id.is_some(),
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive: self.keep_alive,
            session_expiry,
            username: self.username.clone(),
            password: connect.password,
            will,
            user: p.user,
        })));
    }

    /// Asked before the claim, so that nothing is claimed that nobody could be told of.
    fn can_be_greeted(&self) -> bool {
        if self.outbound.max_packet().is_none() {
            return true;
        }
        let properties = (*self.greeting).clone();
        self.fits_client(&Packet::ConnAck(Box::new(ConnAck {
            session_present: false,
            reason: ReasonCode::Success,
            properties,
        })))
    }

    /// The claim is granted: the client is told, and its keep alive runs from `now`.
    pub fn claimed(&mut self, session_present: bool, now: u64) {
        self.greet(session_present, now);
    }

    /// As [`Session::claimed`], for a session with an inbox, which remembers what outlives a connection: `held` are the
    /// packet ids of QoS 2 messages whose PUBREL it still awaits, in their order.
    pub fn claimed_with_inbox(&mut self, session_present: bool, held: impl IntoIterator<Item = PacketId>, now: u64) {
        if self.stage == Stage::Claiming {
            self.has_inbox = true;
            self.outbound.leave_numbering();
            self.inbound.resume(held);
        }
        self.greet(session_present, now);
    }

    fn greet(&mut self, session_present: bool, now: u64) {
        if self.stage != Stage::Claiming {
            return;
        }
        self.stage = Stage::Online;
        let limit = (self.keep_alive > 0).then(|| self.config.keep_alive_grace.limit(self.keep_alive));
        self.clock = Clock::new(now, limit);
        let properties = *std::mem::take(&mut self.greeting);
        self.send(Packet::ConnAck(Box::new(ConnAck {
            // 3.1 has no such flag.
            session_present: session_present && self.version != Version::V31,
            reason: ReasonCode::Success,
            properties,
        })));
    }
}

/// What a 5.0 client has to know because it differs from what absence would mean [MQTT 5.0 §3.2.2.3].
fn offer(config: &SessionConfig, p: &mut ConnAckProperties) {
    let receive_maximum = config.receive_maximum.get();
    p.receive_maximum = (receive_maximum < u16::MAX).then_some(receive_maximum);
    p.maximum_qos = (config.max_qos < QoS::ExactlyOnce).then_some(config.max_qos);
    p.retain_available = (!config.retain_available).then_some(false);
    p.maximum_packet_size = Some(config.max_packet);
    p.topic_alias_maximum = (config.topic_alias_maximum > 0).then_some(config.topic_alias_maximum);
    p.shared_subscription_available = (!config.shared_subscriptions).then_some(false);
}

fn check_will(will: &Will, config: &SessionConfig) -> Result<(), ReasonCode> {
    if topic::validate_name(&will.topic).is_err() {
        return Err(ReasonCode::TopicNameInvalid);
    }
    if is_event_topic(&will.topic) {
        return Err(ReasonCode::NotAuthorized);
    }
    if will.qos > config.max_qos {
        // [MQTT-3.2.2-12]
        return Err(ReasonCode::QoSNotSupported);
    }
    if will.retain && !config.retain_available {
        // [MQTT-3.2.2-13]
        return Err(ReasonCode::RetainNotSupported);
    }
    if will.properties.payload_format == Some(true) && std::str::from_utf8(&will.payload).is_err() {
        return Err(ReasonCode::PayloadFormatInvalid);
    }
    Ok(())
}

/// A copy of its own: what lives as long as the connection must not keep the read buffer alive.
pub(super) fn detach(text: &ByteString) -> ByteString {
    ByteString::from(text.as_ref() as &str)
}

fn detach_will(mut will: Will) -> Will {
    will.topic = detach(&will.topic);
    will.payload = Bytes::copy_from_slice(&will.payload);
    let p = &mut will.properties;
    p.content_type = p.content_type.as_ref().map(detach);
    p.response_topic = p.response_topic.as_ref().map(detach);
    p.correlation_data = p.correlation_data.as_deref().map(Bytes::copy_from_slice);
    for (name, value) in &mut p.user {
        *name = detach(name);
        *value = detach(value);
    }
    will
}
