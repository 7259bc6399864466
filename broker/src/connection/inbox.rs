//! A persistent session's inbox on its way to the client, and what the client acknowledges on its way back.

use std::collections::BTreeMap;
use std::io;

use rollcall_cluster::inbox::{PACKET_IDS, packet_id};
use rollcall_cluster::{InboxMessage, InboxReader};
use rollcall_proto::packet::PacketId;
use rollcall_proto::schema::shard::Acknowledge;

/// Messages taken out in one turn.
const PER_TURN: usize = 64;

pub(super) struct InboxCursor {
    reader: InboxReader,
    /// Messages up to this position may have been sent on an earlier connection.
    sent_before: u64,
    /// What the client has not acknowledged, by packet id.
    in_flight: BTreeMap<PacketId, u64>,
    /// Read, but not sent for want of packet ids.
    next: Option<InboxMessage>,
    /// There may be more than the last turn took.
    behind: bool,
    /// What is to be recorded.
    done: Vec<u64>,
    received: Vec<u64>,
    sent: u64,
    events: Option<u64>,
    events_sent: u64,
    changed: bool,
    /// A record is on its way; the next one gathers meanwhile.
    recording: bool,
}

impl InboxCursor {
    pub(super) fn new(reader: InboxReader) -> Self {
        let sent_before = reader.state().sent;
        InboxCursor {
            reader,
            sent_before,
            in_flight: BTreeMap::new(),
            next: None,
            behind: true,
            done: Vec::new(),
            received: Vec::new(),
            sent: sent_before,
            events: None,
            events_sent: 0,
            changed: false,
            recording: false,
        }
    }

    pub(super) fn shard(&self) -> u32 {
        self.reader.shard()
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.reader.incarnation()
    }

    /// Waits until there may be something to send.
    pub(super) async fn changed(&self) {
        if !self.behind {
            self.reader.changed().await;
        }
    }

    /// The next messages, at most `room`, with their packet ids.
    ///
    /// # Errors
    /// When the disk cannot give back a message.
    pub(super) fn due(&mut self, room: usize) -> io::Result<Vec<(PacketId, InboxMessage)>> {
        let limit = room.min(PER_TURN);
        let held_back = self.next.take();
        let mut read = match limit.saturating_sub(usize::from(held_back.is_some())) {
            0 => Vec::new(),
            more => self.reader.read(more)?,
        };
        self.behind = read.len() == PER_TURN;
        read.splice(0..0, held_back);
        let mut due = Vec::with_capacity(read.len());
        let mut oldest = self.in_flight.values().min().copied();
        for message in read {
            let id = PacketId::new(packet_id(message.position)).unwrap_or(PacketId::MIN);
            if message.position >= *oldest.get_or_insert(message.position) + PACKET_IDS {
                self.next = Some(message);
                self.behind = false;
                break;
            }
            self.in_flight.insert(id, message.position);
            // Recorded at once, not with the next acknowledgement: what was sent does not expire [MQTT-4.3.3-7].
            self.changed |= message.message.as_ref().is_some_and(|message| message.expires_at.is_some());
            self.sent = self.sent.max(message.position);
            due.push((id, message));
        }
        Ok(due)
    }

    /// Whether the client may have had it before.
    pub(super) fn is_repeated(&self, position: u64) -> bool {
        position <= self.sent_before
    }

    /// The client has it, by its PUBREC.
    pub(super) fn on_received(&mut self, id: PacketId) {
        if let Some(position) = self.in_flight.get(&id) {
            self.received.push(*position);
            self.changed = true;
        }
    }

    /// The client is done with it, or will never get it. Whether it was a message from here.
    pub(super) fn on_settled(&mut self, id: PacketId) -> bool {
        let Some(position) = self.in_flight.remove(&id) else { return false };
        self.done.push(position);
        self.changed = true;
        true
    }

    /// The client is done with all events up to `seq`, and may have been sent those up to `sent`.
    pub(super) fn on_events(&mut self, seq: u64, sent: u64) {
        self.events = Some(seq);
        self.events_sent = sent;
        self.changed = true;
    }

    /// What there is to record, unless an earlier record is still on its way.
    pub(super) fn next_record(&mut self, client_id: &str, epoch: u64) -> Option<(Vec<PacketId>, Acknowledge)> {
        if self.recording || !self.changed {
            return None;
        }
        self.recording = true;
        let record = self.take_record(client_id, epoch);
        let released = record.received.iter().filter_map(|position| PacketId::new(packet_id(*position))).collect();
        Some((released, record))
    }

    pub(super) fn recorded(&mut self) {
        self.recording = false;
    }

    /// Everything that was not recorded yet, at the end.
    pub(super) fn last_record(mut self, client_id: &str, epoch: u64) -> Acknowledge {
        Acknowledge { closed: true, ..self.take_record(client_id, epoch) }
    }

    fn take_record(&mut self, client_id: &str, epoch: u64) -> Acknowledge {
        self.changed = false;
        Acknowledge {
            client_id: client_id.into(),
            incarnation: self.incarnation(),
            epoch,
            done: std::mem::take(&mut self.done),
            received: std::mem::take(&mut self.received),
            sent: self.sent,
            events: self.events,
            events_sent: self.events_sent,
            closed: false,
        }
    }
}
