//! One subscriber with a persistent session: connects again whenever its connection ends, records what comes, answers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep_until};

use crate::durable::Phase;
use crate::durable::dial::{Dialer, Session};
use crate::durable::inbox::Inbox;
use crate::durable::plan::{Plan, Presence};
use crate::durable::tally::Tally;
use crate::mqtt::link::{Link, Lost, TEND};
use crate::mqtt::wire::{self, Packet, Reply};

/// Milliseconds that a subscriber that is there keeps one connection.
const STAY_MS: std::ops::Range<u64> = 1_000..25_000;
/// Milliseconds that a visitor stays, and stays away.
const VISIT_MS: std::ops::Range<u64> = 100..3_000;
const AWAY_MS: std::ops::Range<u64> = 1_000..12_000;
/// How long a connection that is due waits for a last message, to break right behind it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(1 << 30);

pub struct Subscriber {
    pub number: usize,
    pub plan: Arc<Plan>,
    pub dialer: Dialer,
    /// Shared with who judges.
    pub inbox: Arc<Mutex<Inbox>>,
    pub phase: watch::Receiver<Phase>,
    pub tally: Arc<Tally>,
    pub rng: SmallRng,
    /// Open from its introduction on, if it is to be there.
    pub link: Option<Link>,
}

impl Subscriber {
    /// Begins the session: connects, subscribes, and leaves again unless it is to be there.
    ///
    /// # Errors
    /// The subscription was refused, or granted at a lower QoS.
    pub async fn introduce(&mut self) -> Result<(), String> {
        loop {
            let mut link = self.connect().await;
            match self.subscribe(&mut link).await {
                Ok(codes) if codes == [2] => {
                    match self.plan.presence(self.number) {
                        Presence::Always => self.link = Some(link),
                        Presence::Never | Presence::Visits => link.leave().await,
                    }
                    return Ok(());
                }
                Ok(codes) => return Err(format!("{} was granted {codes:02x?}", self.dialer.client_id())),
                Err(lost) => self.dialer.report(&lost),
            }
        }
    }

    /// Waits for the SUBACK, before which messages may come.
    async fn subscribe(&mut self, link: &mut Link) -> Result<Vec<u8>, Lost> {
        let (version, filter) = (link.version(), self.plan.filter_text(self.number));
        wire::subscribe(link.output(), version, 1, &filter, 2);
        loop {
            link.flush().await?;
            match link.receive().await? {
                Packet::SubAck { codes } => return Ok(codes),
                other => self.take(link, &other)?,
            }
        }
    }

    async fn connect(&mut self) -> Link {
        loop {
            let mut dialed = self.dialer.dial().await;
            if dialed.session != Session::Lost {
                return dialed.link;
            }
            self.inbox.lock().session_lost();
            match self.subscribe(&mut dialed.link).await {
                Ok(_) => return dialed.link,
                Err(lost) => self.dialer.report(&lost),
            }
        }
    }

    /// Comes and goes until the run is over.
    pub async fn run(mut self) {
        let presence = self.plan.presence(self.number);
        loop {
            let phase = *self.phase.borrow_and_update();
            let (stay, away) = match (phase, presence) {
                (Phase::Over, _) => break,
                (Phase::Drain, _) => (None, None),
                (Phase::Work | Phase::Finish, Presence::Always) => (Some(self.milliseconds(STAY_MS)), None),
                (Phase::Work | Phase::Finish, Presence::Visits) => {
                    (Some(self.milliseconds(VISIT_MS)), Some(self.milliseconds(AWAY_MS)))
                }
                (Phase::Work | Phase::Finish, Presence::Never) => {
                    self.wait(FOREVER).await;
                    continue;
                }
            };
            if let Err(lost) = self.visit(stay.unwrap_or(FOREVER)).await {
                self.dialer.report(&lost);
            }
            let same_phase = *self.phase.borrow() == phase;
            if let Some(away) = away.filter(|_| same_phase) {
                self.wait(away).await;
            }
        }
        if let Some(link) = self.link.take() {
            link.leave().await;
        }
    }

    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// Until the phase changes, at most so long.
    async fn wait(&mut self, limit: Duration) {
        // Either end of the wait is fine; the sender outlives all subscribers.
        let _ = tokio::time::timeout(limit, self.phase.changed()).await;
    }

    /// One connection, from its CONNACK to its end, or until the phase changes: then it stays open for the next.
    async fn visit(&mut self, stay: Duration) -> Result<(), Lost> {
        let mut over = self.phase.clone();
        let link = match self.link.take() {
            Some(link) => link,
            None => tokio::select! {
                link = self.connect() => link,
                _ = over.wait_for(|phase| *phase == Phase::Over) => return Ok(()),
            },
        };
        self.serve(link, stay).await
    }

    async fn serve(&mut self, mut link: Link, stay: Duration) -> Result<(), Lost> {
        let due = Instant::now() + stay;
        let mut tend = interval(TEND);
        loop {
            tokio::select! {
                packet = link.receive() => {
                    let mut next = Some(packet?);
                    while let Some(packet) = next {
                        self.take(&mut link, &packet)?;
                        next = link.arrived()?;
                    }
                    if Instant::now() > due {
                        // It vanishes between recording and answering, where a delivery is most in doubt.
                        return Ok(());
                    }
                    link.flush().await?;
                }
                _ = tend.tick() => link.tend().await?,
                () = sleep_until(due + PATIENCE) => {
                    link.leave().await;
                    return Ok(());
                }
                _ = self.phase.changed() => {
                    self.link = Some(link);
                    return Ok(());
                }
            }
        }
    }

    /// Records what came and writes the answer, which the next flush sends.
    fn take(&mut self, link: &mut Link, packet: &Packet) -> Result<(), Lost> {
        let answer = match packet {
            Packet::Publish(publish) => {
                Tally::count(&self.tally.delivered);
                let recorded = self.inbox.lock().publish(&self.plan, publish);
                match (recorded, publish.qos) {
                    (Ok(answer), _) => answer,
                    (Err(wrong), qos) => {
                        self.tally.broken(&format!("{} received {wrong}", self.dialer.client_id()));
                        match qos {
                            0 => return Ok(()),
                            1 => Reply::Ack(publish.packet_id),
                            _ => Reply::Received(publish.packet_id),
                        }
                    }
                }
            }
            Packet::PubRel(ack) => self.inbox.lock().release(ack.packet_id),
            Packet::PingResp => return Ok(()),
            Packet::Disconnect { code, .. } => return Err(Lost::Told(*code)),
            other => return Err(Lost::Malformed(format!("{other:?}, which a subscriber did not ask for"))),
        };
        wire::reply(link.output(), answer);
        Ok(())
    }
}
