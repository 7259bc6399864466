//! How a client with a persistent session gets a connection: from any node, again and again.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::durable::tally::Tally;
use crate::mqtt::link::{KEEP_ALIVE, Link, Lost};
use crate::mqtt::wire::{ConnAck, Connect, NEVER, Version};

/// Milliseconds before the next attempt.
const BACK_OFF_MS: std::ops::Range<u64> = 50..250;
/// What 5.0 clients announce: small enough that the broker meets the bound, large enough for the drain.
const RECEIVE_MAXIMUM: std::ops::Range<u16> = 8..64;

/// What the broker said of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    New,
    Resumed,
    /// There must be one, and there is not (P8).
    Lost,
}

pub struct Dialed {
    pub link: Link,
    pub session: Session,
    pub receive_maximum: u16,
}

pub struct Dialer {
    client_id: String,
    version: Version,
    /// How many QoS 1 and 2 messages the broker may have in flight to this client, if it speaks 5.0.
    receive_maximum: u16,
    ports: Arc<[u16]>,
    rng: SmallRng,
    tally: Arc<Tally>,
    /// A CONNACK has said yes: from then on the session exists, as it never expires and nobody ends it.
    known: bool,
}

impl Dialer {
    pub fn new(client_id: String, version: Version, ports: &Arc<[u16]>, tally: &Arc<Tally>, mut rng: SmallRng) -> Self {
        let receive_maximum = rng.random_range(RECEIVE_MAXIMUM);
        let (ports, tally) = (Arc::clone(ports), Arc::clone(tally));
        Self { client_id, version, receive_maximum, ports, rng, tally, known: false }
    }

    /// Tries random nodes until one says yes; who calls sets the bound.
    pub async fn dial(&mut self) -> Dialed {
        loop {
            let port = self.ports[self.rng.random_range(0..self.ports.len())];
            match self.open(port).await {
                Ok((link, told)) => {
                    Tally::count(&self.tally.connected);
                    let session = self.judge(told.session_present);
                    return Dialed { link, session, receive_maximum: told.receive_maximum };
                }
                Err(lost) => self.report(&lost),
            }
            let pause = self.rng.random_range(BACK_OFF_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Connects to the session, which is begun if there is none.
    async fn open(&self, port: u16) -> Result<(Link, ConnAck), Lost> {
        let (stream, _) = Link::dial(port).await?;
        let connect = Connect {
            version: self.version,
            client_id: self.client_id.clone(),
            clean: false,
            expiry: NEVER,
            keep_alive: KEEP_ALIVE,
            receive_maximum: self.receive_maximum,
            will: None,
        };
        Link::open(stream, &connect).await
    }

    /// A session may also be there unexpectedly: the CONNACK of an earlier attempt got lost.
    fn judge(&mut self, present: bool) -> Session {
        match (std::mem::replace(&mut self.known, true), present) {
            (_, true) => Session::Resumed,
            (false, false) => Session::New,
            (true, false) => {
                self.tally.broken(&format!("P8: the session of {} is gone", self.client_id));
                Session::Lost
            }
        }
    }

    /// The end of a connection is nothing unusual here, unless the broker sent nonsense.
    pub fn report(&self, lost: &Lost) {
        match lost {
            Lost::Gone(_) | Lost::Refused(_) | Lost::Told(_) => {}
            Lost::Malformed(what) => self.tally.broken(&format!("{} received {what}", self.client_id)),
        }
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_session_that_was_there_and_is_not_is_a_broken_promise() {
        let tally = Arc::default();
        let rng = SmallRng::seed_from_u64(1);
        let mut dialer = Dialer::new("a".into(), Version::V5, &Arc::from([1]), &tally, rng);
        assert_eq!(dialer.judge(false), Session::New);
        assert_eq!(dialer.judge(true), Session::Resumed);
        assert!(tally.verdict().is_ok());
        assert_eq!(dialer.judge(false), Session::Lost);
        assert!(tally.verdict().is_err());
    }
}
