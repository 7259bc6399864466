//! All clients of one durable run, from their introduction to what they have to tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::durable::Phase;
use crate::durable::check::{Judgement, Received, Sent};
use crate::durable::dial::Dialer;
use crate::durable::inbox::Inbox;
use crate::durable::outbox::Outbox;
use crate::durable::plan::Plan;
use crate::durable::publisher::{FINISH, Publisher};
use crate::durable::subscriber::Subscriber;
use crate::durable::tally::Tally;
use crate::mqtt::wire::Version;

/// Until every subscriber has its SUBACK.
const INTRODUCTION: Duration = Duration::from_secs(60);
/// How long nothing new has come before what is missing counts as lost, at least.
const STALLED: Duration = Duration::from_secs(30);
/// For the whole drain, or as long as the faults lasted if that is longer.
const DRAIN: Duration = Duration::from_secs(120);
/// How long nothing has come at all before the run is over: a late duplicate is still seen.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(500);

/// What the clients have to tell in the end.
pub struct History {
    pub judgement: Judgement,
    /// What the times of acknowledgements count from.
    pub started: Instant,
    pub sent: Sent,
    /// Of each subscriber.
    pub received: Vec<Received>,
    /// When each acknowledgement came, and how long it had taken.
    pub answers: Vec<(Instant, Duration)>,
    /// Without an answer, or refused: not owed.
    pub unacknowledged: u64,
    /// Still without an answer, or without PUBCOMP, when the wait was over.
    pub open: usize,
    pub longest: Duration,
    pub drained: Duration,
}

impl History {
    /// # Errors
    /// A publisher waited in vain although all nodes were there.
    pub fn complete(&self) -> Result<(), String> {
        match self.open {
            0 => Ok(()),
            open => Err(format!("{FINISH:?} after the last fault {open} messages are without their last answer")),
        }
    }
}

pub struct Crew {
    plan: Arc<Plan>,
    ports: Arc<[u16]>,
    tally: Arc<Tally>,
    phase: watch::Sender<Phase>,
    started: Instant,
    inboxes: Vec<Arc<Mutex<Inbox>>>,
    subscribers: Vec<Subscriber>,
    subscribing: JoinSet<()>,
    publishing: JoinSet<Outbox>,
}

impl Crew {
    pub fn new(plan: &Arc<Plan>, ports: &Arc<[u16]>, tally: &Arc<Tally>, rng: &mut SmallRng) -> Self {
        let (phase, _) = watch::channel(Phase::Work);
        let inboxes: Vec<Arc<Mutex<Inbox>>> = (0..plan.subscribers).map(|_| Arc::default()).collect();
        let subscriber = |(number, inbox): (usize, &Arc<Mutex<Inbox>>)| {
            let (client_id, version) = (format!("{}-subscriber-{number}", plan.root), plan.version(number));
            Subscriber {
                number,
                plan: Arc::clone(plan),
                dialer: Dialer::new(client_id, version, ports, tally, SmallRng::from_rng(rng)),
                inbox: Arc::clone(inbox),
                phase: phase.subscribe(),
                tally: Arc::clone(tally),
                rng: SmallRng::from_rng(rng),
                link: None,
            }
        };
        let subscribers = inboxes.iter().enumerate().map(subscriber).collect();
        Self {
            plan: Arc::clone(plan),
            ports: Arc::clone(ports),
            tally: Arc::clone(tally),
            phase,
            started: Instant::now(),
            inboxes,
            subscribers,
            subscribing: JoinSet::new(),
            publishing: JoinSet::new(),
        }
    }

    /// Every subscriber begins its session and subscribes.
    ///
    /// # Errors
    /// One could not.
    pub async fn introduce(&mut self) -> Result<(), String> {
        let mut introducing = JoinSet::new();
        for mut subscriber in self.subscribers.drain(..) {
            introducing.spawn(async move { subscriber.introduce().await.map(|()| subscriber) });
        }
        let all = async {
            while let Some(introduced) = introducing.join_next().await {
                self.subscribers.push(introduced.map_err(|error| error.to_string())??);
            }
            Ok(())
        };
        let late = |_| Err(format!("not all subscribers have their SUBACK within {INTRODUCTION:?}"));
        tokio::time::timeout(INTRODUCTION, all).await.unwrap_or_else(late)
    }

    /// Lets subscribers come and go, and publishers publish.
    pub fn start(&mut self, rate: f64, window: usize, rng: &mut SmallRng) {
        self.started = Instant::now();
        for subscriber in self.subscribers.drain(..) {
            self.subscribing.spawn(subscriber.run());
        }
        for number in 0..self.plan.publishers {
            let client_id = format!("{}-publisher-{number}", self.plan.root);
            let version = if number.is_multiple_of(2) { Version::V5 } else { Version::V311 };
            let publisher = Publisher {
                number,
                plan: Arc::clone(&self.plan),
                dialer: Dialer::new(client_id, version, &self.ports, &self.tally, SmallRng::from_rng(rng)),
                outbox: Outbox::new(self.started),
                phase: self.phase.subscribe(),
                tally: Arc::clone(&self.tally),
                rng: SmallRng::from_rng(rng),
                rate: rate / f64::from(self.plan.publishers),
                window,
            };
            self.publishing.spawn(publisher.run());
        }
    }

    /// The faults are over: waits for the last acknowledgements, then for all that is owed.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn finish(mut self) -> Result<History, String> {
        let worked = self.started.elapsed();
        self.phase.send_replace(Phase::Finish);
        let mut sent = Sent::default();
        let (mut open, mut longest, mut answers) = (0, Duration::ZERO, Vec::new());
        while let Some(outbox) = self.publishing.join_next().await {
            let outbox = outbox.map_err(|error| error.to_string())?;
            open += outbox.len();
            longest = longest.max(outbox.longest);
            sent.0.extend(outbox.sent.0);
            answers.extend(outbox.answers);
        }
        eprintln!("chaos: all publishers are done, all subscribers come");
        self.phase.send_replace(Phase::Drain);
        let drained = self.drain(&sent, worked.max(DRAIN)).await;
        self.phase.send_replace(Phase::Over);
        while let Some(left) = self.subscribing.join_next().await {
            left.map_err(|error| error.to_string())?;
        }
        let judgement = self.judge(&sent);
        let published: usize = sent.0.values().map(Vec::len).sum();
        let unacknowledged = published as u64 - judgement.acknowledged;
        let received = self.inboxes.iter().map(|inbox| std::mem::take(&mut inbox.lock().received)).collect();
        let started = self.started;
        Ok(History { judgement, started, sent, received, answers, unacknowledged, open, longest, drained })
    }

    /// Waits until nothing is owed any more, or nothing new has come for too long; then until nothing comes at all.
    /// Returns how long it took until nothing new came.
    async fn drain(&self, sent: &Sent, limit: Duration) -> Duration {
        let started = Instant::now();
        let (mut missing, mut delivered) = (u64::MAX, 0);
        let (mut progress, mut arrival) = (started, started);
        loop {
            let now = Instant::now();
            let seen = self.judge(sent);
            if seen.lost.count < missing {
                (missing, progress) = (seen.lost.count, now);
            }
            if seen.delivered > delivered {
                (delivered, arrival) = (seen.delivered, now);
            }
            let owed_nothing = missing == 0 && arrival.elapsed() > QUIET;
            if owed_nothing || progress.elapsed() > STALLED || started.elapsed() > limit {
                return progress - started;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn judge(&self, sent: &Sent) -> Judgement {
        let guards: Vec<_> = self.inboxes.iter().map(|inbox| inbox.lock()).collect();
        Judgement::of(&self.plan, sent, guards.iter().map(|inbox| &inbox.received))
    }
}
