//! Client ids, and packet identifiers.

use std::collections::BTreeSet;

use rollcall_proto::packet::{Connect, Packet, PacketId, Publish, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Received, SOON, ack, publication};

use crate::broker::{Broker, Listener, STRICT, VERSIONS};
use crate::bytes::{connect, encoded, field, packet};

crate::cases![
    client_ids_of_up_to_23_digits_and_letters_are_taken_everywhere,
    a_client_without_an_id_is_given_one_of_its_own,
    before_5_0_a_client_without_an_id_cannot_stay,
    a_client_id_against_the_listeners_rules_is_told_so,
    what_is_in_flight_has_packet_identifiers_that_differ,
    an_identifier_in_use_is_not_used_again,
    an_identifier_is_free_behind_its_acknowledgement,
];

/// [MQTT-3.1.3-5], [MQTT-3.1.3-5/3.1.1]
async fn client_ids_of_up_to_23_digits_and_letters_are_taken_everywhere(broker: Broker) {
    const ALL: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for listener in [Listener::Open, Listener::Small] {
        for version in VERSIONS {
            for client_id in ["Q", "Q8", &ALL[..23], &ALL[23..46], &ALL[ALL.len() - 23..]] {
                let connect = Connect { client_id: client_id.into(), ..broker.who(version, "") };
                broker.by(listener).connect(connect).await.disconnect().await;
            }
        }
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16], [MQTT-3.1.3-6/3.1.1]
async fn a_client_without_an_id_is_given_one_of_its_own(broker: Broker) {
    let nameless = |version| Connect { client_id: "".into(), ..broker.who(version, "") };
    let (mut clients, mut ids) = (Vec::new(), BTreeSet::new());
    for _ in 0..6 {
        let (client, connack) = broker.open(nameless(Version::V5)).await;
        let client_id = connack.properties.assigned_client_id.expect("an assigned client id");
        assert!(!client_id.is_empty() && ids.insert(client_id.clone()), "{client_id:?} is not new");
        clients.push((client, client_id));
    }
    let mut unnamed = Vec::new();
    for _ in 0..3 {
        unnamed.push(broker.connect(nameless(Version::V311)).await);
    }
    // None took the place of another.
    for client in clients.iter_mut().map(|(client, _)| client).chain(&mut unnamed) {
        client.ping().await;
    }
    // The id is as good as one that the client had chosen.
    let (mut first, client_id) = clients.remove(0);
    let mut second = broker.connect(Connect { client_id, ..broker.v5("") }).await;
    let told = first.closed(SOON).await.map(|disconnect| disconnect.reason);
    assert_eq!(told, Some(ReasonCode::SessionTakenOver));
    second.ping().await;
}

/// [MQTT-3.1.3-7/3.1.1], [MQTT-3.1.3-8/3.1.1], [MQTT-3.2.2-4/3.1.1], [MQTT-3.2.2-5/3.1.1]
async fn before_5_0_a_client_without_an_id_cannot_stay(broker: Broker) {
    for (version, flags) in [(Version::V31, 0), (Version::V31, 2), (Version::V311, 0)] {
        let told = broker.refused(version, &connect(version.level(), flags, &[&field("")])).await;
        let told = told.map(|connack| (connack.reason, connack.session_present));
        assert_eq!(told, Some((ReasonCode::ClientIdentifierNotValid, false)), "{version:?} {flags}");
    }
    let stays = Connect { client_id: "".into(), ..broker.stays(Version::V5, "") };
    assert_eq!(broker.open(stays).await.1.reason, ReasonCode::Success);
}

/// [MQTT-3.1.3-8], [MQTT-3.1.4-2], [MQTT-3.2.2-6], [MQTT-3.2.2-7], [MQTT-3.2.2-8], [MQTT-4.13.2-1],
/// [MQTT-3.1.3-9/3.1.1], [MQTT-3.2.2-4/3.1.1], [MQTT-3.2.2-5/3.1.1]
async fn a_client_id_against_the_listeners_rules_is_told_so(broker: Broker) {
    for version in VERSIONS {
        for wrong in ["with-dash", "ümlaut", "more123456789012345678901"] {
            // A session that is there elsewhere is not present in a refusal.
            let connect = Connect { client_id: wrong.into(), ..broker.stays(version, "") };
            broker.connect(connect.clone()).await.disconnect().await;
            let bytes = encoded(&[Packet::Connect(Box::new(connect))], version);
            let told = broker.by(Listener::Small).refused(version, &bytes).await;
            let told = told.map(|connack| (connack.reason, connack.session_present));
            assert_eq!(told, Some((ReasonCode::ClientIdentifierNotValid, false)), "{version:?} {wrong}");
        }
    }
}

/// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1], [MQTT-2.3.1-4/3.1.1], [MQTT-4.3.2-1/3.1.1], [MQTT-4.3.3-1/3.1.1]
async fn what_is_in_flight_has_packet_identifiers_that_differ(broker: Broker) {
    const MESSAGES: usize = 20;
    for version in STRICT {
        for connect in [broker.who(version, "clean"), broker.stays(version, "stays")] {
            let topic = broker.topic(version.name());
            let mut subscriber = broker.connect(connect).await;
            subscriber.subscribe(&topic, QoS::ExactlyOnce).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            for number in 0..MESSAGES {
                let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                publisher.publish(&topic, b"x", qos).await;
            }
            let mut ids = BTreeSet::new();
            for _ in 0..MESSAGES {
                // A packet with identifier 0 could not even be decoded.
                let id = subscriber.unacknowledged().await.packet_id.expect("a packet identifier");
                assert!(ids.insert(id), "{id} is used twice");
            }
            subscriber.disconnect().await;
        }
    }
}

/// [MQTT-2.2.1-3]
async fn an_identifier_in_use_is_not_used_again(broker: Broker) {
    let id = PacketId::new(5);
    let exactly_once = |topic| {
        let publish = publication(broker.topic(topic), "x", QoS::ExactlyOnce);
        Packet::Publish(Publish { packet_id: id, ..publish })
    };
    let mut client = broker.connect(broker.v5("client")).await;
    client.send(&exactly_once("in/use")).await.expect("PUBLISH is sent");
    client.pubrec(id.expect("not zero")).await;
    // SUBSCRIBE with the identifier of a PUBLISH whose PUBREL is still to come.
    let subscribe = packet(0x82, &[&[0, 5, 0], &field(broker.topic("in/use")), &[0]]);
    client.send_raw(&subscribe).await.expect("SUBSCRIBE is sent");
    match client.receive(SOON).await {
        Received::Packet(Packet::Disconnect(told)) => assert_eq!(told.reason, ReasonCode::ProtocolError),
        // 5.0 has a reason for it, too.
        Received::Packet(Packet::SubAck(told)) => assert_eq!(told.reasons, [ReasonCode::PacketIdentifierInUse]),
        other => panic!("{other:?} after an identifier in use"),
    }
}

/// [MQTT-2.2.1-5], [MQTT-2.2.1-6], [MQTT-2.3.1-6/3.1.1], [MQTT-2.3.1-7/3.1.1]
async fn an_identifier_is_free_behind_its_acknowledgement(broker: Broker) {
    for version in VERSIONS {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let topic = broker.topic("free");
        let mut client = broker.connect(broker.who(version, "client")).await;
        for number in [1, 2, 0xFFFF] {
            let id = PacketId::new(number).expect("not zero");
            let bytes = number.to_be_bytes();
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let publish = publication(topic.clone(), "x", qos);
                let publish = Publish { packet_id: Some(id), ..publish };
                client.send(&Packet::Publish(publish)).await.expect("PUBLISH is sent");
                if qos == QoS::AtLeastOnce {
                    client.puback(id).await;
                } else {
                    client.pubrec(id).await;
                    client.send(&Packet::PubRel(ack(id))).await.expect("PUBREL is sent");
                    client.pubcomp(id).await;
                }
            }
            let other = field(broker.topic("other"));
            client.send_raw(&packet(0x82, &[&bytes, none, &other, &[1]])).await.expect("SUBSCRIBE is sent");
            let suback = |packet: &Packet| if let Packet::SubAck(ack) = packet { Some(ack.packet_id) } else { None };
            assert_eq!(client.wait_for("SUBACK", SOON, suback).await, id);
            client.send_raw(&packet(0xA2, &[&bytes, none, &other])).await.expect("UNSUBSCRIBE is sent");
            let unsuback =
                |packet: &Packet| if let Packet::UnsubAck(ack) = packet { Some(ack.packet_id) } else { None };
            assert_eq!(client.wait_for("UNSUBACK", SOON, unsuback).await, id);
        }
    }
}
