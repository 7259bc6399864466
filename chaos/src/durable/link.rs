//! One connection: a socket, and the packets on it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::durable::wire::{self, ConnAck, Packet, Version};

/// CONNACK may take as long as a leader's death and an election; a write, as long as a broker that does not read.
const ANSWER: Duration = Duration::from_secs(10);
const KEEP_ALIVE: u16 = 60;
/// How often [`Link::tend`] is to be called.
pub const TEND: Duration = Duration::from_secs(10);
const READ: usize = 4096;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Closed, refused or silent, as happens when a node dies.
    Gone(String),
    /// It sent what no broker may send.
    Malformed(String),
}

impl From<std::io::Error> for Lost {
    fn from(error: std::io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

pub struct Link {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
    output: Vec<u8>,
    heard: Instant,
    pinged: bool,
}

impl Link {
    /// Connects to the session of that client id, which is begun if there is none, and waits for the CONNACK.
    pub async fn open(port: u16, version: Version, id: &str, receive_maximum: u16) -> Result<(Self, ConnAck), Lost> {
        let opened = async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let (input, output) = (Vec::new(), Vec::new());
            let mut link = Self { stream, version, input, output, heard: Instant::now(), pinged: false };
            wire::connect(&mut link.output, version, id, KEEP_ALIVE, receive_maximum);
            link.flush().await?;
            match link.receive().await? {
                Packet::ConnAck(told) if told.code == 0 => Ok((link, told)),
                Packet::ConnAck(told) => Err(Lost::Gone(format!("CONNACK {:#04x}", told.code))),
                other => Err(Lost::Malformed(format!("{other:?} before the CONNACK"))),
            }
        };
        timeout(ANSWER, opened).await.unwrap_or_else(|_| Err(Lost::Gone(format!("no CONNACK within {ANSWER:?}"))))
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Where to write packets that the next [`Link::flush`] sends.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub async fn flush(&mut self) -> Result<(), Lost> {
        if !self.output.is_empty() {
            let written = timeout(ANSWER, self.stream.write_all(&self.output)).await;
            written.map_err(|_| Lost::Gone(format!("the broker reads nothing for {ANSWER:?}")))??;
            self.output.clear();
        }
        Ok(())
    }

    /// The next packet. Dropping the wait loses nothing.
    pub async fn receive(&mut self) -> Result<Packet, Lost> {
        loop {
            if let Some(packet) = self.arrived()? {
                return Ok(packet);
            }
            self.input.reserve(READ);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(Lost::Gone("closed".into()));
            }
            self.heard = Instant::now();
            self.pinged = false;
        }
    }

    /// The next packet, if it is here already.
    pub fn arrived(&mut self) -> Result<Option<Packet>, Lost> {
        match wire::take(self.version, &self.input).map_err(Lost::Malformed)? {
            None => Ok(None),
            Some((packet, used)) => {
                self.input.drain(..used);
                Ok(Some(packet))
            }
        }
    }

    /// Pings when nothing has come for a while, and gives up when nothing has come since.
    pub async fn tend(&mut self) -> Result<(), Lost> {
        if self.heard.elapsed() < TEND {
            return Ok(());
        }
        if self.pinged {
            return Err(Lost::Gone(format!("no PINGRESP within {TEND:?}")));
        }
        self.pinged = true;
        wire::ping(&mut self.output);
        self.flush().await
    }

    /// Says DISCONNECT; dropping a link without it is how clients vanish.
    pub async fn leave(mut self) {
        wire::disconnect(&mut self.output);
        // If it does not get through, the connection just ends.
        let _ = self.flush().await;
    }
}
