//! The shard as bytes: one header, then one record per message, inbox, topic, hand-on and origin. Equal states give
//! equal bytes, wherever their messages lie.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use rollcall_proto::schema::shard::{self as wire, Header};

use super::Shard;
use super::bodies::{Bodies, Body, BodyRef};
use super::origins::Origins;
use super::queue::{Inbox, Queued, to_qos};
use super::retained::Topics;
use crate::records::{SnapshotError, read_record, write_record};

/// Messages of one inbox in one record, which has a largest size.
const QUEUED_PER_RECORD: usize = 65_536;

/// Is given messages by their ids; whether it has them elsewhere now.
pub type SpillBodies<'a> = dyn FnMut(&[(u64, Bytes)]) -> bool + 'a;

impl Shard {
    /// `fetch` reads a message that is spilled.
    pub fn write_to(&self, out: &mut impl Write, fetch: &dyn Fn(u64) -> io::Result<Bytes>) -> io::Result<()> {
        self.write_records(out, &|id, body| match body.to_ref(id) {
            BodyRef::Memory(bytes) => Ok(bytes),
            BodyRef::Spilled(id) => fetch(id),
        })
    }

    /// The same, but of each message only its length: a hash of it compares replicas without reading what is spilled.
    pub fn write_outline_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_records(out, &|_, body| Ok(Bytes::copy_from_slice(&body.len.to_le_bytes())))
    }

    fn write_records(
        &self,
        out: &mut impl Write,
        message_of: &dyn Fn(u64, &Body) -> io::Result<Bytes>,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        write_record(&self.header(), &mut buffer, out)?;
        for (id, body) in self.bodies.iter() {
            let record = wire::Body { id, message: message_of(id, body)?, expires_at: body.expires_at };
            write_record(&record, &mut buffer, out)?;
        }
        for (client_id, inbox) in self.inboxes.iter() {
            for part in 0..inbox.parts() {
                write_record(&inbox.to_wire(client_id, part), &mut buffer, out)?;
            }
        }
        for (topic, body) in self.topics.bodies.iter() {
            write_record(&wire::Retained { topic: topic.to_string(), body: *body }, &mut buffer, out)?;
        }
        for (_, hand_on) in self.hand_ons.iter() {
            write_record(&**hand_on, &mut buffer, out)?;
        }
        for mark in self.origins.to_wire() {
            write_record(&mark, &mut buffer, out)?;
        }
        Ok(())
    }

    fn header(&self) -> Header {
        Header {
            number: self.number,
            time: self.time,
            next_body: self.bodies.next(),
            next_hand_on: self.next_hand_on,
            nodes: self.nodes.values().cloned().collect(),
            bodies: self.bodies.len() as u64,
            inboxes: self.inboxes.iter().map(|(_, inbox)| inbox.parts() as u64).sum(),
            retained: self.topics.bodies.len() as u64,
            hand_ons: self.hand_ons.len() as u64,
            origins: self.origins.len() as u64,
        }
    }

    /// All messages are in memory then.
    pub fn read_from(input: &mut impl Read) -> Result<Shard, SnapshotError> {
        Self::read_spilling(input, u64::MAX, &mut |_| true)
    }

    /// Whenever messages take more than so many bytes of memory, `spill` is given some to write elsewhere; they are kept if
    /// it cannot.
    pub fn read_spilling(
        input: &mut impl Read,
        memory: u64,
        spill: &mut SpillBodies<'_>,
    ) -> Result<Shard, SnapshotError> {
        let header: Header = read_record(input)?;
        let mut shard = Shard::new(header.number);
        shard.time = header.time;
        shard.next_hand_on = header.next_hand_on;
        shard.nodes = header.nodes.iter().map(|node| (node.id, node.clone())).collect();
        shard.bodies = read_bodies(&header, input, memory, spill)?;
        for _ in 0..header.inboxes {
            shard.read_inbox(read_record(input)?)?;
        }
        shard.topics = read_topics(&header, &mut shard.bodies, input)?;
        for _ in 0..header.hand_ons {
            let hand_on: wire::HandOn = read_record(input)?;
            hold(&mut shard.bodies, hand_on.body)?;
            shard.hand_ons.insert(hand_on.number, Arc::new(hand_on));
        }
        shard.origins = read_origins(&header, input)?;
        if shard.bodies.iter().any(|(_, body)| body.refs == 0) {
            return Err(SnapshotError::Contradiction("a message that nobody holds"));
        }
        Ok(shard)
    }

    fn read_inbox(&mut self, record: wire::Inbox) -> Result<(), SnapshotError> {
        let client_id = record.client_id.clone();
        let queue = record.queue.clone();
        if self.inboxes.get(&client_id).is_none() {
            self.inboxes.insert(&client_id, Inbox::from_wire(record));
        }
        let Some(inbox) = self.inboxes.get_mut(&client_id) else { return Ok(()) };
        for record in queue {
            let position = record.position;
            let (len, expires_at) = if record.body == 0 { (0, 0) } else { hold(&mut self.bodies, record.body)? };
            inbox.append(position, Queued::from_wire(record), len, expires_at);
        }
        Ok(())
    }
}

fn read_bodies(
    header: &Header,
    input: &mut impl Read,
    mut memory: u64,
    spill: &mut SpillBodies<'_>,
) -> Result<Bodies, SnapshotError> {
    let mut bodies = Bodies::default();
    for _ in 0..header.bodies {
        let record: wire::Body = read_record(input)?;
        bodies.restore(record.id, record.message, record.expires_at);
        if bodies.memory() > memory {
            let chosen = bodies.to_spill(bodies.memory() - memory / 2);
            if spill(&chosen) {
                let ids: Vec<u64> = chosen.iter().map(|(id, _)| *id).collect();
                bodies.spilled(&ids);
            } else {
                memory = u64::MAX;
            }
        }
    }
    bodies.restore_next(header.next_body);
    Ok(bodies)
}

fn read_topics(header: &Header, bodies: &mut Bodies, input: &mut impl Read) -> Result<Topics, SnapshotError> {
    let mut topics = Topics::default();
    for _ in 0..header.retained {
        let record: wire::Retained = read_record(input)?;
        let (_, expires_at) = hold(bodies, record.body)?;
        topics.set(record.topic.into(), record.body, expires_at);
    }
    Ok(topics)
}

fn read_origins(header: &Header, input: &mut impl Read) -> Result<Origins, SnapshotError> {
    let mut origins = Origins::default();
    for _ in 0..header.origins {
        if !origins.restore(&read_record(input)?) {
            return Err(SnapshotError::Contradiction("an origin twice, or of a kind that this version does not know"));
        }
    }
    Ok(origins)
}

/// One holder more; its length and expiry.
fn hold(bodies: &mut Bodies, id: u64) -> Result<(u32, u64), SnapshotError> {
    bodies.hold(id);
    let body = bodies.get(id).ok_or(SnapshotError::Contradiction("a message that is held and not there"))?;
    Ok((body.len, body.expires_at))
}

impl Inbox {
    /// Records that its queue takes.
    fn parts(&self) -> usize {
        self.queue.len().div_ceil(QUEUED_PER_RECORD).max(1)
    }

    fn to_wire(&self, client_id: &str, part: usize) -> wire::Inbox {
        let queue = self.queue.iter().skip(part * QUEUED_PER_RECORD).take(QUEUED_PER_RECORD);
        let queue = queue.map(|(position, queued)| queued.to_wire(*position)).collect();
        if part > 0 {
            return wire::Inbox { client_id: client_id.into(), queue, ..wire::Inbox::default() };
        }
        wire::Inbox {
            client_id: client_id.into(),
            incarnation: self.incarnation,
            epoch: self.epoch,
            roster_index: self.roster_index,
            limits: Some(self.limits),
            next_position: self.next_position,
            sent: self.sent,
            queue,
            held: self.held.iter().copied().map(u32::from).collect(),
            handed: self.handed,
            events: self.events,
            dropped: self.dropped,
            overflowed: self.overflowed,
            events_sent: self.events_sent,
            in_use: self.in_use,
            unclean: self.unclean,
        }
    }

    /// All but its queue.
    fn from_wire(record: wire::Inbox) -> Inbox {
        Inbox {
            epoch: record.epoch,
            roster_index: record.roster_index,
            limits: record.limits.unwrap_or_default(),
            next_position: record.next_position,
            sent: record.sent,
            held: record.held.iter().map(|packet_id| *packet_id as u16).collect(),
            handed: record.handed,
            events: record.events,
            dropped: record.dropped,
            overflowed: record.overflowed,
            events_sent: record.events_sent,
            in_use: record.in_use,
            unclean: record.unclean,
            ..Inbox::new(record.incarnation)
        }
    }
}

impl Queued {
    fn to_wire(&self, position: u64) -> wire::Queued {
        wire::Queued {
            position,
            body: self.body,
            qos: self.qos as u32,
            retain: self.retain,
            received: self.received,
            subscription_ids: self.subscription_ids.as_slice().to_vec(),
        }
    }

    fn from_wire(record: wire::Queued) -> Queued {
        Queued {
            body: record.body,
            subscription_ids: record.subscription_ids.as_slice().into(),
            qos: to_qos(record.qos),
            retain: record.retain,
            received: record.received,
        }
    }
}
