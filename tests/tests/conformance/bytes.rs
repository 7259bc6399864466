//! Packets as bytes, put together by hand, and connections read byte by byte: our own codec has no part in either.

use bytes::BytesMut;
use rollcall_proto::codec;
use rollcall_proto::packet::{Packet, Version};
use rollcall_tests::client::SOON;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::Broker;

/// A packet from its first byte and its parts; of less than 16 KiB.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    if body.len() < 128 {
        bytes.push(body.len() as u8);
    } else {
        bytes.extend([body.len() as u8 | 0x80, (body.len() >> 7) as u8]);
    }
    bytes.extend(body);
    bytes
}

/// A string, or binary data, with its length before it.
pub fn field(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

/// A CONNECT without keep alive and properties, and with these fields in its payload.
pub fn connect(level: u8, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let name: &[u8] = if level == 3 { b"MQIsdp" } else { b"MQTT" };
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x10, &[&field(name), &[level, flags, 0, 0], properties, &fields.concat()])
}

/// These packets, one behind the other.
pub fn encoded(packets: &[Packet], version: Version) -> BytesMut {
    let mut bytes = BytesMut::new();
    for packet in packets {
        codec::encode(packet, version, &mut bytes).expect("a packet that can be encoded");
    }
    bytes
}

/// A connection that is read and written as bytes.
pub struct Raw(TcpStream);

impl Raw {
    pub async fn open(broker: &Broker) -> Self {
        let stream = TcpStream::connect(broker.address()).await.expect("a TCP connection");
        stream.set_nodelay(true).expect("bytes leave one by one");
        Raw(stream)
    }

    pub async fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("bytes are sent");
    }

    /// The next bytes are these.
    pub async fn hears(&mut self, expected: &[u8]) {
        let heard = self.next(expected.len()).await;
        assert_eq!(heard, expected, "{heard:02X?} instead of {expected:02X?}");
    }

    /// One whole packet of less than 128 bytes behind its header.
    pub async fn hears_packet(&mut self) -> Vec<u8> {
        let mut bytes = self.next(2).await;
        assert!(bytes[1] < 128, "a packet longer than this test knows: {bytes:02X?}");
        let body = self.next(usize::from(bytes[1])).await;
        bytes.extend(body);
        bytes
    }

    /// So many packets, or those that come before the connection ends.
    pub async fn hears_up_to(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while packets.len() < count {
            let mut packet = vec![0; 2];
            let read = timeout(SOON, self.0.read_exact(&mut packet)).await.expect("bytes come in time");
            if read.is_err() {
                break;
            }
            assert!(packet[1] < 128, "a packet longer than this test knows: {packet:02X?}");
            let body = self.next(usize::from(packet[1])).await;
            packet.extend(body);
            packets.push(packet);
        }
        packets
    }

    /// Everything up to the end of the connection, cut into packets.
    pub async fn hears_all(mut self) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        // A connection that is reset behind its last byte has ended, too.
        let ended =
            timeout(SOON, async { while self.0.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {} }).await;
        ended.expect("the connection ends");
        let mut packets = Vec::new();
        while let [_, length, ..] = bytes[..] {
            assert!(length < 128, "a packet longer than this test knows: {bytes:02X?}");
            let rest = bytes.split_off(2 + usize::from(length));
            packets.push(std::mem::replace(&mut bytes, rest));
        }
        assert!(bytes.is_empty(), "a packet that was cut off: {bytes:02X?}");
        packets
    }

    /// The connection ends, and nothing comes before that.
    pub async fn ends(self) {
        let heard = self.hears_all().await;
        assert!(heard.is_empty(), "{heard:02X?} instead of the end");
    }

    async fn next(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(SOON, self.0.read_exact(&mut bytes)).await;
        read.expect("bytes come in time").expect("the connection stands");
        bytes
    }
}
