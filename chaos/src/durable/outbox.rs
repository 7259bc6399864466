//! The session state of one publisher: what it has sent and not yet seen through [MQTT-4.4.0-1]. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::durable::check::Sent;
use crate::durable::plan::Stream;
use crate::mqtt::wire::{Ack, FAILURE, Packet};

/// A message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    pub packet_id: u16,
    pub stream: Stream,
    pub number: u32,
    /// PUBREC has come: from now on PUBREL is sent, never the message.
    pub released: bool,
    since: Instant,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// By PUBACK: owed from now on, and done.
    Acknowledged,
    /// By PUBREC: owed from now on, PUBREL is to follow.
    Received,
    /// By PUBCOMP.
    Completed,
    Refused,
}

#[derive(Debug)]
pub struct Outbox {
    /// What the times of acknowledgements count from.
    started: Instant,
    /// In the order they were first sent.
    flights: VecDeque<Flight>,
    last_id: u16,
    pub sent: Sent,
    /// The longest time from a first sending to its acknowledgement.
    pub longest: Duration,
    /// When each acknowledgement came, and how long it had taken.
    pub answers: Vec<(Instant, Duration)>,
}

impl Outbox {
    pub fn new(started: Instant) -> Self {
        let (flights, sent) = (VecDeque::new(), Sent::default());
        Self { started, flights, last_id: 0, sent, longest: Duration::ZERO, answers: Vec::new() }
    }

    /// A new message, which counts as sent from now on.
    pub fn compose(&mut self, stream: Stream, now: Instant) -> Flight {
        let published = self.sent.0.entry(stream).or_default();
        let number = published.len() as u32;
        published.push(None);
        let flight = Flight { packet_id: self.free_id(), stream, number, released: false, since: now };
        self.flights.push_back(flight);
        flight
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            let id = self.last_id;
            if id != 0 && self.flights.iter().all(|flight| flight.packet_id != id) {
                return id;
            }
        }
    }

    /// # Errors
    /// The packet answers nothing that was asked.
    pub fn answered(&mut self, packet: &Packet, now: Instant) -> Result<Answered, String> {
        match packet {
            Packet::PubAck(ack) => {
                let place = self.find(ack, packet, |flight| flight.stream.qos == 1)?;
                self.settle(place, ack.code, now);
                self.flights.remove(place);
                Ok(if ack.code < FAILURE { Answered::Acknowledged } else { Answered::Refused })
            }
            Packet::PubRec(ack) => {
                let place = self.find(ack, packet, |flight| flight.stream.qos == 2 && !flight.released)?;
                self.settle(place, ack.code, now);
                if ack.code < FAILURE {
                    self.flights[place].released = true;
                    Ok(Answered::Received)
                } else {
                    self.flights.remove(place);
                    Ok(Answered::Refused)
                }
            }
            // A failure here says that the broker had completed it before.
            Packet::PubComp(ack) => {
                let place = self.find(ack, packet, |flight| flight.released)?;
                self.flights.remove(place);
                Ok(Answered::Completed)
            }
            other => Err(format!("{other:?}, which answers no PUBLISH")),
        }
    }

    fn find(&self, ack: &Ack, packet: &Packet, waits: impl Fn(&Flight) -> bool) -> Result<usize, String> {
        let asked = |flight: &Flight| flight.packet_id == ack.packet_id && waits(flight);
        self.flights.iter().position(asked).ok_or_else(|| format!("{packet:?}, for which nothing waits"))
    }

    fn settle(&mut self, place: usize, code: u8, now: Instant) {
        let flight = self.flights[place];
        let took = now.saturating_duration_since(flight.since);
        self.longest = self.longest.max(took);
        self.answers.push((now, took));
        if code < FAILURE
            && let Some(published) = self.sent.0.get_mut(&flight.stream)
        {
            published[flight.number as usize] = Some(now.saturating_duration_since(self.started));
        }
    }

    /// What a new connection has to send again, in this order: [MQTT-4.6.0-1].
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter()
    }

    pub fn len(&self) -> usize {
        self.flights.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// The broker has no session any more: nothing is left to release there.
    pub fn session_lost(&mut self) {
        self.flights.retain(|flight| !flight.released);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS_1: Stream = Stream { publisher: 0, topic: 0, qos: 1 };
    const QOS_2: Stream = Stream { publisher: 0, topic: 0, qos: 2 };

    fn ack(packet_id: u16, code: u8) -> Ack {
        Ack { packet_id, code }
    }

    fn ids(outbox: &Outbox) -> Vec<(u16, bool)> {
        outbox.flights().map(|flight| (flight.packet_id, flight.released)).collect()
    }

    #[test]
    fn a_message_is_acknowledged_by_puback_or_pubrec() {
        let now = Instant::now();
        let mut outbox = Outbox::new(now);
        let (one, two) = (outbox.compose(QOS_1, now), outbox.compose(QOS_2, now));
        let later = now + Duration::from_secs(3);
        assert_eq!(outbox.answered(&Packet::PubRec(ack(two.packet_id, 0)), later), Ok(Answered::Received));
        assert_eq!((&outbox.sent.0[&QOS_1], &outbox.sent.0[&QOS_2]), (&vec![None], &vec![Some(later - now)]));
        assert_eq!(outbox.answered(&Packet::PubAck(ack(one.packet_id, 0x10)), now), Ok(Answered::Acknowledged));
        assert_eq!(outbox.sent.0[&QOS_1], [Some(Duration::ZERO)]);
        assert_eq!(outbox.answered(&Packet::PubComp(ack(two.packet_id, 0)), now), Ok(Answered::Completed));
        assert!(outbox.is_empty());
        assert_eq!(outbox.longest, Duration::from_secs(3));
    }

    #[test]
    fn what_a_new_connection_resends_is_in_the_order_it_was_sent() {
        let now = Instant::now();
        let mut outbox = Outbox::new(now);
        for stream in [QOS_2, QOS_1, QOS_2, QOS_1] {
            outbox.compose(stream, now);
        }
        outbox.answered(&Packet::PubRec(ack(1, 0)), now).unwrap();
        outbox.answered(&Packet::PubAck(ack(2, 0)), now).unwrap();
        assert_eq!(ids(&outbox), [(1, true), (3, false), (4, false)]);
        outbox.session_lost();
        assert_eq!(ids(&outbox), [(3, false), (4, false)]);
    }

    #[test]
    fn a_refused_message_is_not_owed() {
        let now = Instant::now();
        let mut outbox = Outbox::new(now);
        outbox.compose(QOS_1, now);
        outbox.compose(QOS_2, now);
        assert_eq!(outbox.answered(&Packet::PubAck(ack(1, 0x97)), now), Ok(Answered::Refused));
        assert_eq!(outbox.answered(&Packet::PubRec(ack(2, 0x97)), now), Ok(Answered::Refused));
        assert!(outbox.is_empty());
        assert_eq!((&outbox.sent.0[&QOS_1], &outbox.sent.0[&QOS_2]), (&vec![None], &vec![None]));
    }

    #[test]
    fn an_answer_to_nothing_is_found() {
        let now = Instant::now();
        let mut outbox = Outbox::new(now);
        outbox.compose(QOS_1, now);
        outbox.compose(QOS_2, now);
        assert!(outbox.answered(&Packet::PubAck(ack(3, 0)), now).is_err());
        assert!(outbox.answered(&Packet::PubRec(ack(1, 0)), now).is_err(), "QoS 1");
        assert!(outbox.answered(&Packet::PubAck(ack(2, 0)), now).is_err(), "QoS 2");
        assert!(outbox.answered(&Packet::PubComp(ack(2, 0)), now).is_err(), "before PUBREC");
        assert!(outbox.answered(&Packet::PingResp, now).is_err());
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_packet_id_in_flight_is_not_given_out_again() {
        let now = Instant::now();
        let mut outbox = Outbox::new(now);
        let first = outbox.compose(QOS_1, now).packet_id;
        for _ in 0..70_000 {
            let next = outbox.compose(QOS_1, now).packet_id;
            assert!(next != 0 && next != first);
            outbox.answered(&Packet::PubAck(ack(next, 0)), now).unwrap();
        }
    }
}
