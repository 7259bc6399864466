//! A lifecycle event as its readers get it, on `$events/…` and over HTTP: one JSON object.

use bytes::Bytes;
use rollcall_proto::schema::roster::{Connected, Disconnected, Event, Reason, Subscription, event};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::EventNode;

/// The topic an event is published on.
pub fn topic(event: &Event) -> &'static str {
    match &event.body {
        Some(event::Body::Connected(_)) => "$events/client_connected",
        Some(event::Body::Disconnected(_)) => "$events/client_disconnected",
        Some(event::Body::Subscribed(_)) => "$events/session_subscribed",
        Some(event::Body::Unsubscribed(_)) => "$events/session_unsubscribed",
        None => "$events/unknown",
    }
}

/// The event as compact JSON. `node` says what its `node` is.
pub fn render(event: &Event, node: EventNode) -> Bytes {
    let mut out = Vec::with_capacity(320);
    // Writing strings and numbers into memory cannot fail.
    let _ = serde_json::to_writer(&mut out, &Shape::of(event, node));
    Bytes::from(out)
}

/// The four shapes of an event. Fields beyond the ones that consumers know come last: `seq`, `epoch`, and more.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Shape<'a> {
    Connected(ConnectedShape<'a>),
    Disconnected(DisconnectedShape<'a>),
    Subscription(SubscriptionShape<'a>),
    Unknown(UnknownShape<'a>),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectedShape<'a> {
    clientid: &'a str,
    clean_start: bool,
    /// Milliseconds since 1970, as are all times.
    connected_at: u64,
    event: &'static str,
    /// Seconds.
    keepalive: u32,
    node: &'a str,
    /// 3, 4 or 5.
    proto_ver: u32,
    timestamp: u64,
    /// Empty when the client gave none.
    username: &'a str,
    /// Position in the one order of all events; without a gap.
    seq: u64,
    /// Numbers the connections of one client id; the same in a connected and its disconnected.
    epoch: u64,
    peername: &'a str,
    sockname: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DisconnectedShape<'a> {
    clientid: &'a str,
    event: &'static str,
    disconnected_at: u64,
    node: &'a str,
    reason: &'static str,
    username: &'a str,
    peername: &'a str,
    sockname: &'a str,
    seq: u64,
    /// 0 for a connection that was refused.
    epoch: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionShape<'a> {
    clientid: &'a str,
    event: &'static str,
    node: &'a str,
    /// Address and port.
    peerhost: &'a str,
    qos: u32,
    timestamp: u64,
    /// The filter.
    topic: &'a str,
    seq: u64,
    epoch: u64,
}

/// An event of a newer version of the program.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnknownShape<'a> {
    clientid: &'a str,
    event: &'static str,
    node: &'a str,
    timestamp: u64,
    seq: u64,
    epoch: u64,
}

impl<'a> Shape<'a> {
    pub fn of(event: &'a Event, node: EventNode) -> Self {
        let node = match node {
            EventNode::Address => event.node_address.as_str(),
            EventNode::Name => event.node_name.as_str(),
        };
        match &event.body {
            Some(event::Body::Connected(body)) => Shape::Connected(connected(event, node, body)),
            Some(event::Body::Disconnected(body)) => Shape::Disconnected(disconnected(event, node, body)),
            Some(event::Body::Subscribed(body)) => {
                Shape::Subscription(subscription(event, node, "client.subscribed", body))
            }
            Some(event::Body::Unsubscribed(body)) => {
                Shape::Subscription(subscription(event, node, "client.unsubscribed", body))
            }
            None => Shape::Unknown(UnknownShape {
                clientid: &event.client_id,
                event: "unknown",
                node,
                timestamp: event.time,
                seq: event.seq,
                epoch: event.epoch,
            }),
        }
    }
}

fn connected<'a>(event: &'a Event, node: &'a str, body: &'a Connected) -> ConnectedShape<'a> {
    ConnectedShape {
        clientid: &event.client_id,
        clean_start: body.clean_start,
        connected_at: event.time,
        event: "client.connected",
        keepalive: body.keep_alive,
        node,
        proto_ver: body.protocol_level,
        timestamp: event.time,
        username: event.username(),
        seq: event.seq,
        epoch: event.epoch,
        peername: &event.peername,
        sockname: &body.sockname,
    }
}

fn disconnected<'a>(event: &'a Event, node: &'a str, body: &'a Disconnected) -> DisconnectedShape<'a> {
    DisconnectedShape {
        clientid: &event.client_id,
        event: "client.disconnected",
        disconnected_at: event.time,
        node,
        reason: reason_name(body.reason()),
        username: event.username(),
        peername: &event.peername,
        sockname: &body.sockname,
        seq: event.seq,
        epoch: event.epoch,
        detail: &body.detail,
    }
}

fn subscription<'a>(
    event: &'a Event,
    node: &'a str,
    name: &'static str,
    body: &'a Subscription,
) -> SubscriptionShape<'a> {
    SubscriptionShape {
        clientid: &event.client_id,
        event: name,
        node,
        peerhost: &event.peername,
        qos: body.options.map_or(0, |options| options.qos),
        timestamp: event.time,
        topic: &body.filter,
        seq: event.seq,
        epoch: event.epoch,
    }
}

/// A reason as events and metrics spell it.
pub fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Normal => "normal",
        Reason::Takeovered => "takeovered",
        Reason::Kicked => "kicked",
        Reason::KeepaliveTimeout => "keepalive_timeout",
        Reason::NotAuthenticated => "not_authenticated",
        Reason::AuthenticationExpired => "authentication_expired",
        Reason::NotAuthorized => "not_authorized",
        Reason::TcpClosed => "tcp_closed",
        Reason::PingWithoutConnect => "ping_without_connect",
        Reason::TooManyConnection => "too_many_connection",
        Reason::GoAway => "go_away",
        Reason::ClientIdTooLong => "client_id_too_long",
        Reason::ClientIdInvalid => "client_id_invalid",
        Reason::ClientIdRequired => "client_id_required",
        Reason::BadWillMessage => "bad_will_message",
        Reason::ServerInternalError | Reason::Unspecified => "server_internal_error",
    }
}

#[cfg(test)]
mod tests {
    use rollcall_proto::schema::roster::SubscriptionOptions;

    use super::*;

    fn event(body: event::Body) -> Event {
        Event {
            seq: 7,
            time: 1_700_000_000_123,
            client_id: "plant/7 \"a\"".into(),
            epoch: 3,
            node_address: "10.0.0.1:1883".into(),
            node_name: "node-0".into(),
            username: Some("ann".into()),
            peername: "10.0.0.9:40000".into(),
            body: Some(body),
        }
    }

    fn rendered(event: &Event, node: EventNode) -> String {
        String::from_utf8(render(event, node).to_vec()).unwrap()
    }

    #[test]
    fn a_connected_has_the_listed_fields_in_order_and_ours_behind() {
        let body = Connected { clean_start: true, keep_alive: 60, protocol_level: 5, sockname: "10.0.0.1:1883".into() };
        let mut event = event(event::Body::Connected(body));
        assert_eq!(topic(&event), "$events/client_connected");
        assert_eq!(
            rendered(&event, EventNode::Address),
            r#"{"clientid":"plant/7 \"a\"","clean_start":true,"connected_at":1700000000123,"event":"client.connected","keepalive":60,"node":"10.0.0.1:1883","proto_ver":5,"timestamp":1700000000123,"username":"ann","seq":7,"epoch":3,"peername":"10.0.0.9:40000","sockname":"10.0.0.1:1883"}"#
        );
        event.username = None;
        assert!(
            rendered(&event, EventNode::Name)
                .contains(r#""node":"node-0","proto_ver":5,"timestamp":1700000000123,"username":"","#)
        );
    }

    #[test]
    fn a_disconnected_has_no_timestamp_and_a_detail_only_when_there_is_one() {
        let body =
            Disconnected { reason: Reason::Takeovered.into(), detail: String::new(), sockname: "10.0.0.1:1883".into() };
        let mut event = event(event::Body::Disconnected(body));
        assert_eq!(topic(&event), "$events/client_disconnected");
        assert_eq!(
            rendered(&event, EventNode::Address),
            r#"{"clientid":"plant/7 \"a\"","event":"client.disconnected","disconnected_at":1700000000123,"node":"10.0.0.1:1883","reason":"takeovered","username":"ann","peername":"10.0.0.9:40000","sockname":"10.0.0.1:1883","seq":7,"epoch":3}"#
        );
        event.body = Some(event::Body::Disconnected(Disconnected {
            reason: Reason::TcpClosed.into(),
            detail: "QoS 3".into(),
            sockname: String::new(),
        }));
        assert!(rendered(&event, EventNode::Address).ends_with(r#","epoch":3,"detail":"QoS 3"}"#));
    }

    #[test]
    fn a_subscription_names_its_filter_as_topic_and_keeps_the_port_in_peerhost() {
        let options = SubscriptionOptions { qos: 1, ..SubscriptionOptions::default() };
        let body = Subscription { filter: "plant/+/temp".into(), options: Some(options) };
        let added = event(event::Body::Subscribed(body.clone()));
        assert_eq!(topic(&added), "$events/session_subscribed");
        assert_eq!(
            rendered(&added, EventNode::Address),
            r#"{"clientid":"plant/7 \"a\"","event":"client.subscribed","node":"10.0.0.1:1883","peerhost":"10.0.0.9:40000","qos":1,"timestamp":1700000000123,"topic":"plant/+/temp","seq":7,"epoch":3}"#
        );
        let removed = event(event::Body::Unsubscribed(body));
        assert_eq!(topic(&removed), "$events/session_unsubscribed");
        assert!(rendered(&removed, EventNode::Address).contains(r#""event":"client.unsubscribed""#));
    }

    #[test]
    fn reasons_are_spelled_as_consumers_know_them() {
        assert_eq!(reason_name(Reason::Takeovered), "takeovered");
        assert_eq!(reason_name(Reason::TooManyConnection), "too_many_connection");
        let names: std::collections::BTreeSet<_> =
            (1..=16).map(|n| reason_name(Reason::try_from(n).unwrap())).collect();
        assert_eq!(names.len(), 16);
    }
}
