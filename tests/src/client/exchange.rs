//! Requests and acknowledgements with everything that their packets can say.

use bytes::Bytes;
use bytestring::ByteString;
use rollcall_proto::packet::{
    Ack, Packet, PacketId, Publish, QoS, SubAck, Subscribe, SubscribeOptions, Unsubscribe, Version,
};
use rollcall_proto::properties::{SubscribeProperties, UnsubscribeProperties};
use rollcall_proto::reason::ReasonCode;

use super::{RawClient, SOON, publish};

impl RawClient {
    /// What its CONNECT was, or will be, encoded for.
    pub fn version(&self) -> Version {
        self.wire.version()
    }

    /// Subscribes to all of these by one packet; its SUBACK.
    pub async fn subscribe_with(
        &mut self,
        filters: &[(&str, SubscribeOptions)],
        properties: SubscribeProperties,
    ) -> SubAck {
        let packet_id = self.next_packet_id();
        let filters = filters.iter().map(|(filter, options)| (ByteString::from(*filter), *options)).collect();
        let packet = Subscribe { packet_id, filters, properties };
        self.send(&Packet::Subscribe(Box::new(packet))).await.expect("SUBSCRIBE is sent");
        let suback = |packet: &Packet| if let Packet::SubAck(ack) = packet { Some((**ack).clone()) } else { None };
        let suback = self.wait_for("SUBACK", SOON, suback).await;
        assert_eq!(suback.packet_id, packet_id, "the SUBACK of another SUBSCRIBE");
        suback
    }

    /// Unsubscribes from all of these by one packet; its UNSUBACK.
    pub async fn unsubscribe_from(&mut self, filters: &[&str]) -> SubAck {
        let packet_id = self.next_packet_id();
        let filters = filters.iter().copied().map(ByteString::from).collect();
        let packet = Unsubscribe { packet_id, filters, properties: UnsubscribeProperties::default() };
        self.send(&Packet::Unsubscribe(Box::new(packet))).await.expect("UNSUBSCRIBE is sent");
        let unsuback = |packet: &Packet| if let Packet::UnsubAck(ack) = packet { Some((**ack).clone()) } else { None };
        let unsuback = self.wait_for("UNSUBACK", SOON, unsuback).await;
        assert_eq!(unsuback.packet_id, packet_id, "the UNSUBACK of another UNSUBSCRIBE");
        unsuback
    }

    /// Publishes, above QoS 0 under a packet id of its own, through all of its acknowledgements; the reason in the first
    /// of them.
    pub async fn publish_with(&mut self, mut message: Publish) -> ReasonCode {
        message.packet_id = (message.qos != QoS::AtMostOnce).then(|| self.next_packet_id());
        let (qos, packet_id) = (message.qos, message.packet_id);
        self.send(&Packet::Publish(message)).await.expect("PUBLISH is sent");
        let Some(id) = packet_id else { return ReasonCode::Success };
        if qos == QoS::AtLeastOnce {
            return self.puback(id).await.reason;
        }
        let reason = self.pubrec(id).await.reason;
        if !reason.is_error() {
            self.send(&Packet::PubRel(ack(id))).await.expect("PUBREL is sent");
            self.pubcomp(id).await;
        }
        reason
    }

    /// The PUBACK for that packet id, when it comes.
    pub async fn puback(&mut self, id: PacketId) -> Ack {
        self.answer("PUBACK", |packet| if let Packet::PubAck(ack) = packet { Some(ack) } else { None }, id).await
    }

    /// The PUBREC for that packet id, when it comes.
    pub async fn pubrec(&mut self, id: PacketId) -> Ack {
        self.answer("PUBREC", |packet| if let Packet::PubRec(ack) = packet { Some(ack) } else { None }, id).await
    }

    /// The PUBREL for that packet id, when it comes.
    pub async fn pubrel(&mut self, id: PacketId) -> Ack {
        self.answer("PUBREL", |packet| if let Packet::PubRel(ack) = packet { Some(ack) } else { None }, id).await
    }

    /// The PUBCOMP for that packet id, when it comes.
    pub async fn pubcomp(&mut self, id: PacketId) -> Ack {
        self.answer("PUBCOMP", |packet| if let Packet::PubComp(ack) = packet { Some(ack) } else { None }, id).await
    }

    async fn answer(&mut self, what: &str, kind: impl Fn(&Packet) -> Option<&Ack>, id: PacketId) -> Ack {
        self.wait_for(what, SOON, |packet| kind(packet).filter(|ack| ack.packet_id == id).cloned()).await
    }

    /// The next message, which is left unacknowledged.
    pub async fn unacknowledged(&mut self) -> Publish {
        self.wait_for("PUBLISH", SOON, publish).await
    }

    /// Takes and acknowledges messages up to the one with this payload; those before it.
    pub async fn messages_before(&mut self, last: &[u8]) -> Vec<Publish> {
        let mut before = Vec::new();
        loop {
            let message = self.message(SOON).await;
            if message.payload == last {
                return before;
            }
            before.push(message);
        }
    }
}

/// A PUBLISH without RETAIN, properties and packet id.
pub fn publication(topic: impl Into<ByteString>, payload: impl AsRef<[u8]>, qos: QoS) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: None,
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

/// A successful PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn ack(packet_id: PacketId) -> Ack {
    Ack { packet_id, reason: ReasonCode::Success, properties: None }
}
