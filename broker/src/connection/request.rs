//! What the session asks of the roster, and the answers.

use std::future::Future;
use std::pin::Pin;

use bytestring::ByteString;
use rollcall_cluster::routes::EVENTS_PREFIX;
use rollcall_cluster::{Claimed, NotReady, Subscribed, Unavailable};
use rollcall_proto::packet::{PacketId, QoS, SubscribeOptions};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::schema::roster::{Claim, Subscription, SubscriptionOptions};
use rollcall_proto::session::{ConnectRequest, SubscribeRequest, UnsubscribeRequest};
use tokio::time::Instant;

use super::{Connection, now_ms};
use crate::access::Credentials;

/// One question to the roster on its way.
pub(super) type Request = Pin<Box<dyn Future<Output = Done> + Send>>;

pub(super) enum Done {
    Claimed(Result<Claimed, Unavailable>),
    Subscribed(Box<SubscribeRequest>, Instant, Result<Subscribed, Unavailable>),
    Unsubscribed(PacketId, Vec<ByteString>, Result<Vec<bool>, Unavailable>),
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
            ..Claim::default()
        };
        let cluster = self.shared.cluster.clone();
        self.requests.push(Box::pin(async move { Done::Claimed(cluster.claim(claim).await) }));
    }

    fn refuse_unready(&mut self, why: NotReady) {
        let reason = match why {
            NotReady::Draining => DisconnectReason::GoAway,
            NotReady::Joining | NotReady::Fenced => DisconnectReason::ServerInternalError,
        };
        self.session.refused(reason, ReasonCode::ServerUnavailable, None);
    }

    pub(super) fn on_done(&mut self, done: Done) {
        match done {
            Done::Claimed(claimed) => self.on_claimed(claimed),
            Done::Subscribed(request, asked_at, result) => self.on_subscribed(*request, asked_at, result),
            Done::Unsubscribed(packet_id, filters, result) => self.on_unsubscribed(packet_id, &filters, result),
        }
    }

    fn on_claimed(&mut self, claimed: Result<Claimed, Unavailable>) {
        let result = match claimed {
            Ok(Claimed::Granted { epoch, session_present }) => {
                self.epoch = epoch;
                if session_present {
                    self.resume_events();
                }
                self.session.claimed(session_present, now_ms());
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

    /// A resumed session follows what it followed, from here on.
    fn resume_events(&mut self) {
        let since = self.shared.cluster.events().last();
        let roster = self.shared.cluster.roster();
        let Some(session) = roster.session(self.session.client_id()) else { return };
        for (filter, options) in &session.subscriptions {
            if filter.starts_with(EVENTS_PREFIX) {
                let qos = QoS::from_bits(options.qos as u8).unwrap_or_default();
                let id = (options.subscription_id > 0).then_some(options.subscription_id);
                self.events.follow(ByteString::from(&**filter), qos, id, since);
            }
        }
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
        let since = match result {
            Ok(Subscribed::After(since)) => since,
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
        let reasons: Vec<ReasonCode> = filters
            .into_iter()
            .map(|(filter, options)| {
                if filter.starts_with(EVENTS_PREFIX) {
                    self.events.follow(ByteString::from(&*filter), options.qos, subscription_id, since);
                }
                match options.qos {
                    QoS::AtMostOnce => ReasonCode::Success,
                    QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
                    QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
                }
            })
            .collect();
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
                filters.iter().for_each(|filter| self.events.unfollow(filter));
                let reason = |existed| if existed { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
                existed.into_iter().map(reason).collect()
            }
            Err(_) => vec![ReasonCode::UnspecifiedError; filters.len()],
        };
        self.session.unsubscribed(packet_id, &reasons);
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
