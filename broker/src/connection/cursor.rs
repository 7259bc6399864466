//! A connection's place in the event log: `$events/…` subscriptions are read, not routed.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use bytestring::ByteString;
use rollcall_cluster::feed::EventFeed;
use rollcall_cluster::inbox::PACKET_IDS;
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::{PacketId, QoS};
use rollcall_proto::topic;
use tokio::sync::watch;

use super::carry::EVENT_QOS;
use crate::config::EventNode;
use crate::events;

/// Events looked at in one turn.
const EVENTS_PER_TURN: usize = 64;
/// Where a session has an inbox, its messages have the packet ids below this one, and events those from here on.
const FIRST_ID: u64 = PACKET_IDS + 1;
const IDS: u64 = u16::MAX as u64 - PACKET_IDS;
/// Events passed over after which an inbox is told how far its client has come, though it was sent none of them.
const TOLD_EVERY: u64 = 1_000;

#[derive(Debug)]
struct Followed {
    filter: ByteString,
    qos: QoS,
    id: Option<u32>,
    /// It was subscribed when this was the last event.
    since: u64,
}

#[derive(Debug)]
pub(super) struct EventCursor {
    followed: Vec<Followed>,
    /// The last event looked at.
    position: u64,
    /// There may be more than the last turn took.
    behind: bool,
    last: watch::Receiver<u64>,
    /// Where the session has an inbox: events that the client has not acknowledged.
    in_flight: BTreeSet<u64>,
    /// Events up to this one may have been sent on an earlier connection.
    sent_before: u64,
    /// Of the last one sent above QoS 0.
    sent: u64,
    /// What the inbox was told last.
    told: u64,
}

/// An event on its way to the client; with a packet id where the session has an inbox and the QoS is above 0.
pub(super) type Due = (Option<PacketId>, Delivery);

impl EventCursor {
    pub(super) fn new(last: watch::Receiver<u64>) -> Self {
        EventCursor {
            followed: Vec::new(),
            position: 0,
            behind: false,
            last,
            in_flight: BTreeSet::new(),
            sent_before: 0,
            sent: 0,
            told: 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !self.followed.is_empty()
    }

    /// Waits until there are events to look at.
    pub(super) async fn changed(&mut self) {
        while !self.behind && *self.last.borrow_and_update() <= self.position {
            if self.last.changed().await.is_err() {
                // The node is about to end, and with it this connection.
                return std::future::pending().await;
            }
        }
    }

    /// Follows a filter from now on: the events after `since`.
    pub(super) fn follow(&mut self, filter: ByteString, qos: QoS, id: Option<u32>, since: u64) {
        if self.followed.is_empty() {
            self.position = since;
        }
        let known = self.followed.iter_mut().find(|followed| followed.filter == filter);
        match known {
            Some(followed) => (followed.qos, followed.id) = (qos, id),
            None => self.followed.push(Followed { filter, qos, id, since }),
        }
    }

    pub(super) fn unfollow(&mut self, filter: &str) {
        self.followed.retain(|followed| followed.filter != filter);
    }

    /// Goes on behind `position`; up to `sent`, the client may have had an event before.
    pub(super) fn resume(&mut self, position: u64, sent: u64) {
        (self.position, self.told, self.sent_before, self.sent) = (position, position, sent, sent);
    }

    /// The next messages for this client; with `room`, that of a session with an inbox, no more than so many above QoS 0.
    pub(super) fn due(&mut self, feed: &EventFeed, node: EventNode, room: Option<usize>) -> io::Result<Vec<Due>> {
        let events = feed.read(self.position, EVENTS_PER_TURN)?;
        self.behind = events.len() == EVENTS_PER_TURN;
        let mut due = Vec::new();
        for recorded in &events {
            let seq = recorded.event.seq;
            let topic = events::topic(&recorded.event);
            let wanted = self.wanted(topic, seq);
            let mut id = None;
            if let (Some(room), Some((QoS::AtLeastOnce | QoS::ExactlyOnce, _))) = (room, &wanted) {
                let oldest = self.in_flight.first().copied().unwrap_or(seq);
                if due.iter().filter(|(id, _): &&Due| id.is_some()).count() >= room || seq >= oldest + IDS {
                    self.behind = false;
                    break;
                }
                id = PacketId::new((FIRST_ID + seq % IDS) as u16);
                self.in_flight.insert(seq);
                self.sent = self.sent.max(seq);
            }
            self.position = seq;
            let Some((qos, subscription_ids)) = wanted else { continue };
            let payload = recorded.rendered(|event| events::render(event, node)).clone();
            let message = Arc::new(Message {
                topic: ByteString::from_static(topic),
                payload,
                qos: EVENT_QOS,
                retain: false,
                properties: None,
                publisher: ByteString::new(),
                expires_at: None,
            });
            let dup = id.is_some() && seq <= self.sent_before;
            due.push((id, Delivery { message, qos, retain: false, dup, subscription_ids, share: None }));
        }
        Ok(due)
    }

    /// The client is done with the event of this packet id.
    pub(super) fn on_settled(&mut self, id: PacketId) {
        let of_id = |seq: &&u64| FIRST_ID + **seq % IDS == u64::from(id.get());
        if let Some(seq) = self.in_flight.iter().find(of_id).copied() {
            self.in_flight.remove(&seq);
        }
    }

    /// What the inbox is to be told: the client is done with all events up to the first, and may have been sent those up
    /// to the second. `None` while that would not be worth a record.
    pub(super) fn progress(&mut self) -> Option<(u64, u64)> {
        let done = self.in_flight.first().map_or(self.position, |seq| seq - 1);
        let worth_it = done >= self.told + TOLD_EVERY || (done > self.told && self.sent > self.told);
        if !worth_it {
            return None;
        }
        self.told = done;
        Some((done, self.sent))
    }

    fn wanted(&self, topic: &str, seq: u64) -> Option<(QoS, SubscriptionIds)> {
        let matching =
            self.followed.iter().filter(|followed| followed.since < seq && topic::matches(&followed.filter, topic));
        let (mut best, mut ids) = (None, Vec::new());
        for followed in matching {
            best = best.max(Some(followed.qos));
            ids.extend(followed.id);
        }
        best.map(|qos| (qos, SubscriptionIds::from(ids.as_slice())))
    }
}
