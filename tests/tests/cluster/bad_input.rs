//! A malformed packet closes its own connection with the right code, and nothing else.

use std::time::Duration;

use rollcall_proto::packet::{Packet, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, Received};
use rollcall_tests::cluster::TestCluster;

const CLOSED: Duration = Duration::from_secs(5);

/// What a connected client sends, and what a 5.0 client is told in the DISCONNECT before it is closed.
const AFTER_CONNECT: &[(&str, &[u8], &[ReasonCode])] = &[
    ("packet type 0", &[0x00, 0x00], &[ReasonCode::MalformedPacket]),
    ("reserved flags of PINGREQ", &[0xC1, 0x00], &[ReasonCode::MalformedPacket]),
    ("reserved flags of SUBSCRIBE", &[0x80, 0x07, 0, 1, 0, 0, 1, b'a', 0], &[ReasonCode::MalformedPacket]),
    ("a PINGREQ with a body", &[0xC0, 0x01, 0x00], &[ReasonCode::MalformedPacket]),
    ("a remaining length of five bytes", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], &[ReasonCode::MalformedPacket]),
    ("PUBLISH with QoS 3", &[0x36, 0x07, 0, 1, b'a', 0, 1, 0, b'x'], &[ReasonCode::MalformedPacket]),
    (
        "PUBLISH with packet id 0",
        &[0x32, 0x06, 0, 1, b'a', 0, 0, 0],
        &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket],
    ),
    ("PUBLISH to a wildcard", &[0x30, 0x04, 0, 1, b'#', 0], &[ReasonCode::TopicNameInvalid]),
    ("a topic with NUL", &[0x30, 0x04, 0, 1, 0, 0], &[ReasonCode::MalformedPacket]),
    ("a topic that is not UTF-8", &[0x30, 0x05, 0, 2, 0xC3, 0x28, 0], &[ReasonCode::MalformedPacket]),
    ("a topic longer than its packet", &[0x30, 0x04, 0, 9, b'a', 0], &[ReasonCode::MalformedPacket]),
    ("an unknown property", &[0x30, 0x06, 0, 1, b'a', 2, 0x7F, 0], &[ReasonCode::MalformedPacket]),
    (
        "a property of another packet",
        &[0x30, 0x09, 0, 1, b'a', 5, 0x11, 0, 0, 0, 1],
        &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket],
    ),
    ("a property twice", &[0x30, 0x08, 0, 1, b'a', 4, 0x01, 0, 0x01, 0], &[ReasonCode::ProtocolError]),
    (
        "an unknown topic alias",
        &[0x30, 0x06, 0, 0, 3, 0x23, 0, 1],
        &[ReasonCode::ProtocolError, ReasonCode::TopicAliasInvalid],
    ),
    ("SUBSCRIBE without a filter", &[0x82, 0x03, 0, 1, 0], &[ReasonCode::ProtocolError]),
    (
        "SUBSCRIBE with packet id 0",
        &[0x82, 0x07, 0, 0, 0, 0, 1, b'a', 0],
        &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket],
    ),
    (
        "SUBSCRIBE with QoS 3",
        &[0x82, 0x07, 0, 1, 0, 0, 1, b'a', 3],
        &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket],
    ),
    ("UNSUBSCRIBE without a filter", &[0xA2, 0x03, 0, 1, 0], &[ReasonCode::ProtocolError]),
    (
        "a second CONNECT",
        &[0x10, 0x0D, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 0],
        &[ReasonCode::ProtocolError],
    ),
    ("a CONNACK from a client", &[0x20, 0x03, 0, 0, 0], &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket]),
    ("a PINGRESP from a client", &[0xD0, 0x00], &[ReasonCode::ProtocolError, ReasonCode::MalformedPacket]),
    ("AUTH without a method", &[0xF0, 0x00], &[ReasonCode::ProtocolError]),
    ("an unknown reason in DISCONNECT", &[0xE0, 0x01, 0x55], &[ReasonCode::MalformedPacket, ReasonCode::ProtocolError]),
    ("a header of more than the limit", &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &[ReasonCode::PacketTooLarge]),
];

/// What is sent instead of a CONNECT: the connection is closed.
const BEFORE_CONNECT: &[(&str, &[u8])] = &[
    ("another protocol", b"GET / HTTP/1.1\r\n\r\n"),
    ("a PUBLISH first", &[0x30, 0x03, 0, 1, b'a']),
    ("a PINGREQ first", &[0xC0, 0x00]),
    ("a reserved connect flag", &[0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 0]),
    ("a will QoS of 3", &[0x10, 0x12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x1E, 0, 0, 0, 0, 0, 1, b'w', 0, 1, b'x']),
    (
        "a password without a user name in 3.1.1",
        &[0x10, 0x0F, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x42, 0, 0, 0, 0, 0, 1, b'p'],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_malformed_packet_closes_its_own_connection_with_the_right_code() {
    let cluster = TestCluster::start(1).await;
    let address = cluster.nodes[0].mqtt();
    let mut bystander = RawClient::connect(address, &Options::v5("bystander")).await;
    for (what, bytes, right) in AFTER_CONNECT {
        let mut client = RawClient::connect(address, &Options::v5("clumsy")).await;
        client.send_raw(bytes).await.expect("bytes are sent");
        let goodbye = client.closed(CLOSED).await.unwrap_or_else(|| panic!("{what}: closed without DISCONNECT"));
        assert!(right.contains(&goodbye.reason), "{what}: {:?} instead of one of {right:?}", goodbye.reason);
        bystander.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_packet_of_a_3_x_client_closes_without_a_packet() {
    let cluster = TestCluster::start(1).await;
    let address = cluster.nodes[0].mqtt();
    let mut bystander = RawClient::connect(address, &Options::v311("bystander")).await;
    for options in [Options::v31("clumsy"), Options::v311("clumsy")] {
        for bytes in [&[0x36, 0x06, 0, 1, b'a', 0, 1, b'x'][..], &[0xF0, 0x00], &[0x30, 0x03, 0, 1, b'+']] {
            let mut client = RawClient::connect(address, &options).await;
            client.send_raw(bytes).await.expect("bytes are sent");
            assert_eq!(client.closed(CLOSED).await, None, "{:?} {bytes:?}", options.version);
            bystander.ping().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_instead_of_a_connect_is_closed() {
    let cluster = TestCluster::start(1).await;
    let address = cluster.nodes[0].mqtt();
    let mut bystander = RawClient::connect(address, &Options::v5("bystander")).await;
    for (what, bytes) in BEFORE_CONNECT {
        let mut client = RawClient::tcp(address, Version::V311).await.expect("a TCP connection");
        client.send_raw(bytes).await.expect("bytes are sent");
        match client.receive(CLOSED).await {
            Received::Closed => {}
            other => panic!("{what}: {other:?} instead of a closed connection"),
        }
        bystander.ping().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_protocol_name_or_level_is_refused_with_return_code_1() {
    let cluster = TestCluster::start(1).await;
    let address = cluster.nodes[0].mqtt();
    let name = [0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'X', 4, 2, 0, 0, 0, 0];
    let level = [0x10, 0x0D, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 1, b'x'];
    for connect in [&name[..], &level] {
        let mut client = RawClient::tcp(address, Version::V311).await.expect("a TCP connection");
        client.send_raw(connect).await.expect("bytes are sent");
        match client.receive(CLOSED).await {
            Received::Packet(Packet::ConnAck(ack)) => assert_eq!(ack.reason, ReasonCode::UnsupportedProtocolVersion),
            other => panic!("{other:?} instead of a CONNACK"),
        }
        client.closed(CLOSED).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_that_arrives_byte_by_byte_is_understood() {
    let cluster = TestCluster::start(1).await;
    let mut client = RawClient::tcp(cluster.nodes[0].mqtt(), Version::V311).await.expect("a TCP connection");
    let connect_and_ping = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04slow\xC0\x00";
    for byte in connect_and_ping {
        client.send_raw(&[*byte]).await.expect("a byte is sent");
        tokio::task::yield_now().await;
    }
    client.wait_for("CONNACK", CLOSED, |packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    client.wait_for("PINGRESP", CLOSED, |packet| matches!(packet, Packet::PingResp).then_some(())).await;
}
