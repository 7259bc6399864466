//! QoS 0 messages of 64 bytes in bursts: the next burst leaves when all of the last one has arrived everywhere, so that
//! nothing is dropped and every broker does the same work.

use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use rollcall_proto::packet::QoS;
use rollcall_tests::bench::{Broker, Figure};
use rollcall_tests::client::{Options, RawClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const TOPIC: &str = "bench/of/the/spine";
/// Bytes.
const PAYLOAD: usize = 64;
/// After so long without a byte a message counts as lost.
const LOST: Duration = Duration::from_secs(5);

pub struct Shape {
    pub name: &'static str,
    pub publishers: usize,
    pub subscribers: usize,
    /// Messages of each publisher on their way at once.
    pub burst: usize,
}

/// Cost per message delivered. Publishers and subscribers are spread over the nodes so that neighbours in the list are
/// on different ones.
pub async fn measure(broker: &Broker, shape: &Shape, time: Duration) -> Figure {
    let mut subscribers = Vec::new();
    for index in 0..shape.subscribers {
        let mut client = RawClient::connect(broker.node(index + 1), &Options::v311(format!("sub-{index}"))).await;
        client.subscribe(TOPIC, QoS::AtMostOnce).await;
        subscribers.push(client.into_stream());
    }
    let mut publishers = Vec::new();
    for index in 0..shape.publishers {
        publishers
            .push(RawClient::connect(broker.node(index), &Options::v311(format!("pub-{index}"))).await.into_stream());
    }
    let packet = publish();
    let burst = packet.repeat(shape.burst);
    let arriving = burst.len() * shape.publishers;
    // One for warmth.
    subscribers = one_burst(&mut publishers, &burst, subscribers, arriving).await;
    let (started, cpu) = (Instant::now(), broker.cpu());
    let mut delivered = 0;
    while started.elapsed() < time {
        subscribers = one_burst(&mut publishers, &burst, subscribers, arriving).await;
        delivered += shape.burst * shape.publishers * shape.subscribers;
    }
    let mut figure = Figure::default();
    figure.add(delivered, started.elapsed(), broker.cpu() - cpu);
    figure
}

async fn one_burst(
    publishers: &mut [TcpStream],
    burst: &[u8],
    subscribers: Vec<TcpStream>,
    arriving: usize,
) -> Vec<TcpStream> {
    let mut reading = JoinSet::new();
    for mut subscriber in subscribers {
        reading.spawn(async move {
            read_exactly(&mut subscriber, arriving).await;
            subscriber
        });
    }
    for publisher in publishers {
        publisher.write_all(burst).await.expect("the broker takes messages");
    }
    reading.join_all().await
}

async fn read_exactly(subscriber: &mut TcpStream, mut bytes: usize) {
    let mut buffer = [0; 16 * 1024];
    while bytes > 0 {
        let most = bytes.min(buffer.len());
        let read = timeout(LOST, subscriber.read(&mut buffer[..most])).await;
        match read {
            Ok(Ok(read)) if read > 0 => bytes -= read,
            Ok(other) => panic!("the broker closed a subscriber: {other:?}"),
            Err(_) => panic!("{bytes} bytes of messages never came"),
        }
    }
}

/// A QoS 0 PUBLISH as 3.1.1 has it, coming and going.
fn publish() -> BytesMut {
    let mut packet = BytesMut::new();
    packet.put_u8(0x30);
    packet.put_u8((2 + TOPIC.len() + PAYLOAD) as u8);
    packet.put_u16(TOPIC.len() as u16);
    packet.put_slice(TOPIC.as_bytes());
    packet.put_bytes(b'x', PAYLOAD);
    packet
}
