//! What other tasks have for a connection: messages for its client, and word that it must end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;
use parking_lot::Mutex;
use rollcall_proto::message::Delivery;
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::DisconnectReason;
use tokio::sync::Notify;

/// Why a connection is told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub reason: DisconnectReason,
    /// For 5.0 clients: where to go instead.
    pub server_reference: Option<ByteString>,
    /// The roster has taken the session away already: there is nothing left to release.
    pub released: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct MailboxLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of the messages.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    end: Option<End>,
    closed: bool,
}

/// Bounded: a client that does not read never holds up a publisher.
#[derive(Debug)]
pub struct Mailbox {
    limits: MailboxLimits,
    inside: Mutex<Inside>,
    /// Whether the owner has been woken and has not looked yet.
    woken: AtomicBool,
    notify: Notify,
}

impl Mailbox {
    pub fn new(limits: MailboxLimits) -> Self {
        Mailbox { limits, inside: Mutex::default(), woken: AtomicBool::new(false), notify: Notify::new() }
    }

    /// How many messages were dropped: when full, QoS 0 goes nowhere, and anything above takes the place of the oldest.
    ///
    /// # Errors
    /// The delivery itself once the connection has ended.
    pub fn deliver(&self, delivery: Delivery) -> Result<usize, Delivery> {
        let weight = delivery.message.weight();
        let mut dropped = 0;
        {
            let mut inside = self.inside.lock();
            if inside.closed {
                return Err(delivery);
            }
            if delivery.qos == QoS::AtMostOnce && self.is_full(&inside, weight) {
                return Ok(1);
            }
            while self.is_full(&inside, weight) {
                let Some(oldest) = inside.waiting.pop_front() else { break };
                inside.bytes -= oldest.message.weight();
                dropped += 1;
            }
            inside.bytes += weight;
            inside.waiting.push_back(delivery);
        }
        self.wake();
        Ok(dropped)
    }

    /// The connection has ended: what waits is given back, and nothing more is taken.
    pub fn close(&self) -> VecDeque<Delivery> {
        let mut inside = self.inside.lock();
        inside.closed = true;
        inside.bytes = 0;
        std::mem::take(&mut inside.waiting)
    }

    fn is_full(&self, inside: &Inside, weight: usize) -> bool {
        inside.waiting.len() >= self.limits.messages || inside.bytes + weight > self.limits.bytes
    }

    /// The first word counts, but that the session has been taken away is never forgotten.
    pub fn end(&self, end: End) {
        {
            let mut inside = self.inside.lock();
            match &mut inside.end {
                Some(earlier) => earlier.released |= end.released,
                None => inside.end = Some(end),
            }
        }
        self.wake();
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Waits until there may be something to look at.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }

    /// Whether to end; the messages stay.
    pub fn told(&self) -> Option<End> {
        self.woken.store(false, Ordering::Release);
        self.inside.lock().end.clone()
    }

    /// Exchanges the waiting messages for an empty queue, which keeps the memory of both; and whether to end.
    pub fn take(&self, messages: &mut VecDeque<Delivery>) -> Option<End> {
        self.woken.store(false, Ordering::Release);
        let mut inside = self.inside.lock();
        std::mem::swap(&mut inside.waiting, messages);
        inside.bytes = 0;
        inside.end.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rollcall_proto::message::{Message, SubscriptionIds};

    use super::*;

    fn delivery(payload: &'static str, qos: QoS) -> Delivery {
        let message = Message {
            topic: "t".into(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: None,
            publisher: ByteString::new(),
            expires_at: None,
        };
        let subscription_ids = SubscriptionIds::None;
        Delivery { message: Arc::new(message), qos, retain: false, dup: false, subscription_ids, share: None }
    }

    fn payloads(mailbox: &Mailbox) -> Vec<String> {
        let mut messages = VecDeque::new();
        mailbox.take(&mut messages);
        messages.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
    }

    #[test]
    fn a_full_mailbox_drops_new_qos_0_and_the_oldest_for_qos_1() {
        let mailbox = Mailbox::new(MailboxLimits { messages: 2, bytes: usize::MAX });
        assert_eq!(mailbox.deliver(delivery("a", QoS::AtMostOnce)), Ok(0));
        assert_eq!(mailbox.deliver(delivery("b", QoS::AtLeastOnce)), Ok(0));
        assert_eq!(mailbox.deliver(delivery("c", QoS::AtMostOnce)), Ok(1));
        assert_eq!(mailbox.deliver(delivery("d", QoS::AtLeastOnce)), Ok(1));
        assert_eq!(payloads(&mailbox), ["b", "d"]);
        assert_eq!(mailbox.deliver(delivery("e", QoS::AtMostOnce)), Ok(0));
        assert_eq!(payloads(&mailbox), ["e"]);
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_waits_and_what_comes() {
        let mailbox = Mailbox::new(MailboxLimits { messages: 2, bytes: usize::MAX });
        assert_eq!(mailbox.deliver(delivery("a", QoS::AtLeastOnce)), Ok(0));
        assert_eq!(mailbox.close(), [delivery("a", QoS::AtLeastOnce)]);
        assert_eq!(mailbox.deliver(delivery("b", QoS::AtLeastOnce)), Err(delivery("b", QoS::AtLeastOnce)));
        assert!(mailbox.close().is_empty());
    }

    #[test]
    fn that_the_session_is_gone_is_remembered_whatever_the_reason_of_the_end() {
        let mailbox = Mailbox::new(MailboxLimits { messages: 1, bytes: 1 });
        let end = |reason, released| End { reason, server_reference: None, released };
        mailbox.end(end(DisconnectReason::GoAway, false));
        mailbox.end(end(DisconnectReason::TakenOver, true));
        assert_eq!(mailbox.take(&mut VecDeque::new()), Some(end(DisconnectReason::GoAway, true)));
    }
}
