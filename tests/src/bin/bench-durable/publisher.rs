//! One that publishes to one persistent session, and knows how far it is.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rollcall_tests::bench::Broker;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::latency::Latencies;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::packets::{self, topic};

/// After so long without a byte an acknowledgement counts as lost.
const LOST: Duration = Duration::from_secs(30);

pub struct Publisher {
    pub pair: usize,
    topic: String,
    stream: TcpStream,
    arrived: BytesMut,
    /// Messages sent so far, and the number of the next.
    sent: u64,
}

impl Publisher {
    pub async fn connect(broker: &Broker, pair: usize) -> Self {
        let client = RawClient::connect(broker.node(pair), &Options::v311(format!("publisher-{pair:02}"))).await;
        let (stream, arrived) = client.into_parts();
        Self { pair, topic: topic(pair), stream, arrived, sent: 0 }
    }

    /// How many it has published in all.
    pub fn published(&self) -> usize {
        self.sent as usize
    }

    /// Publishes `count` more, at most `in_flight` of them not yet acknowledged.
    pub async fn publish(&mut self, count: usize, in_flight: usize) {
        let (mut left, mut open) = (count, 0);
        let mut packets = BytesMut::new();
        while left > 0 || open > 0 {
            let now = left.min(in_flight - open);
            for _ in 0..now {
                // From 1 to 65,535 and around: far more than are open at once.
                let packet_id = (self.sent % u64::from(u16::MAX)) as u16 + 1;
                packets::put_publish(&mut packets, &self.topic, packet_id, self.sent);
                self.sent += 1;
            }
            self.stream.write_all(&packets).await.expect("the broker takes messages");
            packets.clear();
            (left, open) = (left - now, open + now);
            open -= self.acknowledged().await;
        }
    }

    pub async fn one_at_a_time(&mut self, count: usize, latencies: &mut Latencies) {
        for _ in 0..count {
            let started = Instant::now();
            self.publish(1, 1).await;
            latencies.add(started.elapsed());
        }
    }

    /// Waits for PUBACKs, and takes those that are there.
    async fn acknowledged(&mut self) -> usize {
        loop {
            let count = packets::take_pubacks(&mut self.arrived);
            if count > 0 {
                return count;
            }
            match timeout(LOST, self.stream.read_buf(&mut self.arrived)).await {
                Ok(Ok(read)) if read > 0 => {}
                Ok(other) => panic!("the broker closed a publisher: {other:?}"),
                Err(_) => panic!("no PUBACK within {LOST:?}"),
            }
        }
    }
}
