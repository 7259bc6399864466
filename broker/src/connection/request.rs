//! What the session asks of the roster, and the answers.

use std::future::Future;
use std::pin::Pin;

use bytestring::ByteString;
use rollcall_cluster::message::to_body;
use rollcall_cluster::routes::EVENTS_PREFIX;
use rollcall_cluster::{Claimed, InboxReader, InboxState, NotReady, RetainedMessages, Subscribed, Unavailable};
use rollcall_proto::message::Message;
use rollcall_proto::packet::{PacketId, QoS, SubscribeOptions, Will};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::schema::roster::{self as logged, Claim, Subscription, SubscriptionOptions};
use rollcall_proto::schema::shard::{Complete, command};
use rollcall_proto::session::{ConnectRequest, SubscribeRequest, UnsubscribeRequest};
use tokio::time::Instant;

use super::carry::EVENT_QOS;
use super::inbox::InboxCursor;
use super::retained::Quest;
use super::{Connection, now_ms};
use crate::access::Credentials;

/// One question to the roster on its way.
pub(super) type Request = Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) enum Done {
    Claimed(Result<Claimed, Unavailable>),
    Subscribed(Box<SubscribeRequest>, Instant, Result<Subscribed, Unavailable>),
    Unsubscribed(PacketId, Vec<ByteString>, Result<Vec<bool>, Unavailable>),
    Recorded(Vec<PacketId>, Result<(), Unavailable>),
    Completed(PacketId, Result<(), Unavailable>),
    Retained(Box<Quest>, Result<RetainedMessages, Unavailable>),
}

impl Connection {
    pub(super) fn claim(&mut self, request: ConnectRequest) {
        self.connect_at = Some(Instant::now());
        let shown = Credentials { username: request.username.as_deref(), password: request.password.as_deref() };
        if self.shared.access.connect(shown).is_err() {
            let reason = DisconnectReason::NotAuthenticated;
            return self.session.refused(reason, ReasonCode::BadUserNameOrPassword, None);
        }
        if let Err(why) = self.shared.cluster.readiness() {
            return self.refuse_unready(why);
        }
        let will = request.will.as_ref().map(|will| to_logged_will(will, request.client_id.clone()));
        let claim = Claim {
            client_id: request.client_id.to_string(),
            connection: self.number,
            protocol_level: request.version.level().into(),
            clean_start: request.clean_start,
            keep_alive: request.keep_alive.into(),
            session_expiry: request.session_expiry,
            username: request.username.map(|name| name.to_string()),
            peername: self.peername.to_string(),
            sockname: self.sockname.to_string(),
            will,
        };
        let cluster = self.shared.cluster.clone();
        self.requests.push(Box::pin(async move { Done::Claimed(cluster.claim(claim).await) }));
    }

    fn refuse_unready(&mut self, why: NotReady) {
        let reason = match why {
            NotReady::Draining => DisconnectReason::GoAway,
            NotReady::Joining | NotReady::Fenced | NotReady::Disk(_) => DisconnectReason::ServerInternalError,
        };
        self.session.refused(reason, ReasonCode::ServerUnavailable, None);
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Claimed(claimed) => self.on_claimed(claimed),
            Done::Subscribed(request, asked_at, result) => self.on_subscribed(*request, asked_at, result),
            Done::Unsubscribed(packet_id, filters, result) => self.on_unsubscribed(packet_id, &filters, result),
            Done::Recorded(released, result) => self.on_recorded(released, result),
            Done::Completed(id, Ok(())) => self.session.completed(id),
            // The client repeats its PUBREL on its next connection.
            Done::Completed(_, Err(error)) => tracing::debug!(%error, "a PUBREL was not recorded"),
            Done::Retained(quest, page) => self.on_retained(*quest, page),
        }
    }

    fn on_claimed(&mut self, claimed: Result<Claimed, Unavailable>) {
        let result = match claimed {
            Ok(Claimed::Granted { epoch, session_present, inbox }) => {
                self.epoch = epoch;
                self.granted(session_present, inbox.map(|reader| *reader));
                self.collect();
                "granted"
            }
            Ok(Claimed::Refused(reason)) => {
                let reason = DisconnectReason::from(reason);
                let code = match reason {
                    DisconnectReason::TooManyConnections => ReasonCode::QuotaExceeded,
                    _ => ReasonCode::ServerUnavailable,
                };
                self.session.refused(reason, code, None);
                reason.as_str()
            }
            Err(error) => {
                tracing::debug!(%error, peername = %self.peername, "a connection was refused");
                self.session.refused(DisconnectReason::ServerInternalError, ReasonCode::ServerUnavailable, None);
                "unavailable"
            }
        };
        metrics::counter!(crate::telemetry::CONNECTS, "result" => result).increment(1);
        if let Some(at) = self.connect_at.take() {
            self.shared.meters.connect_seconds.record(at.elapsed());
        }
    }

    fn granted(&mut self, session_present: bool, inbox: Option<InboxReader>) {
        let Some(reader) = inbox else { return self.session.claimed(session_present, now_ms()) };
        if session_present {
            self.resume_events(reader.state());
        }
        let held: Vec<PacketId> = reader.state().held.iter().copied().filter_map(PacketId::new).collect();
        self.session.claimed_with_inbox(session_present, held, now_ms());
        self.inbox = Some(Box::new(InboxCursor::new(reader)));
    }

    /// A resumed session follows what it followed: above QoS 0 from where it stopped, else from here on.
    fn resume_events(&mut self, inbox: &InboxState) {
        let last = self.shared.cluster.events().last();
        let roster = self.shared.cluster.roster();
        let Some(session) = roster.session(self.session.client_id()) else { return };
        let mut oldest = last;
        for (filter, options) in session.subscriptions.iter().filter(|(filter, _)| filter.starts_with(EVENTS_PREFIX)) {
            let qos = QoS::from_bits(options.qos as u8).unwrap_or_default();
            let id = (options.subscription_id > 0).then_some(options.subscription_id);
            let since = if qos == QoS::AtMostOnce { last } else { options.since };
            oldest = oldest.min(since);
            self.events.follow(ByteString::from(&**filter), qos, id, since);
        }
        let sent = if inbox.unclean { last } else { inbox.events_sent };
        self.events.resume(inbox.events.unwrap_or(oldest).max(oldest), sent);
    }

    /// The PUBREL of a QoS 2 message: its packet id is free once that is recorded.
    pub(super) fn complete(&mut self, id: PacketId) {
        let Some(inbox) = &self.inbox else { return };
        let complete = Complete {
            client_id: self.session.client_id().to_string(),
            incarnation: inbox.incarnation(),
            epoch: self.epoch,
            packet_id: id.get().into(),
        };
        let answer = self.shared.cluster.shards().submit(inbox.shard(), command::Kind::Complete(complete));
        self.requests.push(Box::pin(async move { Done::Completed(id, answer.await.map(|_| ())) }));
    }

    pub(super) fn subscribe(&mut self, request: SubscribeRequest) {
        let subscriptions: Vec<Subscription> = request
            .filters
            .iter()
            .map(|(filter, options)| to_logged(filter, *options, request.subscription_id))
            .collect();
        let (cluster, client_id, epoch) = (self.shared.cluster.clone(), self.session.client_id().clone(), self.epoch);
        let max_filters = self.shared.max_filters as u32;
        let asked_at = Instant::now();
        self.requests.push(Box::pin(async move {
            let result = cluster.subscribe(&client_id, epoch, subscriptions, max_filters).await;
            Done::Subscribed(Box::new(request), asked_at, result)
        }));
    }

    fn on_subscribed(&mut self, request: SubscribeRequest, asked_at: Instant, result: Result<Subscribed, Unavailable>) {
        self.shared.meters.suback_seconds.record(asked_at.elapsed());
        let SubscribeRequest { packet_id, filters, subscription_id, .. } = request;
        let (since, existed) = match result {
            Ok(Subscribed::After { seq, existed }) => (seq, existed),
            Ok(Subscribed::TooMany) => {
                let reasons = vec![ReasonCode::QuotaExceeded; filters.len()];
                return self.session.subscribed(packet_id, &reasons);
            }
            Err(error) => {
                tracing::debug!(%error, peername = %self.peername, "a subscription was refused");
                let reasons = vec![ReasonCode::UnspecifiedError; filters.len()];
                return self.session.subscribed(packet_id, &reasons);
            }
        };
        let granted: Vec<QoS> = filters
            .iter()
            .enumerate()
            .map(|(place, (filter, options))| {
                if filter.starts_with(EVENTS_PREFIX) {
                    let qos = options.qos.min(EVENT_QOS);
                    self.events.follow(ByteString::from(&**filter), qos, subscription_id, since);
                    return qos;
                }
                let existed = existed.get(place).copied().unwrap_or_default();
                self.seek_retained(filter, *options, subscription_id, existed);
                options.qos
            })
            .collect();
        let reasons: Vec<ReasonCode> = granted.into_iter().map(reason_for).collect();
        self.session.subscribed(packet_id, &reasons);
    }

    pub(super) fn unsubscribe(&mut self, request: UnsubscribeRequest) {
        let UnsubscribeRequest { packet_id, filters } = request;
        let named: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let (cluster, client_id, epoch) = (self.shared.cluster.clone(), self.session.client_id().clone(), self.epoch);
        self.requests.push(Box::pin(async move {
            let result = cluster.unsubscribe(&client_id, epoch, named).await;
            Done::Unsubscribed(packet_id, filters, result)
        }));
    }

    fn on_unsubscribed(&mut self, packet_id: PacketId, filters: &[ByteString], result: Result<Vec<bool>, Unavailable>) {
        let reasons: Vec<ReasonCode> = match result {
            Ok(existed) => {
                for filter in filters {
                    self.events.unfollow(filter);
                    self.quests.forget(filter);
                }
                let reason = |existed| if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
                existed.into_iter().map(reason).collect()
            }
            Err(_) => vec![ReasonCode::UnspecifiedError; filters.len()],
        };
        self.session.unsubscribed(packet_id, &reasons);
    }
}

fn reason_for(granted: QoS) -> ReasonCode {
    match granted {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

fn to_logged(filter: &str, options: SubscribeOptions, subscription_id: Option<u32>) -> Subscription {
    Subscription {
        filter: filter.to_owned(),
        options: Some(SubscriptionOptions {
            qos: options.qos as u32,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            retain_handling: options.retain_handling as u32,
            subscription_id: subscription_id.unwrap_or(0),
            ..SubscriptionOptions::default()
        }),
    }
}

/// Its delay and its expiry count from moments that only the roster knows.
fn to_logged_will(will: &Will, client_id: ByteString) -> logged::Will {
    let message = Message { expires_at: None, ..Message::from_will(will, client_id, 0) };
    logged::Will {
        message: to_body(&message),
        retain: will.retain,
        delay: will.properties.delay_interval.unwrap_or(0),
        expires_in: will.properties.message_expiry.map(|seconds| u64::from(seconds) * 1000),
    }
}
