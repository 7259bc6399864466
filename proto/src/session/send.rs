//! Packets other than PUBLISH on their way to the client.

use super::{Action, Session, Stage};
use crate::codec;
use crate::packet::{ConnAck, Disconnect, Packet};
use crate::properties::{ConnAckProperties, DisconnectProperties};
use crate::reason::ReasonCode;

impl Session {
    /// Nothing larger than the client allows is sent [MQTT-3.1.2-24]: what ends the connection leaves its properties out,
    /// and any other answer that does not fit ends it.
    pub(super) fn send(&mut self, packet: Packet) {
        if self.stage == Stage::Closed {
            return;
        }
        if self.fits_client(&packet) {
            return self.actions.push_back(Action::Send(packet));
        }
        match packet {
            Packet::ConnAck(refusal) => {
                let properties = ConnAckProperties::default();
                self.send_if_it_fits(Packet::ConnAck(Box::new(ConnAck { properties, ..*refusal })));
            }
            Packet::Disconnect(goodbye) => {
                let properties = DisconnectProperties::default();
                self.send_if_it_fits(Packet::Disconnect(Box::new(Disconnect { properties, ..*goodbye })));
            }
            Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe(_)
            | Packet::SubAck(_)
            | Packet::Unsubscribe(_)
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp
            | Packet::Auth(_) => self.fail(ReasonCode::PacketTooLarge, "an answer larger than the client allows"),
        }
    }

    fn send_if_it_fits(&mut self, packet: Packet) {
        if self.fits_client(&packet) {
            self.actions.push_back(Action::Send(packet));
        }
    }

    pub(super) fn fits_client(&self, packet: &Packet) -> bool {
        let Some(limit) = self.outbound.max_packet() else { return true };
        // What cannot be encoded at all is the writer's to report.
        !codec::encoded_len(packet, self.version).is_ok_and(|len| len > limit)
    }
}
