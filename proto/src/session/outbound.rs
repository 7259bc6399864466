//! Messages towards the client.

use std::collections::{BTreeMap, VecDeque};

use super::aliases::Aliases;
use super::inbound::ack;
use super::{Action, Delivered, DropReason, Overflow, Session, Stage};
use crate::codec;
use crate::message::{Delivery, Outgoing};
use crate::packet::{Ack, Packet, PacketId, QoS};
use crate::reason::{DisconnectReason, ReasonCode};

/// Packet identifiers there are.
const IDS: usize = u16::MAX as usize;

/// The window of messages in flight and the queue before it.
///
/// Packet ids are given out in turn, so that those in flight lie close together: `slots` holds one byte for each from
/// the oldest that is not done with, and finding one is a subtraction. For a session with an inbox all ids are given by
/// the shell instead, and stand in `numbered`.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    slots: VecDeque<Slot>,
    /// The packet id of the first slot, less one.
    first: usize,
    /// Whether the shell numbers what is sent.
    is_numbered: bool,
    numbered: BTreeMap<PacketId, Slot>,
    /// Slots and numbered ones that are not done.
    open: usize,
    /// Most that may be open.
    window: usize,
    /// Bytes of the largest packet the client takes.
    max_packet: Option<usize>,
    queue: VecDeque<Delivery>,
    queue_bytes: usize,
    /// QoS 1 messages in flight by shared subscriptions, which another member gets if this one leaves.
    shared: BTreeMap<PacketId, Delivery>,
    aliases: Aliases,
    congested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Done,
    /// QoS 1, PUBACK awaited.
    AwaitAck,
    /// QoS 2, PUBREC awaited.
    AwaitRec,
    /// QoS 2 from the inbox: PUBREC has come, and that it has is being recorded.
    AwaitRecord,
    /// QoS 2, PUBREL sent, PUBCOMP awaited.
    AwaitComp,
}

impl Slot {
    fn awaiting(qos: QoS) -> Self {
        if qos == QoS::ExactlyOnce { Slot::AwaitRec } else { Slot::AwaitAck }
    }
}

impl Outbound {
    pub(super) fn new(window: u16, max_packet: Option<u32>, aliases: u16) -> Self {
        let max_packet = max_packet.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let aliases = Aliases::new(aliases);
        Outbound { window: usize::from(window), max_packet, aliases, ..Outbound::default() }
    }

    pub(super) fn max_packet(&self) -> Option<usize> {
        self.max_packet
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.open
    }

    pub(super) fn trim(&mut self) {
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    fn has_room(&self) -> bool {
        !self.congested && self.open < self.window && self.slots.len() < IDS
    }

    /// From now on the shell numbers what is sent. Nothing has been sent yet.
    pub(super) fn leave_numbering(&mut self) {
        self.is_numbered = true;
    }

    /// Only with room.
    fn open(&mut self, slot: Slot) -> Option<PacketId> {
        let id = u16::try_from((self.first + self.slots.len()) % IDS + 1).ok()?;
        self.slots.push_back(slot);
        self.open += 1;
        PacketId::new(id)
    }

    /// The slot of a packet id in flight.
    fn slot(&mut self, id: PacketId) -> Option<&mut Slot> {
        if self.is_numbered {
            return self.numbered.get_mut(&id);
        }
        let at = (usize::from(id.get()) - 1 + IDS - self.first) % IDS;
        self.slots.get_mut(at).filter(|slot| **slot != Slot::Done)
    }

    fn done(&mut self, id: PacketId) {
        if !self.shared.is_empty() {
            self.shared.remove(&id);
        }
        if self.is_numbered {
            self.open -= usize::from(self.numbered.remove(&id).is_some());
            return;
        }
        if let Some(slot) = self.slot(id) {
            *slot = Slot::Done;
            self.open -= 1;
        }
        while let Some(Slot::Done) = self.slots.front() {
            self.slots.pop_front();
            self.first = (self.first + 1) % IDS;
        }
    }

    fn open_numbered(&mut self, id: PacketId, slot: Slot) {
        self.open += usize::from(self.numbered.insert(id, slot).is_none());
    }

    fn push(&mut self, delivery: Delivery) {
        self.queue_bytes += delivery.message.weight();
        self.queue.push_back(delivery);
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queue_bytes -= delivery.message.weight();
        Some(delivery)
    }
}

impl Session {
    /// A message for the client. QoS 0 goes out at once, QoS 1 and 2 when the client's window has room; where the session
    /// has an inbox these come by [`Session::deliver_numbered`] only.
    pub fn deliver(&mut self, delivery: Delivery, now: u64) -> Delivered {
        if self.stage != Stage::Online {
            return Delivered::Dropped(DropReason::Offline);
        }
        if delivery.message.is_expired(now) {
            return Delivered::Dropped(DropReason::Expired);
        }
        if self.outbound.max_packet.is_some_and(|limit| !self.fits(&delivery, limit, now)) {
            return Delivered::Dropped(DropReason::TooLarge);
        }
        if delivery.qos == QoS::AtMostOnce {
            if self.outbound.congested {
                return Delivered::Dropped(DropReason::Congested);
            }
            self.write(delivery, None, now);
            return Delivered::Sent;
        }
        if self.has_inbox {
            debug_assert!(false, "a message that bypasses the inbox");
            return Delivered::Dropped(DropReason::Offline);
        }
        if self.outbound.queue.is_empty() && self.outbound.has_room() {
            self.transmit(delivery, now);
            return Delivered::Sent;
        }
        self.enqueue(delivery)
    }

    /// How many numbered messages the client's window has room for now.
    pub fn room(&self) -> usize {
        if self.stage != Stage::Online || self.outbound.congested {
            return 0;
        }
        self.outbound.window.saturating_sub(self.outbound.open)
    }

    /// A message of QoS 1 or 2 with the packet id that the shell has given it, for a session with an inbox; only with
    /// [`Session::room`]. [`Action::Settled`] says when the client is done with it; so is the caller at once where it is
    /// dropped.
    pub fn deliver_numbered(&mut self, delivery: Delivery, id: PacketId, now: u64) -> Delivered {
        if self.stage != Stage::Online {
            return Delivered::Dropped(DropReason::Offline);
        }
        // What the client may have had before is no longer ours to drop [MQTT-4.3.3-7].
        if !delivery.dup && delivery.message.is_expired(now) {
            return Delivered::Dropped(DropReason::Expired);
        }
        if self.outbound.max_packet.is_some_and(|limit| !self.fits(&delivery, limit, now)) {
            return Delivered::Dropped(DropReason::TooLarge);
        }
        self.outbound.open_numbered(id, Slot::awaiting(delivery.qos));
        self.write(delivery, Some(id), now);
        Delivered::Sent
    }

    /// A message from the inbox that the client received on an earlier connection: only its PUBREL is due.
    pub fn release_numbered(&mut self, id: PacketId) {
        if self.stage == Stage::Online {
            self.outbound.open_numbered(id, Slot::AwaitComp);
            self.send(Packet::PubRel(ack(id, ReasonCode::Success)));
        }
    }

    /// The answer to [`Action::Received`]: that the client has the message is recorded, and PUBREL may leave.
    pub fn recorded(&mut self, id: PacketId) {
        if self.stage != Stage::Online {
            return;
        }
        if let Some(slot @ Slot::AwaitRecord) = self.outbound.slot(id) {
            *slot = Slot::AwaitComp;
            self.send(Packet::PubRel(ack(id, ReasonCode::Success)));
        }
    }

    /// Whether the client takes a packet of this size [MQTT-3.1.2-24].
    fn fits(&self, delivery: &Delivery, limit: usize, now: u64) -> bool {
        let packet_id = (delivery.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        let outgoing = Outgoing::new(delivery.clone(), packet_id, now);
        codec::publish_len(&outgoing.parts(), self.version).is_ok_and(|len| len <= limit)
    }

    fn write(&mut self, delivery: Delivery, packet_id: Option<PacketId>, now: u64) {
        let (version, limit) = (self.version, self.outbound.max_packet.unwrap_or(usize::MAX));
        let mut outgoing = Outgoing::new(delivery, packet_id, now);
        self.outbound.aliases.apply(&mut outgoing, |outgoing| {
            codec::publish_len(&outgoing.parts(), version).is_ok_and(|len| len <= limit)
        });
        self.actions.push_back(Action::Deliver(outgoing));
    }

    fn transmit(&mut self, delivery: Delivery, now: u64) {
        let packet_id = self.outbound.open(Slot::awaiting(delivery.qos));
        if let Some(id) = packet_id
            && delivery.share.is_some()
            && delivery.qos == QoS::AtLeastOnce
        {
            self.outbound.shared.insert(id, delivery.clone());
        }
        self.write(delivery, packet_id, now);
    }

    fn enqueue(&mut self, delivery: Delivery) -> Delivered {
        let weight = delivery.message.weight();
        let (most, most_bytes) = (self.config.outbound_queue, self.config.outbound_queue_bytes);
        while self.outbound.queue.len() >= most || self.outbound.queue_bytes + weight > most_bytes {
            let oldest = match self.config.overflow {
                Overflow::DropOldest if weight <= most_bytes => self.outbound.pop(),
                Overflow::DropOldest | Overflow::DropNewest => None,
                Overflow::EndSession => {
                    let detail = Some("the queue towards the client overflowed");
                    self.end(DisconnectReason::TooManyConnections, ReasonCode::QuotaExceeded, None, detail);
                    None
                }
            };
            let Some(oldest) = oldest else { return Delivered::Dropped(DropReason::QueueFull) };
            self.actions.push_back(Action::Dropped { message: oldest.message, why: DropReason::QueueFull });
        }
        self.outbound.push(delivery);
        Delivered::Queued
    }

    /// What the client was to have as a member of shared subscriptions and another member is to have instead, now that the
    /// connection has ended: of QoS 1 what it has not acknowledged, of QoS 2 what was not sent [MQTT-4.8.2-4],
    /// [MQTT-4.8.2-5]. In their order.
    pub fn take_shared(&mut self) -> Vec<Delivery> {
        let in_flight = std::mem::take(&mut self.outbound.shared).into_values();
        let queued = std::mem::take(&mut self.outbound.queue).into_iter().filter(|delivery| delivery.share.is_some());
        in_flight.chain(queued).collect()
    }

    /// Whether the client reads too slowly: then QoS 0 is dropped and QoS 1 and 2 wait in the queue.
    pub fn set_congested(&mut self, congested: bool, now: u64) {
        self.outbound.congested = congested;
        self.pump(now);
    }

    fn pump(&mut self, now: u64) {
        if self.stage != Stage::Online {
            return;
        }
        while self.outbound.has_room()
            && let Some(delivery) = self.outbound.pop()
        {
            if delivery.message.is_expired(now) {
                self.actions.push_back(Action::Dropped { message: delivery.message, why: DropReason::Expired });
            } else {
                self.transmit(delivery, now);
            }
        }
    }

    /// Frees the place of a message that the client has, or does not want.
    fn settle(&mut self, id: PacketId, now: u64) {
        self.outbound.done(id);
        if self.outbound.is_numbered {
            self.actions.push_back(Action::Settled(id));
        }
        self.pump(now);
    }

    pub(super) fn on_puback(&mut self, puback: &Ack, now: u64) {
        match self.outbound.slot(puback.packet_id) {
            Some(Slot::AwaitAck) => self.settle(puback.packet_id, now),
            Some(Slot::AwaitRec | Slot::AwaitRecord | Slot::AwaitComp) => {
                self.fail(ReasonCode::ProtocolError, "PUBACK for a QoS 2 message");
            }
            // From an earlier connection, perhaps: it harms nobody.
            Some(Slot::Done) | None => {}
        }
    }

    pub(super) fn on_pubrec(&mut self, pubrec: &Ack, now: u64) {
        let id = pubrec.packet_id;
        let refused = pubrec.reason.is_error();
        let numbered = self.outbound.is_numbered;
        match self.outbound.slot(id) {
            Some(Slot::AwaitRec) if refused => self.settle(id, now),
            Some(slot @ Slot::AwaitRec) if numbered => {
                *slot = Slot::AwaitRecord;
                self.actions.push_back(Action::Received(id));
            }
            // The PUBREL is on its way.
            Some(Slot::AwaitRecord) => {}
            Some(slot @ (Slot::AwaitRec | Slot::AwaitComp)) => {
                *slot = Slot::AwaitComp;
                self.send(Packet::PubRel(ack(id, ReasonCode::Success)));
            }
            Some(Slot::AwaitAck) => self.fail(ReasonCode::ProtocolError, "PUBREC for a QoS 1 message"),
            Some(Slot::Done) | None if refused => {}
            Some(Slot::Done) | None => self.send(Packet::PubRel(ack(id, ReasonCode::PacketIdentifierNotFound))),
        }
    }

    pub(super) fn on_pubcomp(&mut self, pubcomp: &Ack, now: u64) {
        match self.outbound.slot(pubcomp.packet_id) {
            Some(Slot::AwaitComp) => self.settle(pubcomp.packet_id, now),
            Some(Slot::AwaitAck | Slot::AwaitRec | Slot::AwaitRecord) => {
                self.fail(ReasonCode::ProtocolError, "PUBCOMP before its PUBREL [MQTT-4.3.3-8]");
            }
            Some(Slot::Done) | None => {}
        }
    }
}
