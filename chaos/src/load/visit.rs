//! One connection of a client that is written down in the history, whatever becomes of it.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::history::{Action, At, Connection, End};
use crate::load::Scene;
use crate::mqtt::link::{KEEP_ALIVE, Link, Lost};
use crate::mqtt::wire::{self, Connect, Packet, Publish, Reply, Version};

/// How long an answer may take: longer than a leader's death and an election.
pub const ANSWER: Duration = Duration::from_secs(10);

const LAST_WORDS: Duration = Duration::from_millis(100);

/// A CONNECT for a session that ends with its connection.
pub fn clean(client_id: String, version: Version) -> Connect {
    Connect { version, client_id, clean: true, expiry: 0, keep_alive: KEEP_ALIVE, receive_maximum: 100, will: None }
}

pub struct Visit {
    link: Link,
    version: Version,
    scene: Scene,
    record: Connection,
    packet_id: u16,
    /// What has come and nobody has looked at yet.
    messages: Vec<Publish>,
    pub resumed: bool,
    /// The address that the client was told to go to.
    pub elsewhere: Option<String>,
    over: bool,
}

impl Visit {
    /// # Errors
    /// There is no connection; whether the cluster counted one is unknown, unless it was refused.
    pub async fn open(scene: &Scene, node: usize, connect: &Connect) -> Result<Self, Lost> {
        let asked = scene.recorder.now();
        let (stream, peer) = Link::dial(scene.ports[node]).await?;
        let record = Connection {
            client_id: connect.client_id.clone(),
            peer,
            node,
            five: connect.version == Version::V5,
            asked,
            granted: None,
            alive: asked,
            ended: asked,
            end: End::Closed,
            superseded: None,
            late: None,
            subscribed: Vec::new(),
        };
        let mut attempt = Attempt { scene, record: Some(record) };
        let opened = Link::open(stream, connect).await;
        scene.recorder.operation(Action::Connect, asked, opened.is_ok());
        let (link, told) = opened?;
        let now = scene.recorder.now();
        let mut record = attempt.record.take().ok_or_else(|| Lost::Gone("it was given up".into()))?;
        (record.granted, record.alive) = (Some(now), now);
        let (scene, messages, resumed) = (scene.clone(), Vec::new(), told.session_present);
        let (version, packet_id, elsewhere, over) = (connect.version, 0, None, false);
        Ok(Self { link, version, scene, record, packet_id, messages, resumed, elsewhere, over })
    }

    pub fn granted(&self) -> At {
        self.record.granted.unwrap_or_default()
    }

    pub fn ended(&self) -> At {
        self.record.ended
    }

    pub fn peer(&self) -> &str {
        &self.record.peer
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id % u16::MAX + 1;
        self.packet_id
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), Lost> {
        let (id, begun) = (self.next_id(), self.scene.recorder.now());
        wire::subscribe(self.link.output(), self.version, id, filter, qos);
        let place = self.record.subscribed.len();
        self.record.subscribed.push((filter.to_owned(), false));
        let answered = self.answer(|packet| match packet {
            Packet::SubAck { codes } => Some(codes.iter().all(|code| *code < wire::FAILURE)),
            _ => None,
        });
        let answered = answered.await;
        self.scene.recorder.operation(Action::Subscribe, begun, answered == Ok(true));
        self.record.subscribed[place].1 = answered == Ok(true);
        if answered? { Ok(()) } else { Err(Lost::Gone("the subscription was refused".into())) }
    }

    /// At QoS 1.
    pub async fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> Result<(), Lost> {
        let (packet_id, begun) = (self.next_id(), self.scene.recorder.now());
        let (topic, payload) = (topic.to_owned(), payload.as_bytes().to_vec());
        let message = Publish { qos: 1, duplicate: false, retain, packet_id, topic, payload };
        wire::publish(self.link.output(), self.version, &message);
        let answered = self.answer(|packet| match packet {
            Packet::PubAck(ack) if ack.packet_id == packet_id => Some(ack.code < wire::FAILURE),
            _ => None,
        });
        let answered = answered.await;
        let action = if retain { Action::Retain } else { Action::Publish };
        self.scene.recorder.operation(action, begun, answered == Ok(true));
        if answered? { Ok(()) } else { Err(Lost::Gone("the publish was refused".into())) }
    }

    /// Asks whether the connection is still there.
    pub async fn ping(&mut self) -> Result<(), Lost> {
        let sent = self.scene.recorder.now();
        wire::ping(self.link.output());
        self.answer(|packet| (*packet == Packet::PingResp).then_some(())).await?;
        self.record.alive = sent;
        Ok(())
    }

    /// Goes on for so long, taking what comes.
    pub async fn stay(&mut self, time: Duration) -> Result<(), Lost> {
        self.wait_for(time, |_| None::<()>).await.map(drop)
    }

    /// As [`Visit::stay`], but no longer than until the next storm, or until the work is over.
    pub async fn stay_until_storm(&mut self, time: Duration) -> Result<(), Lost> {
        let (mut storm, mut over) = (self.scene.storm.clone(), self.scene.over.clone());
        storm.mark_unchanged();
        tokio::select! {
            stayed = self.stay(time) => stayed,
            _ = storm.changed() => Ok(()),
            _ = over.wait_for(|over| *over) => Ok(()),
        }
    }

    /// Waits for a message; `None` if none came in time.
    pub async fn message(&mut self, limit: Duration, wanted: impl Fn(&Publish) -> bool) -> Result<Option<()>, Lost> {
        if self.messages.drain(..).any(|message| wanted(&message)) {
            return Ok(Some(()));
        }
        let found = self.wait_for(limit, |packet| match packet {
            Packet::Publish(message) if wanted(message) => Some(()),
            _ => None,
        });
        found.await
    }

    /// Waits for the end that the broker makes of it, having said that a newer connection has its CONNACK.
    pub async fn superseded(mut self, at: At, limit: Duration) {
        self.record.superseded = Some(at);
        let id = self.next_id();
        let filter = format!("late/{}", self.record.client_id);
        let sent = self.scene.recorder.now();
        wire::subscribe(self.link.output(), self.version, id, &filter, 0);
        self.record.late = Some((sent, false));
        if self.flush().await.is_err() {
            return;
        }
        let granted = self.wait_for(limit, |packet| match packet {
            Packet::SubAck { codes } => Some(codes.iter().all(|code| *code < wire::FAILURE)),
            _ => None,
        });
        if granted.await == Ok(Some(true)) {
            self.record.late = Some((sent, true));
        }
        // The end of it is written down, not handled.
        let _ = self.stay(limit).await;
    }

    /// DISCONNECT, and waits until the broker has closed: closing first could overtake it.
    pub async fn leave(mut self) -> At {
        wire::disconnect(self.link.output());
        self.go().await
    }

    /// DISCONNECT with the wish to have the will published.
    pub async fn leave_with_will(mut self) -> At {
        wire::disconnect_with_will(self.link.output());
        self.go().await
    }

    async fn go(mut self) -> At {
        if self.flush().await.is_ok() {
            self.end(End::Left);
            // Nothing that still comes matters.
            let _ = timeout(ANSWER, async { while self.link.receive().await.is_ok() {} }).await;
        }
        self.record.ended
    }

    /// Closes the socket without a word.
    pub fn vanish(mut self) -> At {
        self.end(End::Vanished);
        self.record.ended
    }

    async fn answer<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> Result<T, Lost> {
        self.flush().await?;
        self.wait_for(ANSWER, wanted).await?.ok_or_else(|| Lost::Gone(format!("no answer within {ANSWER:?}")))
    }

    async fn wait_for<T>(&mut self, limit: Duration, wanted: impl Fn(&Packet) -> Option<T>) -> Result<Option<T>, Lost> {
        let started = Instant::now();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            let packet = match timeout(left, self.link.receive()).await {
                Err(_) => return Ok(None),
                Ok(Ok(packet)) => packet,
                Ok(Err(lost)) => return Err(self.lost(lost)),
            };
            if let Some(found) = wanted(&packet) {
                self.acknowledge(&packet).await?;
                return Ok(Some(found));
            }
            self.acknowledge(&packet).await?;
            match packet {
                Packet::Disconnect { code, elsewhere } => {
                    self.elsewhere = elsewhere;
                    return Err(self.lost(Lost::Told(code)));
                }
                Packet::Publish(message) => self.messages.push(message),
                _ => {}
            }
        }
    }

    async fn acknowledge(&mut self, packet: &Packet) -> Result<(), Lost> {
        match packet {
            Packet::Publish(message) if message.qos == 1 => {
                wire::reply(self.link.output(), Reply::Ack(message.packet_id));
                self.flush().await
            }
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        let Err(lost) = self.link.flush().await else { return Ok(()) };
        // Why the broker has closed may be here already.
        while let Ok(Ok(packet)) = timeout(LAST_WORDS, self.link.receive()).await {
            if let Packet::Disconnect { code, elsewhere } = packet {
                self.elsewhere = elsewhere;
                return Err(self.lost(Lost::Told(code)));
            }
        }
        Err(self.lost(lost))
    }

    fn lost(&mut self, lost: Lost) -> Lost {
        match &lost {
            Lost::Told(code) => self.end(End::Told(*code)),
            Lost::Gone(_) | Lost::Refused(_) => self.end(End::Closed),
            Lost::Malformed(what) => {
                self.scene.recorder.finding(format!("{} received {what}", self.record.client_id));
                self.end(End::Closed);
            }
        }
        lost
    }

    fn end(&mut self, end: End) {
        if !self.over {
            self.over = true;
            self.record.end = end;
            self.record.ended = self.scene.recorder.now();
        }
    }
}

/// A CONNECT that was sent is written down even if nobody waits for the answer any more.
struct Attempt<'a> {
    scene: &'a Scene,
    record: Option<Connection>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.ended = self.scene.recorder.now();
            self.scene.recorder.add(|history| history.connections.push(record));
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.end(End::Vanished);
        let record = self.record.clone();
        self.scene.recorder.add(|history| history.connections.push(record));
    }
}
