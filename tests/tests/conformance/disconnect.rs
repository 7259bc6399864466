//! The end of a connection, told and untold.

use rollcall_proto::packet::{Disconnect, Packet, QoS, Version};
use rollcall_proto::properties::DisconnectProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Received, SOON, publication};

use crate::broker::{Broker, VERSIONS};
use crate::bytes::{Raw, connect, encoded, field};

crate::cases![
    behind_its_disconnect_the_broker_sends_nothing_and_closes,
    a_disconnect_of_the_broker_has_no_session_expiry,
    a_disconnect_of_a_client_closes_the_connection_without_a_word,
    what_follows_a_disconnect_is_not_processed,
    a_disconnect_with_a_code_that_is_none_ends_the_connection_all_the_same,
];

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2], [MQTT-3.14.2-1], [MQTT-4.13.2-1]
async fn behind_its_disconnect_the_broker_sends_nothing_and_closes(broker: Broker) {
    // A malformed packet with good ones before and behind it.
    let mut client = Raw::open(&broker).await;
    let topic = field(broker.topic("behind"));
    let said = [
        connect(5, 2, &[&field(broker.id("clumsy"))]),
        vec![0xC0, 0],
        vec![0xC1, 0],
        vec![0xC0, 0],
        crate::bytes::packet(0x82, &[&[0, 1, 0], &topic, &[0]]),
    ]
    .concat();
    client.says(&said).await;
    let heard = client.hears_all().await;
    let kinds: Vec<u8> = heard.iter().map(|packet| packet[0]).collect();
    assert_eq!(kinds, [0x20, 0xD0, 0xE0], "{heard:02X?}");
    assert_eq!(heard[2], [0xE0, 1, 0x81]);
}

/// [MQTT-3.14.2-1], [MQTT-3.14.2-2]
async fn a_disconnect_of_the_broker_has_no_session_expiry(broker: Broker) {
    let stays = broker.stays(Version::V5, "stays");
    let mut first = broker.connect(stays.clone()).await;
    let mut second = broker.connect(stays.clone()).await;
    let told = first.closed(SOON).await.expect("a DISCONNECT");
    assert_eq!((told.reason, told.properties.session_expiry), (ReasonCode::SessionTakenOver, None));
    second.send_raw(&[0, 0]).await.expect("bytes are sent");
    let told = second.closed(SOON).await.expect("a DISCONNECT");
    assert_eq!((told.reason, told.properties.session_expiry), (ReasonCode::MalformedPacket, None));
}

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2]
async fn a_disconnect_of_a_client_closes_the_connection_without_a_word(broker: Broker) {
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "leaves")).await;
        let goodbye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        client.send(&Packet::Disconnect(Box::new(goodbye))).await.expect("DISCONNECT is sent");
        match client.receive(SOON).await {
            Received::Closed => {}
            other => panic!("{other:?} after the DISCONNECT of {version:?}"),
        }
    }
}

/// [MQTT-3.14.4-1]
async fn what_follows_a_disconnect_is_not_processed(broker: Broker) {
    let topic = broker.topic("follows");
    let mut subscriber = broker.connect(broker.v5("subscriber")).await;
    subscriber.subscribe(&topic, QoS::AtMostOnce).await;
    for version in VERSIONS {
        let goodbye = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        let publish = Packet::Publish(publication(topic.clone(), "late", QoS::AtMostOnce));
        let both = encoded(&[Packet::Disconnect(Box::new(goodbye)), publish], version);
        let mut client = broker.connect(broker.who(version, "leaves")).await;
        client.send_raw(&both).await.expect("both are sent");
        client.closed(SOON).await;
    }
    broker.connect(broker.v5("publisher")).await.publish(&topic, b"end", QoS::AtMostOnce).await;
    assert_eq!(subscriber.messages_before(b"end").await, []);
}

/// [MQTT-3.14.2-1], [MQTT-4.13.2-1]
async fn a_disconnect_with_a_code_that_is_none_ends_the_connection_all_the_same(broker: Broker) {
    for (bytes, expected) in [
        (&[0xE0, 1, 0x01][..], Some(true)),
        (&[0xE0, 1, 0x85], Some(true)),
        // This one is a client's to say, and no answer is due.
        (&[0xE0, 1, 0x81], None),
        (&[0xE0, 2, 0x04, 0], None),
    ] {
        let mut client = broker.connect(broker.v5("leaves")).await;
        client.send_raw(bytes).await.expect("bytes are sent");
        let told = client.closed(SOON).await.map(|disconnect| disconnect.reason.is_error());
        assert_eq!(told, expected, "{bytes:02X?}");
    }
}
