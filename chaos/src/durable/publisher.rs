//! One publisher with a persistent session: publishes at a bounded rate, in bursts, and sees every message through.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::durable::Phase;
use crate::durable::dial::{Dialed, Dialer, Session};
use crate::durable::outbox::{Answered, Flight, Outbox};
use crate::durable::plan::{Plan, Stream, payload};
use crate::durable::tally::Tally;
use crate::mqtt::link::{Link, Lost, TEND};
use crate::mqtt::wire::{self, Packet, Publish, Reply};

/// Messages that are sent at once: order matters among those that are on their way together.
const BURST: std::ops::RangeInclusive<usize> = 1..=7;
const MEAN_BURST: f64 = 4.0;
/// Milliseconds until a publisher breaks its own connection.
const STAY_MS: std::ops::Range<u64> = 500..12_000;
/// For the last acknowledgements, once all nodes are there again.
pub const FINISH: Duration = Duration::from_secs(60);

pub struct Publisher {
    pub number: u16,
    pub plan: Arc<Plan>,
    pub dialer: Dialer,
    pub outbox: Outbox,
    pub phase: watch::Receiver<Phase>,
    pub tally: Arc<Tally>,
    pub rng: SmallRng,
    /// Messages per second.
    pub rate: f64,
    /// Messages in flight, at most.
    pub window: usize,
}

impl Publisher {
    /// Publishes until told to finish, then waits for what is still open; what is left in the outbox was not answered.
    pub async fn run(mut self) -> Outbox {
        let mut finish = self.phase.clone();
        let deadline = async move {
            // The sender outlives all publishers.
            let _ = finish.wait_for(|phase| *phase != Phase::Work).await;
            tokio::time::sleep(FINISH).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = deadline => {}
        }
        self.outbox
    }

    fn working(&self) -> bool {
        *self.phase.borrow() == Phase::Work
    }

    async fn work(&mut self) {
        while self.working() || !self.outbox.is_empty() {
            let Dialed { mut link, session, receive_maximum } = self.dialer.dial().await;
            if session == Session::Lost {
                self.outbox.session_lost();
            }
            self.window = self.window.min(receive_maximum.into());
            let served = match self.resume(&mut link, session).await {
                Ok(()) => self.serve(&mut link).await,
                Err(lost) => Err(lost),
            };
            match served {
                Err(lost) => self.dialer.report(&lost),
                Ok(()) if self.working() => {}
                Ok(()) => link.leave().await,
            }
        }
    }

    /// Sends again what the last connection left open, in its order.
    async fn resume(&mut self, link: &mut Link, session: Session) -> Result<(), Lost> {
        for flight in self.outbox.flights() {
            if flight.released {
                wire::reply(link.output(), Reply::Release(flight.packet_id));
            } else {
                publish(link, &self.plan, flight, session == Session::Resumed);
            }
        }
        link.flush().await
    }

    /// Works on one connection until it is over; `Ok` when it was ended from here.
    async fn serve(&mut self, link: &mut Link) -> Result<(), Lost> {
        let period = Duration::from_secs_f64(MEAN_BURST / self.rate);
        let mut bursts = interval_at(Instant::now() + period, period);
        bursts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tend = interval(TEND);
        let due = Instant::now() + Duration::from_millis(self.rng.random_range(STAY_MS));
        loop {
            if !self.working() && self.outbox.is_empty() {
                return Ok(());
            }
            tokio::select! {
                packet = link.receive() => {
                    let mut next = Some(packet?);
                    while let Some(packet) = next {
                        self.take(link, &packet)?;
                        next = link.arrived()?;
                    }
                    link.flush().await?;
                }
                _ = bursts.tick(), if self.working() => {
                    self.burst(link);
                    link.flush().await?;
                    if Instant::now() > due {
                        // It vanishes with messages on their way, whose answers it will not see.
                        return Ok(());
                    }
                }
                _ = tend.tick() => link.tend().await?,
                _ = self.phase.changed() => {}
            }
        }
    }

    /// Mostly on one topic, at either QoS, as far as the window allows.
    fn burst(&mut self, link: &mut Link) {
        let favourite = self.rng.random_range(0..self.plan.topics);
        for _ in 0..self.rng.random_range(BURST) {
            if self.outbox.len() >= self.window {
                return;
            }
            let other = self.rng.random_bool(0.3);
            let topic = if other { self.rng.random_range(0..self.plan.topics) } else { favourite };
            let stream = Stream { publisher: self.number, topic, qos: self.rng.random_range(1..=2) };
            let flight = self.outbox.compose(stream, std::time::Instant::now());
            publish(link, &self.plan, &flight, false);
            Tally::count(&self.tally.published);
        }
    }

    fn take(&mut self, link: &mut Link, packet: &Packet) -> Result<(), Lost> {
        match packet {
            Packet::PingResp => return Ok(()),
            Packet::Disconnect { code, .. } => return Err(Lost::Told(*code)),
            _ => {}
        }
        let answered = self.outbox.answered(packet, std::time::Instant::now()).map_err(Lost::Malformed)?;
        match answered {
            Answered::Acknowledged => Tally::count(&self.tally.acknowledged),
            Answered::Refused => Tally::count(&self.tally.refused),
            Answered::Completed => {}
            Answered::Received => {
                Tally::count(&self.tally.acknowledged);
                if let Packet::PubRec(ack) = packet {
                    wire::reply(link.output(), Reply::Release(ack.packet_id));
                }
            }
        }
        Ok(())
    }
}

fn publish(link: &mut Link, plan: &Plan, flight: &Flight, duplicate: bool) {
    let Flight { packet_id, stream, number, .. } = *flight;
    let topic = plan.topic(stream.publisher, stream.topic);
    let payload = payload(stream, number);
    let version = link.version();
    let message = Publish { qos: stream.qos, duplicate, retain: false, packet_id, topic, payload };
    wire::publish(link.output(), version, &message);
}
