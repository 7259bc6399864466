//! One connection: a socket, and the packets on it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mqtt::wire::{self, ConnAck, Connect, Packet, Version};

/// CONNACK may take as long as a leader's death and an election; a write, as long as a broker that does not read.
const ANSWER: Duration = Duration::from_secs(10);
/// Seconds.
pub const KEEP_ALIVE: u16 = 60;
/// How often [`Link::tend`] is to be called.
pub const TEND: Duration = Duration::from_secs(10);
const READ: usize = 4096;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Closed or silent, as happens when a node dies.
    Gone(String),
    /// By a CONNACK with this code.
    Refused(u8),
    /// The broker has closed it with a DISCONNECT of this code.
    Told(u8),
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
    /// A TCP connection, with nothing sent on it yet; its local address names it in the broker's events.
    pub async fn dial(port: u16) -> Result<(TcpStream, String), Lost> {
        let dialed = async {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?.to_string();
            Ok((stream, local))
        };
        timeout(ANSWER, dialed).await.unwrap_or_else(|_| Err(Lost::Gone("no TCP connection".into())))
    }

    /// Sends the CONNECT and waits for the CONNACK.
    ///
    /// # Errors
    /// Also when the CONNACK refuses, with [`Lost::Refused`].
    pub async fn open(stream: TcpStream, connect: &Connect) -> Result<(Self, ConnAck), Lost> {
        let opened = async {
            let (input, output) = (Vec::new(), Vec::new());
            let version = connect.version;
            let mut link = Self { stream, version, input, output, heard: Instant::now(), pinged: false };
            wire::connect(&mut link.output, connect);
            link.flush().await?;
            match link.receive().await? {
                Packet::ConnAck(told) if told.code == 0 => Ok((link, told)),
                Packet::ConnAck(told) => Err(Lost::Refused(told.code)),
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
