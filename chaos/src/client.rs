//! One connection by `rumqttc`, which never connects again by itself here.

use std::time::{Duration, Instant};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAck, PubAckReason, SubAck, SubscribeReasonCode, UnsubAck, UnsubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::time::timeout;

/// How long CONNACK, SUBACK and PUBACK may take: longer than a leader's death and an election.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The connection is gone, or was refused.
    Connection(String),
    /// It is there, but nothing came.
    Silence,
}

fn done(granted: bool, otherwise: &str) -> Result<(), Lost> {
    if granted { Ok(()) } else { Err(Lost::Connection(otherwise.into())) }
}

pub struct Client {
    requests: AsyncClient,
    connection: EventLoop,
}

impl Client {
    /// Connects with a clean session.
    ///
    /// # Errors
    /// [`Lost`]; whether the cluster counted the connection is then unknown.
    pub async fn connect(client_id: &str, port: u16) -> Result<Self, Lost> {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
        options.set_clean_start(true).set_keep_alive(Duration::from_secs(30)).set_connection_timeout(ANSWER.as_secs());
        let (requests, connection) = AsyncClient::new(options, 16);
        let mut client = Self { requests, connection };
        client.wait_for(ANSWER, |packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await?;
        Ok(client)
    }

    pub async fn subscribe(&mut self, filter: &str) -> Result<(), Lost> {
        let asked = self.requests.subscribe(filter, QoS::AtLeastOnce).await;
        asked.map_err(|error| Lost::Connection(error.to_string()))?;
        let granted =
            |ack: &SubAck| ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_)));
        let answered = self.wait_for(ANSWER, |packet| match packet {
            Packet::SubAck(ack) => Some(granted(ack)),
            _ => None,
        });
        done(answered.await?, "the subscription was refused")
    }

    pub async fn unsubscribe(&mut self, filter: &str) -> Result<(), Lost> {
        let asked = self.requests.unsubscribe(filter).await;
        asked.map_err(|error| Lost::Connection(error.to_string()))?;
        let done_with = |ack: &UnsubAck| ack.reasons.iter().all(|reason| *reason == UnsubAckReason::Success);
        let answered = self.wait_for(ANSWER, |packet| match packet {
            Packet::UnsubAck(ack) => Some(done_with(ack)),
            _ => None,
        });
        done(answered.await?, "the unsubscription was refused")
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub async fn publish(&mut self, topic: &str, payload: &str) -> Result<(), Lost> {
        let asked = self.requests.publish(topic, QoS::AtLeastOnce, false, payload.as_bytes().to_vec()).await;
        asked.map_err(|error| Lost::Connection(error.to_string()))?;
        let taken = |ack: &PubAck| matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
        let answered = self.wait_for(ANSWER, |packet| match packet {
            Packet::PubAck(ack) => Some(taken(ack)),
            _ => None,
        });
        done(answered.await?, "the publish was refused")
    }

    /// Waits for the message with this payload.
    pub async fn message(&mut self, payload: &str, limit: Duration) -> Result<(), Lost> {
        let wanted = |packet: &Packet| match packet {
            Packet::Publish(message) if message.payload == payload.as_bytes() => Some(()),
            _ => None,
        };
        self.wait_for(limit, wanted).await
    }

    /// Sends DISCONNECT; dropping a client without it closes the socket abruptly.
    pub async fn leave(mut self) {
        if self.requests.disconnect().await.is_ok() {
            // It ends when the broker has closed the connection.
            let _ = self.wait_for::<()>(ANSWER, |_| None).await;
        }
    }

    async fn wait_for<T>(&mut self, limit: Duration, wanted: impl Fn(&Packet) -> Option<T>) -> Result<T, Lost> {
        let started = Instant::now();
        loop {
            match timeout(limit.saturating_sub(started.elapsed()), self.connection.poll()).await {
                Err(_) => return Err(Lost::Silence),
                Ok(Err(error)) => return Err(Lost::Connection(error.to_string())),
                Ok(Ok(Event::Incoming(Packet::Disconnect(goodbye)))) => {
                    return Err(Lost::Connection(format!("{:?}", goodbye.reason_code)));
                }
                Ok(Ok(Event::Incoming(packet))) => {
                    if let Some(found) = wanted(&packet) {
                        return Ok(found);
                    }
                }
                Ok(Ok(Event::Outgoing(_))) => {}
            }
        }
    }
}
