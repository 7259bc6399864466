//! Reading this node's replica of a shard: inboxes for their connections, retained messages for new subscriptions.

use std::io;
use std::sync::Arc;

use rollcall_proto::message::{Message, SubscriptionIds};
use rollcall_proto::packet::QoS;

use super::replica::ShardReplica;
use crate::clock::{boottime, wall_ms};
use crate::inbox::{BodyRef, Waiting};
use crate::message;

/// How often what has gone meanwhile is looked up again.
const READ_AGAIN: usize = 4;

/// A message of an inbox, ready to be sent.
#[derive(Debug, Clone)]
pub struct InboxMessage {
    pub position: u64,
    pub qos: QoS,
    /// As the subscriber is to see it.
    pub retain: bool,
    pub subscription_ids: SubscriptionIds,
    /// `None` where the client has it already: only its PUBREL is due.
    pub message: Option<Arc<Message>>,
}

/// What an inbox knows besides its messages.
#[derive(Debug, Clone, Default)]
pub struct InboxState {
    /// Messages up to this position may have been sent before.
    pub sent: u64,
    /// Packet ids of QoS 2 messages from the client whose PUBREL has not come; sorted.
    pub held: Vec<u16>,
    /// `seq` of the last lifecycle event that the client is done with.
    pub events: Option<u64>,
    /// Events up to this one may have been sent before.
    pub events_sent: u64,
    /// Whoever had it open before has not said how far it came: anything may have been sent.
    pub unclean: bool,
}

/// Some retained messages, in the order of their topics.
#[derive(Debug, Default)]
pub struct RetainedMessages {
    pub messages: Vec<Arc<Message>>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

impl ShardReplica {
    /// `None` if there is no inbox of that incarnation.
    pub(crate) fn inbox_state(&self, client_id: &str, incarnation: u64) -> Option<InboxState> {
        let shard = self.shard();
        let inbox = shard.inbox(client_id).filter(|inbox| inbox.incarnation() == incarnation)?;
        Some(InboxState {
            sent: inbox.sent(),
            held: inbox.held().to_vec(),
            events: inbox.events(),
            events_sent: inbox.events_sent(),
            unclean: inbox.is_unclean(),
        })
    }

    /// What waits behind that position, at most `limit`.
    ///
    /// # Errors
    /// When a spilled message cannot be read back.
    pub(crate) fn read_inbox(
        &self,
        client_id: &str,
        incarnation: u64,
        after: u64,
        limit: usize,
    ) -> io::Result<Vec<InboxMessage>> {
        self.while_bodies_go(|clock| {
            let waiting = self.shard().read(client_id, incarnation, after, limit);
            waiting.into_iter().map(|waiting| self.inbox_message(waiting, clock)).collect()
        })
    }

    fn inbox_message(&self, waiting: Waiting, clock: &LogClock) -> io::Result<InboxMessage> {
        let message = match waiting.body {
            Some(body) => Some(self.message(body, clock.local(waiting.expires_at))?),
            None => None,
        };
        let queued = waiting.queued;
        Ok(InboxMessage {
            position: waiting.position,
            qos: queued.qos,
            retain: queued.retain,
            subscription_ids: queued.subscription_ids,
            message,
        })
    }

    /// Retained messages whose topics match and lie behind `after`.
    ///
    /// # Errors
    /// As [`Self::read_inbox`].
    pub(crate) fn read_retained(
        &self,
        filter: &str,
        after: Option<&str>,
        limit: usize,
    ) -> io::Result<RetainedMessages> {
        self.while_bodies_go(|clock| {
            let page = self.shard().retained(filter, after, limit, clock.now);
            let messages = page.items.into_iter().map(|item| self.message(item.body, clock.local(item.expires_at)));
            Ok(RetainedMessages {
                messages: messages.collect::<io::Result<_>>()?,
                next: page.next.map(|topic| topic.to_string()),
            })
        })
    }

    /// A body that is spilled may go between looking it up and reading it: then there is another answer.
    fn while_bodies_go<T>(&self, read: impl Fn(&LogClock) -> io::Result<T>) -> io::Result<T> {
        let mut last = read(&LogClock::of(self));
        for _ in 0..READ_AGAIN {
            match &last {
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = read(&LogClock::of(self)),
                Ok(_) | Err(_) => break,
            }
        }
        last
    }

    fn message(&self, body: BodyRef, expires_at: Option<u64>) -> io::Result<Arc<Message>> {
        let bytes = self.body(body)?;
        let message = message::from_body(bytes, expires_at);
        message.map(Arc::new).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a message does not decode"))
    }
}

/// Log time as this node may reckon it between entries, and what it is on the node's own clock.
struct LogClock {
    /// Milliseconds since 1970.
    now: u64,
    boot: u64,
}

impl LogClock {
    fn of(replica: &ShardReplica) -> Self {
        LogClock { now: replica.shard().time().max(wall_ms()), boot: boottime().as_millis() as u64 }
    }

    fn local(&self, expires_at: u64) -> Option<u64> {
        (expires_at != 0).then(|| self.boot + expires_at.saturating_sub(self.now))
    }
}
