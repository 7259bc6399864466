//! A client's way into the cluster, and one connection as the client sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::rngs::SmallRng;
use rollcall_chaos::durable::plan::Plan;
use rollcall_chaos::history::{Connection, End};
use rollcall_proto::message::Message;
use rollcall_proto::packet::QoS;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::broker::{Hello, Says, Told};
use super::node::Doors;
use super::record::Record;

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a connection that was taken over is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// Use another server.
const GO_AWAY: u8 = 0x9C;
/// Session taken over.
const TAKEN_OVER: u8 = 0x8E;

#[derive(Clone)]
pub(super) struct Scene {
    pub doors: Doors,
    pub nodes: usize,
    pub record: Record,
    pub plan: Plan,
    /// Receivers that have subscribed.
    pub subscribed: Arc<AtomicUsize>,
    /// Everything is published and acknowledged.
    pub published: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(super) struct Gone;

/// A client's connection, as the client sees it; written down when it is over.
pub(super) struct Visit {
    scene: Scene,
    says: Option<UnboundedSender<Says>>,
    told: UnboundedReceiver<Told>,
    messages: Vec<(String, Bytes, Option<u64>)>,
    pub present: bool,
    pub log: Connection,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.log.ended = if self.log.end == End::Vanished { self.scene.record.now() } else { self.log.ended };
        let log = self.log.clone();
        self.scene.record.add(|history| history.connections.push(log));
    }
}

pub(super) struct Wish {
    pub client_id: String,
    pub persistent: bool,
    pub will: Option<Message>,
}

impl Wish {
    pub(super) fn clean(client_id: String) -> Self {
        Wish { client_id, persistent: false, will: None }
    }

    pub(super) fn persistent(client_id: String) -> Self {
        Wish { persistent: true, ..Wish::clean(client_id) }
    }
}

impl Scene {
    pub(super) fn any_node(&self, rng: &mut SmallRng) -> usize {
        rng.random_range(0..self.nodes)
    }

    pub(super) async fn pause(&self, rng: &mut SmallRng, ms: std::ops::Range<u64>) {
        sleep(Duration::from_millis(rng.random_range(ms))).await;
    }

    pub(super) async fn open(&self, node: usize, wish: Wish, rng: &mut SmallRng) -> Result<Visit, Gone> {
        let ((says, hears), (tells, told)) = (unbounded_channel(), unbounded_channel());
        let peer = format!("{}@{:016x}", wish.client_id, rng.random::<u64>());
        let asked = self.record.now();
        let log = Connection {
            client_id: wish.client_id.clone(),
            peer: peer.clone(),
            node,
            five: true,
            asked,
            granted: None,
            alive: asked,
            ended: asked,
            end: End::Vanished,
            superseded: None,
            late: None,
            subscribed: Vec::new(),
        };
        let will = wish.will.map(Arc::new);
        let hello =
            Hello { client_id: wish.client_id, peer, persistent: wish.persistent, will, says: hears, told: tells };
        if !self.doors.enter(node, hello) {
            return Err(Gone);
        }
        let (scene, messages) = (self.clone(), Vec::new());
        let mut visit = Visit { scene, says: Some(says), told, messages, present: false, log };
        let answer = |told: &Told| match told {
            Told::Granted { present } => Some(Ok(*present)),
            Told::Refused => Some(Err(Gone)),
            _ => None,
        };
        visit.present = visit.answer(answer).await??;
        visit.log.granted = Some(self.record.now());
        Ok(visit)
    }
}

impl Visit {
    pub(super) fn say(&self, says: Says) -> Result<(), Gone> {
        self.says.as_ref().ok_or(Gone)?.send(says).map_err(|_| Gone)
    }

    pub(super) fn ended(&mut self, how: End) -> Gone {
        if self.log.end == End::Vanished {
            (self.log.end, self.log.ended) = (how, self.scene.record.now());
        }
        self.says = None;
        Gone
    }

    pub(super) async fn next(&mut self) -> Result<Told, Gone> {
        match self.told.recv().await {
            Some(Told::GoAway) => Err(self.ended(End::Told(GO_AWAY))),
            Some(Told::TakenOver) => Err(self.ended(End::Told(TAKEN_OVER))),
            Some(told) => Ok(told),
            None => Err(self.ended(End::Closed)),
        }
    }

    pub(super) async fn answer<T>(&mut self, wanted: impl Fn(&Told) -> Option<T>) -> Result<T, Gone> {
        let waiting = async {
            loop {
                match self.next().await? {
                    Told::Message { topic, payload, position } => self.messages.push((topic, payload, position)),
                    told => {
                        if let Some(found) = wanted(&told) {
                            return Ok(found);
                        }
                    }
                }
            }
        };
        timeout(ANSWER, waiting).await.unwrap_or(Err(Gone))
    }

    pub(super) async fn subscribe(&mut self, filter: &str, qos: QoS) -> Result<(), Gone> {
        let place = self.log.subscribed.len();
        self.log.subscribed.push((filter.into(), false));
        self.say(Says::Subscribe { filter: filter.into(), qos })?;
        let granted = self.answer(|told| if let Told::Subscribed(done) = told { Some(*done) } else { None }).await?;
        self.log.subscribed[place].1 = granted;
        granted.then_some(()).ok_or(Gone)
    }

    pub(super) async fn unsubscribe(&mut self, filter: &str) -> Result<(), Gone> {
        self.say(Says::Unsubscribe(filter.into()))?;
        let done = self.answer(|told| if let Told::Unsubscribed(done) = told { Some(*done) } else { None }).await?;
        done.then_some(()).ok_or(Gone)
    }

    pub(super) async fn publish(&mut self, topic: &str, payload: Bytes, retain: bool) -> Result<(), Gone> {
        self.say(Says::Publish { topic: topic.into(), payload, qos: QoS::AtLeastOnce, retain })?;
        self.answer(|told| matches!(told, Told::Published).then_some(())).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        let sent = self.scene.record.now();
        self.say(Says::Ping)?;
        self.answer(|told| matches!(told, Told::Pong).then_some(())).await?;
        self.log.alive = sent;
        Ok(())
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> Result<(String, Bytes, Option<u64>), Gone> {
        while self.messages.is_empty() {
            if let Told::Message { topic, payload, position } = self.next().await? {
                self.messages.push((topic, payload, position));
            }
        }
        Ok(self.messages.remove(0))
    }

    /// Whether it comes in time.
    pub(super) async fn comes(&mut self, wanted: &[u8], limit: Duration) -> Result<bool, Gone> {
        let waiting = async {
            loop {
                if self.message().await?.1 == wanted {
                    return Ok(());
                }
            }
        };
        timeout(limit, waiting).await.map_or(Ok(false), |came| came.map(|()| true))
    }

    /// Waits until the session is given back.
    pub(super) async fn leave(mut self) {
        if self.say(Says::Leave).is_ok() {
            (self.log.end, self.log.ended) = (End::Left, self.scene.record.now());
            drop(timeout(ANSWER, async { while self.told.recv().await.is_some() {} }).await);
        }
    }

    /// As one that another has taken the place of: tries to change the session, and waits for its end.
    pub(super) async fn superseded(mut self, at: Duration) {
        self.log.superseded = Some(at);
        if self.log.end != End::Vanished {
            return;
        }
        let sent = self.scene.record.now();
        let granted = self.subscribe("late", QoS::AtMostOnce).await.is_ok();
        self.log.subscribed.pop();
        self.log.late = Some((sent, granted));
        let ending = async { while self.next().await.is_ok() {} };
        if timeout(WATCHED, ending).await.is_err() {
            self.log.ended = self.scene.record.now();
            self.log.end = End::Left;
        }
    }
}
