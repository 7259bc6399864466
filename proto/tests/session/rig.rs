//! A session with a shell that records.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rollcall_proto::codec::encode_publish;
use rollcall_proto::message::{Delivery, Message, Outgoing, SubscriptionIds};
use rollcall_proto::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, Subscribe, SubscribeOptions, Version, Will,
};
use rollcall_proto::properties::{ConnectProperties, DisconnectProperties, SubscribeProperties, WillProperties};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::session::{Action, Close, ConnectRequest, PublishToken, Session, SessionConfig};

pub const ASSIGNED: &str = "assigned-1";

pub fn config() -> SessionConfig {
    SessionConfig { assign_client_id: || ByteString::from_static(ASSIGNED), ..SessionConfig::default() }
}

pub struct Rig {
    pub session: Session,
    pub now: u64,
}

impl Rig {
    pub fn new(config: SessionConfig) -> Self {
        Rig { session: Session::new(Arc::new(config), 0), now: 0 }
    }

    /// Connected with the client id `c`.
    pub fn online(version: Version, config: SessionConfig) -> Self {
        Self::online_as(connect(version, "c"), config)
    }

    pub fn online_as(connect: Connect, config: SessionConfig) -> Self {
        let mut rig = Rig::new(config);
        rig.claim(connect);
        let connack = rig.grant(false);
        assert_eq!(connack.reason, ReasonCode::Success);
        rig
    }

    pub fn handle(&mut self, packet: Packet) -> Vec<Action> {
        self.session.handle_packet(packet, self.now);
        self.actions()
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.poll_action()).collect()
    }

    pub fn claim(&mut self, connect: Connect) -> ConnectRequest {
        let actions = self.handle(Packet::Connect(Box::new(connect)));
        let [Action::Claim(request)] = &actions[..] else { panic!("no claim: {actions:?}") };
        (**request).clone()
    }

    pub fn grant(&mut self, session_present: bool) -> ConnAck {
        self.session.claimed(session_present, self.now);
        connack(&self.actions())
    }

    /// One publish that the shell has to answer.
    pub fn publish(&mut self, qos: QoS, id: u16) -> PublishToken {
        let actions = self.handle(publish("t", qos, id));
        let [Action::Publish { token: Some(token), .. }] = &actions[..] else { panic!("not published: {actions:?}") };
        *token
    }

    pub fn answer(&mut self, token: PublishToken, code: ReasonCode) -> Vec<Action> {
        self.session.published(token, code);
        self.actions()
    }

    pub fn advance(&mut self, ms: u64) -> Vec<Action> {
        self.now += ms;
        self.session.handle_timeout(self.now);
        self.actions()
    }
}

pub fn connect(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 10,
        client_id: client_id.into(),
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

pub fn will(topic: &str) -> Will {
    Will {
        topic: topic.into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    }
}

pub fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// `packet_id` is left out at QoS 0.
pub fn publish(topic: &str, qos: QoS, packet_id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: (qos != QoS::AtMostOnce).then(|| id(packet_id)),
        properties: None,
        payload: Bytes::from_static(b"p"),
    })
}

pub fn ack(packet_id: u16, reason: ReasonCode) -> Ack {
    Ack { packet_id: id(packet_id), reason, properties: None }
}

pub fn ok(packet_id: u16) -> Ack {
    ack(packet_id, ReasonCode::Success)
}

pub fn subscribe(packet_id: u16, filters: &[&str]) -> Packet {
    Packet::Subscribe(Box::new(Subscribe {
        packet_id: id(packet_id),
        filters: filters.iter().map(|f| ((*f).into(), SubscribeOptions::default())).collect(),
        properties: SubscribeProperties::default(),
    }))
}

pub fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Box::new(Disconnect { reason, properties: DisconnectProperties::default() }))
}

pub fn message(payload: &'static str) -> Message {
    Message {
        topic: "t".into(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: QoS::ExactlyOnce,
        retain: false,
        properties: None,
        publisher: "p".into(),
        expires_at: None,
    }
}

pub fn delivery(payload: &'static str, qos: QoS) -> Delivery {
    Delivery {
        message: Arc::new(message(payload)),
        qos,
        retain: false,
        dup: false,
        subscription_ids: SubscriptionIds::None,
        share: None,
    }
}

pub fn connack(actions: &[Action]) -> ConnAck {
    match actions.first() {
        Some(Action::Send(Packet::ConnAck(connack))) => (**connack).clone(),
        _ => panic!("no CONNACK: {actions:?}"),
    }
}

/// The end, which is the last action.
pub fn close(actions: &[Action]) -> Close {
    match actions.last() {
        Some(Action::Close(close)) => (**close).clone(),
        _ => panic!("not closed: {actions:?}"),
    }
}

/// The reason of the DISCONNECT that was sent, if one was.
pub fn told(actions: &[Action]) -> Option<ReasonCode> {
    actions.iter().find_map(|action| match action {
        Action::Send(Packet::Disconnect(disconnect)) => Some(disconnect.reason),
        _ => None,
    })
}

pub fn sent(actions: &[Action]) -> Vec<Packet> {
    actions.iter().filter_map(|a| if let Action::Send(packet) = a { Some(packet.clone()) } else { None }).collect()
}

pub fn outgoing(actions: &[Action]) -> Vec<Outgoing> {
    actions.iter().filter_map(|a| if let Action::Deliver(out) = a { Some(out.clone()) } else { None }).collect()
}

pub fn wire(outgoing: &Outgoing, version: Version) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_publish(&outgoing.parts(), version, &mut bytes).unwrap();
    bytes
}
