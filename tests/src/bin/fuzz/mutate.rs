//! Packets that are right, and what becomes of them by small changes.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rand::Rng;
use rand::rngs::SmallRng;
use rollcall_proto::codec::encode;
use rollcall_proto::packet::{
    Ack, Auth, Connect, Disconnect, Packet, PacketId, Publish, QoS, Subscribe, SubscribeOptions, Unsubscribe, Version,
    Will,
};
use rollcall_proto::properties::{
    AuthProperties, ConnectProperties, DisconnectProperties, PublishProperties, SubscribeProperties,
    UnsubscribeProperties, WillProperties,
};
use rollcall_proto::reason::ReasonCode;

/// Values at which lengths and identifiers change their meaning.
const EDGES: [u8; 10] = [0x00, 0x01, 0x7F, 0x80, 0x81, 0xFE, 0xFF, b'#', b'+', b'$'];
/// Clients that take turns, so that sessions are taken over and resumed.
const CLIENTS: u32 = 32;

pub fn version(rng: &mut SmallRng) -> Version {
    [Version::V31, Version::V311, Version::V5, Version::V5][rng.random_range(0..4)]
}

pub fn encoded(packet: &Packet, version: Version) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).expect("a right packet has a form");
    bytes.to_vec()
}

pub fn connect(version: Version, rng: &mut SmallRng) -> Packet {
    let will = rng.random_bool(0.3).then(|| Will {
        topic: topic(rng),
        payload: Bytes::from_static(b"gone"),
        qos: qos(rng),
        retain: rng.random_bool(0.1),
        properties: WillProperties { delay_interval: Some(1), ..WillProperties::default() },
    });
    let five = version == Version::V5;
    Packet::Connect(Box::new(Connect {
        version,
        clean_start: rng.random_bool(0.7),
        keep_alive: rng.random_range(0..3),
        client_id: ByteString::from(format!("fuzz-{}", rng.random_range(0..CLIENTS))),
        username: rng.random_bool(0.3).then(|| "user".into()),
        password: None,
        will: will.map(|will| if five { will } else { Will { properties: WillProperties::default(), ..will } }),
        properties: match five {
            true => ConnectProperties {
                session_expiry: Some(rng.random_range(0..3)),
                receive_maximum: Some(rng.random_range(1..5)),
                maximum_packet_size: rng.random_bool(0.2).then_some(200),
                topic_alias_maximum: Some(3),
                user: vec![("k".into(), "v".into())],
                ..ConnectProperties::default()
            },
            false => ConnectProperties::default(),
        },
    }))
}

/// Any packet that a client may send once it is connected.
pub fn packet(version: Version, rng: &mut SmallRng) -> Packet {
    let five = version == Version::V5;
    let packet_id = PacketId::new(rng.random_range(1..6)).expect("counted from one");
    let ack = Ack { packet_id, reason: ReasonCode::Success, properties: None };
    match rng.random_range(0..if five { 11 } else { 10 }) {
        0..3 => publish(five, packet_id, rng),
        3 => Packet::PubAck(ack),
        4 => Packet::PubRec(ack),
        5 => Packet::PubRel(ack),
        6 => Packet::PubComp(ack),
        7 => Packet::Subscribe(Box::new(Subscribe {
            packet_id,
            filters: vec![(filter(rng), SubscribeOptions { qos: qos(rng), ..SubscribeOptions::default() })],
            properties: SubscribeProperties {
                subscription_id: (five && rng.random_bool(0.5)).then_some(7),
                ..SubscribeProperties::default()
            },
        })),
        8 => Packet::Unsubscribe(Box::new(Unsubscribe {
            packet_id,
            filters: vec![filter(rng)],
            properties: UnsubscribeProperties::default(),
        })),
        9 => match rng.random_bool(0.9) {
            true => Packet::PingReq,
            false => Packet::Disconnect(Box::new(Disconnect {
                reason: ReasonCode::Success,
                properties: DisconnectProperties::default(),
            })),
        },
        _ => Packet::Auth(Box::new(Auth {
            reason: ReasonCode::ReAuthenticate,
            properties: AuthProperties { authentication_method: Some("x".into()), ..AuthProperties::default() },
        })),
    }
}

fn publish(five: bool, packet_id: PacketId, rng: &mut SmallRng) -> Packet {
    let qos = qos(rng);
    let properties = PublishProperties {
        message_expiry: Some(1),
        topic_alias: rng.random_bool(0.3).then_some(1),
        user: vec![("k".into(), "v".into())],
        ..PublishProperties::default()
    };
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: rng.random_bool(0.05),
        topic: topic(rng),
        packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
        properties: (five && rng.random_bool(0.5)).then(|| Box::new(properties)),
        payload: vec![b'x'; rng.random_range(0..64)].into(),
    })
}

fn qos(rng: &mut SmallRng) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][rng.random_range(0..3)]
}

fn topic(rng: &mut SmallRng) -> ByteString {
    ["fuzz/a", "fuzz/a/b", "fuzz", "/"][rng.random_range(0..4)].into()
}

fn filter(rng: &mut SmallRng) -> ByteString {
    ["fuzz/a", "fuzz/+", "fuzz/#", "$share/g/fuzz/#", "$events/#", "+/+"][rng.random_range(0..6)].into()
}

/// A few small changes, wherever they fall.
pub fn mutate(bytes: &mut Vec<u8>, rng: &mut SmallRng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            bytes.push(rng.random());
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = EDGES[rng.random_range(0..EDGES.len())],
            2 => bytes.insert(at, rng.random()),
            3 => {
                bytes.remove(at);
            }
            4 => bytes.truncate(at),
            5 => {
                let until = (at + rng.random_range(1..9)).min(bytes.len());
                let again = bytes[at..until].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.extend((0..rng.random_range(1..16)).map(|_| rng.random::<u8>())),
        }
    }
}
