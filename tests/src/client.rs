//! One MQTT connection, packet by packet: it sends what it is told, shows everything it gets, and does nothing by
//! itself but acknowledge the messages a test takes.

mod exchange;
mod options;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytestring::ByteString;
use rollcall_proto::packet::{
    ConnAck, Connect, Disconnect, Packet, PacketId, Publish, QoS, Subscribe, SubscribeOptions, Unsubscribe, Version,
};
use rollcall_proto::properties::{DisconnectProperties, SubscribeProperties, UnsubscribeProperties};
use rollcall_proto::reason::ReasonCode;
use tokio::net::TcpStream;

pub use exchange::{ack, publication};
pub use options::Options;
use wire::Wire;

/// How long an answer may take that nothing should delay: generous, as two busy cores run everything.
pub const SOON: Duration = Duration::from_secs(10);

/// What came of waiting for a packet.
#[derive(Debug)]
pub enum Received {
    Packet(Packet),
    /// The broker closed the connection.
    Closed,
    /// Nothing came within the limit.
    Silence,
}

#[derive(Debug)]
pub struct RawClient {
    wire: Wire,
    /// For what a failed test says.
    name: String,
    /// Read while something else was waited for.
    set_aside: VecDeque<Packet>,
    last_packet_id: u16,
}

impl RawClient {
    /// A TCP connection on which nothing has been sent.
    ///
    /// # Errors
    /// The connection was refused or did not come about.
    pub async fn tcp(node: SocketAddr, version: Version) -> io::Result<Self> {
        let wire = Wire::open(node, version).await?;
        Ok(Self { wire, name: format!("a client of {node}"), set_aside: VecDeque::new(), last_packet_id: 0 })
    }

    /// Connects and answers with the CONNACK, whatever it says.
    ///
    /// # Errors
    /// No TCP connection, closed before the CONNACK, or no CONNACK within [`SOON`].
    pub async fn try_connect(node: SocketAddr, connect: impl Into<Connect>) -> io::Result<(Self, ConnAck)> {
        let connect = connect.into();
        let mut client = Self::tcp(node, connect.version).await?;
        client.name = format!("{} on {node}", connect.client_id);
        client.send(&Packet::Connect(Box::new(connect))).await?;
        match client.receive(SOON).await {
            Received::Packet(Packet::ConnAck(ack)) => Ok((client, *ack)),
            Received::Packet(other) => Err(io::Error::other(format!("{other:?} came instead of a CONNACK"))),
            Received::Closed => Err(io::ErrorKind::ConnectionReset.into()),
            Received::Silence => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Connects, and panics unless the broker accepts.
    pub async fn connect(node: SocketAddr, connect: impl Into<Connect>) -> Self {
        let connect = connect.into();
        let client_id = connect.client_id.clone();
        let (client, ack) = match Self::try_connect(node, connect).await {
            Ok(both) => both,
            Err(error) => panic!("{client_id} cannot connect to {node}: {error}"),
        };
        assert_eq!(ack.reason, ReasonCode::Success, "{client_id} is refused by {node}");
        client
    }

    pub async fn send(&mut self, packet: &Packet) -> io::Result<()> {
        self.wire.send(packet).await
    }

    /// Sends bytes as they are, packets or not.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send_raw(bytes).await
    }

    /// The next packet in the order of arrival.
    pub async fn receive(&mut self, limit: Duration) -> Received {
        match self.set_aside.pop_front() {
            Some(packet) => Received::Packet(packet),
            None => self.wire.receive(limit).await,
        }
    }

    /// The first packet that `wanted` takes; the others stay for later. Panics when none comes within `limit`.
    pub async fn wait_for<T>(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        for place in 0..self.set_aside.len() {
            if let Some(found) = wanted(&self.set_aside[place]) {
                self.set_aside.remove(place);
                return found;
            }
        }
        let started = Instant::now();
        loop {
            match self.wire.receive(limit.saturating_sub(started.elapsed())).await {
                Received::Packet(packet) => match wanted(&packet) {
                    Some(found) => return found,
                    None => self.set_aside.push_back(packet),
                },
                Received::Closed => {
                    panic!("{}: closed instead of {what}; before it came {:?}", self.name, self.set_aside)
                }
                Received::Silence => {
                    panic!("{}: no {what} within {limit:?}; before it came {:?}", self.name, self.set_aside)
                }
            }
        }
    }

    /// Subscribes and waits for the SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_within(filter, qos, SOON).await
    }

    pub async fn subscribe_within(&mut self, filter: &str, qos: QoS, limit: Duration) -> ReasonCode {
        let packet_id = self.next_packet_id();
        let filters = vec![(ByteString::from(filter), SubscribeOptions { qos, ..Default::default() })];
        let packet = Subscribe { packet_id, filters, properties: SubscribeProperties::default() };
        self.send(&Packet::Subscribe(Box::new(packet))).await.expect("SUBSCRIBE is sent");
        let reasons = self
            .wait_for("SUBACK", limit, |packet| match packet {
                Packet::SubAck(ack) if ack.packet_id == packet_id => Some(ack.reasons.clone()),
                _ => None,
            })
            .await;
        reasons[0]
    }

    /// Unsubscribes and waits for the UNSUBACK.
    pub async fn unsubscribe(&mut self, filter: &str) {
        let packet_id = self.next_packet_id();
        let filters = vec![ByteString::from(filter)];
        let packet = Unsubscribe { packet_id, filters, properties: UnsubscribeProperties::default() };
        self.send(&Packet::Unsubscribe(Box::new(packet))).await.expect("UNSUBSCRIBE is sent");
        self.wait_for("UNSUBACK", SOON, |packet| match packet {
            Packet::UnsubAck(ack) if ack.packet_id == packet_id => Some(()),
            _ => None,
        })
        .await;
    }

    /// Publishes; at QoS 1 and 2 it returns when the broker has taken responsibility.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        self.publish_with(publication(topic, payload, qos)).await;
    }

    /// Publishes a retained message at QoS 1; returns at its PUBACK.
    pub async fn retain(&mut self, topic: &str, payload: &[u8]) {
        self.publish_with(Publish { retain: true, ..publication(topic, payload, QoS::AtLeastOnce) }).await;
    }

    /// Publishes at QoS 1; the PUBACK is left to the caller.
    pub async fn publish_without_waiting(&mut self, topic: &str, payload: &[u8]) {
        let packet = self.publish_packet(topic, payload, QoS::AtLeastOnce);
        self.send(&Packet::Publish(packet)).await.expect("PUBLISH is sent");
    }

    /// Publishes at QoS 1; whether the PUBACK came before the connection ended.
    pub async fn try_publish(&mut self, topic: &str, payload: &[u8]) -> bool {
        let packet = self.publish_packet(topic, payload, QoS::AtLeastOnce);
        if self.send(&Packet::Publish(packet)).await.is_err() {
            return false;
        }
        loop {
            match self.receive(SOON).await {
                Received::Packet(Packet::PubAck(ack)) => return ack.reason == ReasonCode::Success,
                Received::Packet(_) => {}
                Received::Closed => return false,
                Received::Silence => panic!("{}: neither a PUBACK nor an end", self.name),
            }
        }
    }

    /// The next message, acknowledged as its QoS asks. Panics when none comes within `limit`.
    pub async fn message(&mut self, limit: Duration) -> Publish {
        let message = self.wait_for("PUBLISH", limit, publish).await;
        self.take(message).await
    }

    /// As [`Self::message`], `None` when none comes within `limit`; anything else that comes is an error.
    pub async fn message_within(&mut self, limit: Duration) -> Option<Publish> {
        match self.receive(limit).await {
            Received::Packet(Packet::Publish(message)) => Some(self.take(message).await),
            Received::Silence => None,
            other => panic!("{}: {other:?} came instead of a PUBLISH", self.name),
        }
    }

    async fn take(&mut self, message: Publish) -> Publish {
        match (message.qos, message.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::PubAck(ack(id))).await.expect("PUBACK is sent"),
            (QoS::ExactlyOnce, Some(id)) => {
                self.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
                self.wait_for("PUBREL", SOON, |p| {
                    matches!(p, Packet::PubRel(rel) if rel.packet_id == id).then_some(())
                })
                .await;
                self.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
            }
            (QoS::AtMostOnce, None) => {}
            wrong => panic!("a PUBLISH with {wrong:?}"),
        }
        message
    }

    /// A PINGREQ goes out and its PINGRESP comes back; what the broker sent before it is set aside.
    pub async fn ping(&mut self) {
        self.send(&Packet::PingReq).await.expect("PINGREQ is sent");
        self.wait_for("PINGRESP", SOON, |packet| matches!(packet, Packet::PingResp).then_some(())).await;
    }

    /// The messages that have arrived and were not taken, without waiting.
    pub fn messages_set_aside(&self) -> impl Iterator<Item = &Publish> {
        self.set_aside.iter().filter_map(|packet| if let Packet::Publish(p) = packet { Some(p) } else { None })
    }

    /// The connection itself, for those who count bytes instead of packets. Nothing may have been set aside.
    pub fn into_stream(self) -> TcpStream {
        let (stream, arrived) = self.into_parts();
        assert!(arrived.is_empty(), "bytes would be lost");
        stream
    }

    /// As [`Self::into_stream`], with what has arrived behind the last packet.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        assert!(self.set_aside.is_empty(), "packets would be lost: {:?}", self.set_aside);
        self.wire.into_parts()
    }

    /// Sends DISCONNECT and waits until the broker has closed its side.
    pub async fn disconnect(self) {
        self.disconnect_with(ReasonCode::Success).await;
    }

    pub async fn disconnect_with(mut self, reason: ReasonCode) {
        let packet = Disconnect { reason, properties: DisconnectProperties::default() };
        self.send(&Packet::Disconnect(Box::new(packet))).await.expect("DISCONNECT is sent");
        self.closed(SOON).await;
    }

    /// Waits until the broker closes the connection and tells the DISCONNECT it sent before, if it did.
    pub async fn closed(&mut self, limit: Duration) -> Option<Disconnect> {
        let started = Instant::now();
        let mut last = None;
        loop {
            match self.receive(limit.saturating_sub(started.elapsed())).await {
                Received::Packet(Packet::Disconnect(packet)) => last = Some(*packet),
                Received::Packet(_) => {}
                Received::Closed => return last,
                Received::Silence => panic!("{}: not closed within {limit:?}; last DISCONNECT: {last:?}", self.name),
            }
        }
    }

    /// Whether the broker has closed the connection, as far as has been heard within `limit`.
    pub async fn is_closed_within(&mut self, limit: Duration) -> bool {
        let started = Instant::now();
        loop {
            match self.wire.receive(limit.saturating_sub(started.elapsed())).await {
                Received::Packet(packet) => self.set_aside.push_back(packet),
                Received::Closed => return true,
                Received::Silence => return false,
            }
        }
    }

    fn publish_packet(&mut self, topic: &str, payload: &[u8], qos: QoS) -> Publish {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.next_packet_id());
        Publish { packet_id, ..publication(topic, payload, qos) }
    }

    fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_packet_id).expect("counted from one")
    }
}

fn publish(packet: &Packet) -> Option<Publish> {
    match packet {
        Packet::Publish(message) => Some(message.clone()),
        _ => None,
    }
}
