//! A connection's place in the event log: `$events/…` subscriptions are read, not routed.

use std::io;
use std::sync::Arc;

use bytestring::ByteString;
use rollcall_cluster::feed::EventFeed;
use rollcall_proto::message::{Delivery, Message, SubscriptionIds};
use rollcall_proto::packet::QoS;
use rollcall_proto::topic;
use tokio::sync::watch;

use super::carry::EVENT_QOS;
use crate::config::EventNode;
use crate::events;

/// Events looked at in one turn.
const EVENTS_PER_TURN: usize = 64;

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
}

impl EventCursor {
    pub(super) fn new(last: watch::Receiver<u64>) -> Self {
        EventCursor { followed: Vec::new(), position: 0, behind: false, last }
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

    /// The next messages for this client.
    pub(super) fn due(&mut self, feed: &EventFeed, node: EventNode) -> io::Result<Vec<Delivery>> {
        let events = feed.read(self.position, EVENTS_PER_TURN)?;
        self.behind = events.len() == EVENTS_PER_TURN;
        let mut due = Vec::new();
        for recorded in &events {
            let seq = recorded.event.seq;
            self.position = seq;
            let topic = events::topic(&recorded.event);
            let Some((qos, subscription_ids)) = self.wanted(topic, seq) else { continue };
            let payload = recorded.rendered(|event| events::render(event, node)).clone();
            let message = Message {
                topic: ByteString::from_static(topic),
                payload,
                qos: EVENT_QOS,
                retain: false,
                properties: None,
                publisher: ByteString::new(),
                expires_at: None,
            };
            due.push(Delivery { message: Arc::new(message), qos, retain: false, dup: false, subscription_ids });
        }
        Ok(due)
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
