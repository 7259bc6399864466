//! The session state of one subscriber, kept across its connections, and what it has received. Pure.

use std::collections::BTreeMap;

use crate::durable::check::Received;
use crate::durable::plan::{Plan, Stream, parse_payload};
use crate::mqtt::wire::{Publish, Reply};

#[derive(Debug, Default)]
pub struct Inbox {
    /// QoS 2 messages recorded and not yet released, by packet id: one that comes again under its id is the same one.
    held: BTreeMap<u16, (Stream, u32)>,
    pub received: Received,
}

impl Inbox {
    /// Records a message, and tells what to answer once that is done.
    ///
    /// # Errors
    /// No message that the workload sends, so that nobody can say what was delivered.
    pub fn publish(&mut self, plan: &Plan, publish: &Publish) -> Result<Reply, String> {
        let Some((stream, number)) = parse_payload(&publish.payload) else {
            return Err(format!("a message that nobody sent: {publish:02x?}"));
        };
        if publish.qos != stream.qos || publish.topic != plan.topic(stream.publisher, stream.topic) {
            return Err(format!("number {number} of {stream} at QoS {} on {}", publish.qos, publish.topic));
        }
        if publish.qos == 1 {
            self.record(stream, number);
            return Ok(Reply::Ack(publish.packet_id));
        }
        match self.held.insert(publish.packet_id, (stream, number)) {
            None => self.record(stream, number),
            Some(held) if held == (stream, number) => {}
            Some((other, before)) => {
                return Err(format!(
                    "number {number} of {stream} under packet id {}, which number {before} of {other} still has",
                    publish.packet_id
                ));
            }
        }
        Ok(Reply::Received(publish.packet_id))
    }

    fn record(&mut self, stream: Stream, number: u32) {
        self.received.0.entry(stream).or_default().push(number);
    }

    /// PUBREL. One for an id that is not held was answered before, on a connection that broke.
    pub fn release(&mut self, packet_id: u16) -> Reply {
        self.held.remove(&packet_id);
        Reply::Complete(packet_id)
    }

    /// The broker has begun a new session: its packet ids mean other messages.
    pub fn session_lost(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::plan::payload;

    const QOS_1: Stream = Stream { publisher: 0, topic: 0, qos: 1 };
    const QOS_2: Stream = Stream { publisher: 0, topic: 0, qos: 2 };

    fn plan() -> Plan {
        Plan { root: "d".into(), publishers: 1, topics: 1, subscribers: 1 }
    }

    fn message(stream: Stream, packet_id: u16, number: u32) -> Publish {
        let payload = payload(stream, number);
        Publish { qos: stream.qos, duplicate: false, retain: false, packet_id, topic: "d/0/0".into(), payload }
    }

    #[test]
    fn a_qos_1_message_is_recorded_each_time_it_comes() {
        let mut inbox = Inbox::default();
        for _ in 0..2 {
            assert_eq!(inbox.publish(&plan(), &message(QOS_1, 7, 0)), Ok(Reply::Ack(7)));
        }
        assert_eq!(inbox.received.0[&QOS_1], [0, 0]);
    }

    #[test]
    fn a_qos_2_message_is_recorded_once_while_its_packet_id_is_held() {
        let mut inbox = Inbox::default();
        for _ in 0..2 {
            assert_eq!(inbox.publish(&plan(), &message(QOS_2, 7, 0)), Ok(Reply::Received(7)));
        }
        assert_eq!(inbox.received.0[&QOS_2], [0]);
        assert_eq!(inbox.release(7), Reply::Complete(7));
        assert_eq!(inbox.release(7), Reply::Complete(7), "again after a broken connection");
        inbox.publish(&plan(), &message(QOS_2, 7, 0)).unwrap();
        assert_eq!(inbox.received.0[&QOS_2], [0, 0], "after its release it is another delivery");
        assert_eq!(inbox.received.count(), 2);
    }

    #[test]
    fn another_message_under_a_held_packet_id_is_found() {
        let mut inbox = Inbox::default();
        inbox.publish(&plan(), &message(QOS_2, 7, 0)).unwrap();
        assert!(inbox.publish(&plan(), &message(QOS_2, 7, 1)).is_err());
        inbox.session_lost();
        assert!(inbox.publish(&plan(), &message(QOS_2, 7, 2)).is_ok());
    }

    #[test]
    fn a_changed_message_is_found() {
        let mut inbox = Inbox::default();
        let good = message(QOS_2, 7, 0);
        for wrong in [
            Publish { qos: 1, ..good.clone() },
            Publish { topic: "d/0/1".into(), ..good.clone() },
            Publish { payload: b"0.0.2".to_vec(), ..good.clone() },
        ] {
            assert!(inbox.publish(&plan(), &wrong).is_err(), "{wrong:?}");
        }
        assert!(inbox.publish(&plan(), &good).is_ok());
    }
}
