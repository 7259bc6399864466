//! A persistent session that comes back for its messages.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::packets;

/// After so long without a byte what has not come counts as lost.
const LOST: Duration = Duration::from_secs(30);

pub struct Subscriber {
    stream: TcpStream,
    arrived: BytesMut,
    /// The number that comes next.
    next: u64,
}

impl Subscriber {
    pub async fn resume(node: SocketAddr, session: &Options) -> Self {
        let (client, ack) = RawClient::try_connect(node, session).await.expect("a CONNACK");
        assert_eq!((ack.reason, ack.session_present), (ReasonCode::Success, true), "{}", session.client_id);
        let (stream, arrived) = client.into_parts();
        Self { stream, arrived, next: 0 }
    }

    /// Takes and acknowledges `count` more messages, in order; what comes again is acknowledged again.
    pub async fn take(&mut self, count: usize) {
        let until = self.next + count as u64;
        let mut acks = BytesMut::new();
        loop {
            while let Some((packet_id, number)) = packets::take_publish(&mut self.arrived) {
                assert!(number <= self.next, "{number} came before {}", self.next);
                self.next = self.next.max(number + 1);
                packets::put_puback(&mut acks, packet_id);
            }
            self.stream.write_all(&acks).await.expect("the broker takes acknowledgements");
            acks.clear();
            if self.next >= until {
                return;
            }
            match timeout(LOST, self.stream.read_buf(&mut self.arrived)).await {
                Ok(Ok(read)) if read > 0 => {}
                Ok(other) => panic!("the broker closed a subscriber: {other:?}"),
                Err(_) => panic!("{} messages never came", until - self.next),
            }
        }
    }
}
