//! A client with a persistent session that is always there, on whatever node will have it, and takes what comes.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::interval;

use crate::load::Scene;
use crate::mqtt::link::{KEEP_ALIVE, Link, Lost, TEND};
use crate::mqtt::wire::{self, Connect, NEVER, Packet, Publish, Reply, Version};

const INTRODUCTION: Duration = Duration::from_secs(30);

pub struct Listener {
    scene: Scene,
    connect: Connect,
    filter: &'static str,
    link: Link,
    /// QoS 2 messages that were taken and not yet released.
    held: BTreeSet<u16>,
    rng: SmallRng,
}

impl Listener {
    /// Begins the session and subscribes.
    ///
    /// # Errors
    /// It could not.
    pub async fn start(
        scene: &Scene,
        name: &str,
        filter: &'static str,
        qos: u8,
        mut rng: SmallRng,
    ) -> Result<Self, String> {
        let connect = Connect {
            version: Version::V5,
            client_id: name.to_owned(),
            clean: false,
            expiry: NEVER,
            keep_alive: KEEP_ALIVE,
            receive_maximum: 100,
            will: None,
        };
        let introduced = async {
            let mut link = dial(scene, &connect, &mut rng).await.0;
            wire::subscribe(link.output(), Version::V5, 1, filter, qos);
            link.flush().await?;
            match link.receive().await? {
                Packet::SubAck { codes } if codes == [qos] => Ok(link),
                other => Err(Lost::Malformed(format!("{other:?} instead of the SUBACK"))),
            }
        };
        let link = tokio::time::timeout(INTRODUCTION, introduced).await;
        let link =
            link.map_err(|_| format!("{name} could not subscribe"))?.map_err(|lost| format!("{name}: {lost:?}"))?;
        Ok(Self { scene: scene.clone(), connect, filter, link, held: BTreeSet::new(), rng })
    }

    /// Until told that it is over.
    pub async fn run(mut self, mut over: watch::Receiver<bool>, mut take: impl FnMut(&Publish)) {
        loop {
            let lost = tokio::select! {
                lost = self.serve(&mut take) => lost,
                _ = over.wait_for(|over| *over) => break,
            };
            if let Err(Lost::Malformed(what)) = lost {
                self.scene.recorder.finding(format!("{} received {what}", self.connect.client_id));
            }
            tokio::select! {
                (link, present) = dial(&self.scene, &self.connect, &mut self.rng) => {
                    self.link = link;
                    if !present {
                        self.scene.recorder.finding(format!("P8: the session of {} is gone", self.connect.client_id));
                        wire::subscribe(self.link.output(), Version::V5, 1, self.filter, 2);
                    }
                }
                _ = over.wait_for(|over| *over) => return,
            }
        }
        self.link.leave().await;
    }

    async fn serve(&mut self, take: &mut impl FnMut(&Publish)) -> Result<(), Lost> {
        let mut tend = interval(TEND);
        loop {
            self.link.flush().await?;
            tokio::select! {
                packet = self.link.receive() => self.answer(&packet?, take)?,
                _ = tend.tick() => self.link.tend().await?,
            }
        }
    }

    fn answer(&mut self, packet: &Packet, take: &mut impl FnMut(&Publish)) -> Result<(), Lost> {
        let reply = match packet {
            Packet::Publish(message) => {
                let again = message.qos == 2 && !self.held.insert(message.packet_id);
                if !again {
                    take(message);
                }
                match message.qos {
                    0 => return Ok(()),
                    1 => Reply::Ack(message.packet_id),
                    _ => Reply::Received(message.packet_id),
                }
            }
            Packet::PubRel(ack) => {
                self.held.remove(&ack.packet_id);
                Reply::Complete(ack.packet_id)
            }
            Packet::PingResp | Packet::SubAck { .. } => return Ok(()),
            Packet::Disconnect { code, .. } => return Err(Lost::Told(*code)),
            other => return Err(Lost::Malformed(format!("{other:?}, which a subscriber did not ask for"))),
        };
        wire::reply(self.link.output(), reply);
        Ok(())
    }
}

/// Tries random nodes until one says yes; tells whether the session was there.
async fn dial(scene: &Scene, connect: &Connect, rng: &mut SmallRng) -> (Link, bool) {
    loop {
        let node = scene.any_node(rng);
        if let Ok((stream, _)) = Link::dial(scene.ports[node]).await
            && let Ok((link, told)) = Link::open(stream, connect).await
        {
            return (link, told.session_present);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..250))).await;
    }
}
