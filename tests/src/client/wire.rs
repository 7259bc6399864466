//! Packets over one TCP connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rollcall_proto::codec::{self, Decoder};
use rollcall_proto::packet::{Packet, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Received;

/// Bytes; larger than anything a test sends.
const MAX_PACKET: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    version: Version,
    decoder: Decoder,
    inbound: BytesMut,
}

impl Wire {
    pub async fn open(node: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        let decoder = Decoder::with_version(version, MAX_PACKET);
        Ok(Self { stream, version, decoder, inbound: BytesMut::new() })
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// The connection, and what has arrived on it behind the last packet.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.inbound)
    }

    pub async fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        codec::encode(packet, self.version, &mut bytes).map_err(io::Error::other)?;
        self.stream.write_all(&bytes).await
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next packet, within `limit` from now.
    pub async fn receive(&mut self, limit: Duration) -> Received {
        let deadline = Instant::now() + limit;
        loop {
            match self.decoder.decode(&mut self.inbound) {
                Ok(Some(packet)) => return Received::Packet(packet),
                Ok(None) => {}
                Err(error) => panic!("the broker sent what is no packet: {error}"),
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.inbound)).await {
                // A broker that closes while bytes from here are unread resets the connection.
                Ok(Ok(0) | Err(_)) => return Received::Closed,
                Ok(Ok(_)) => {}
                Err(_) => return Received::Silence,
            }
        }
    }
}
