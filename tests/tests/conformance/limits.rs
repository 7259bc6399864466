//! What a listener does not offer: it says so, and holds its clients to it.

use bytes::Bytes;
use rollcall_proto::packet::{Packet, PacketId, Publish, QoS, Version, Will};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{SOON, publication};

use crate::broker::{Broker, Listener, VERSIONS};
use crate::bytes::encoded;
use crate::wills::{will, with_will};

crate::cases![
    a_listener_says_what_it_does_not_offer,
    every_subscription_is_taken_whatever_the_maximum_qos,
    a_will_that_the_listener_cannot_publish_is_refused,
    a_publish_above_the_maximum_qos_ends_the_connection,
    a_retained_publish_ends_the_connection_where_nothing_is_retained,
    a_packet_above_the_maximum_size_ends_the_connection,
    more_than_the_receive_maximum_ends_the_connection,
];

/// [MQTT-3.2.2-9]
async fn a_listener_says_what_it_does_not_offer(broker: Broker) {
    let told = broker.open(broker.v5("asks")).await.1.properties;
    assert_eq!((told.maximum_qos, told.retain_available), (None, None), "everything is there");
    let told = broker.by(Listener::Narrow).open(broker.v5("asks")).await.1.properties;
    assert_eq!((told.maximum_qos, told.retain_available), (Some(QoS::AtLeastOnce), Some(false)));
    let told = broker.by(Listener::Small).open(broker.v5("asks")).await.1.properties;
    assert_eq!(told.maximum_packet_size, Some(1024));
}

/// [MQTT-3.2.2-10]
async fn every_subscription_is_taken_whatever_the_maximum_qos(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let mut client = broker.by(Listener::Narrow).connect(broker.who(version, "narrow")).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let granted = client.subscribe(&topic, qos).await;
            assert_eq!(granted.byte(), qos.min(QoS::AtLeastOnce) as u8, "{granted:?} for {qos:?}");
            publisher.publish(&topic, b"x", QoS::ExactlyOnce).await;
            assert_eq!(client.message(SOON).await.qos as u8, granted.byte());
        }
    }
}

/// [MQTT-3.2.2-12], [MQTT-3.2.2-13], [MQTT-3.2.2-7]
async fn a_will_that_the_listener_cannot_publish_is_refused(broker: Broker) {
    let narrow = broker.by(Listener::Narrow);
    let topic = broker.topic("will");
    for (qos, retain, code) in [
        (QoS::ExactlyOnce, false, ReasonCode::QoSNotSupported),
        (QoS::AtLeastOnce, true, ReasonCode::RetainNotSupported),
    ] {
        let will = Will { retain, ..will(topic.clone(), "x", qos) };
        for version in VERSIONS {
            let connect = with_will(broker.who(version, "dies"), will.clone());
            let bytes = encoded(&[Packet::Connect(Box::new(connect))], version);
            let told = narrow.refused(version, &bytes).await.map(|connack| connack.reason);
            assert_eq!(told, (version == Version::V5).then_some(code), "{version:?}");
        }
    }
    narrow.connect(with_will(broker.v5("dies"), will(topic, "x", QoS::AtLeastOnce))).await.disconnect().await;
}

/// What a publish is answered by, where it ends the connection.
async fn told(broker: &Broker, version: Version, message: Publish) -> Option<ReasonCode> {
    let mut client = broker.connect(broker.who(version, "publishes")).await;
    client.send(&Packet::Publish(message)).await.expect("PUBLISH is sent");
    client.closed(SOON).await.map(|disconnect| disconnect.reason)
}

/// [MQTT-3.2.2-11]
async fn a_publish_above_the_maximum_qos_ends_the_connection(broker: Broker) {
    for version in VERSIONS {
        let message = publication(broker.topic("above"), "x", QoS::ExactlyOnce);
        let message = Publish { packet_id: PacketId::new(1), ..message };
        let told = told(&broker.by(Listener::Narrow), version, message).await;
        assert_eq!(told, (version == Version::V5).then_some(ReasonCode::QoSNotSupported));
    }
}

/// [MQTT-3.2.2-14]
async fn a_retained_publish_ends_the_connection_where_nothing_is_retained(broker: Broker) {
    for version in VERSIONS {
        let message = Publish { retain: true, ..publication(broker.topic("kept"), "x", QoS::AtMostOnce) };
        let told = told(&broker.by(Listener::Narrow), version, message).await;
        assert_eq!(told, (version == Version::V5).then_some(ReasonCode::RetainNotSupported));
    }
}

/// [MQTT-3.2.2-15]
async fn a_packet_above_the_maximum_size_ends_the_connection(broker: Broker) {
    let small = broker.by(Listener::Small);
    for version in VERSIONS {
        // The header takes three bytes, the topic's length two, and 5.0 has a byte for no properties.
        let topic = broker.topic("large");
        let fits = 1024 - 3 - 2 - topic.len() - usize::from(version == Version::V5);
        let mut subscriber = broker.connect(broker.v5("subscriber")).await;
        subscriber.subscribe(&topic, QoS::AtMostOnce).await;
        let message = |len: usize| Publish {
            payload: Bytes::from(vec![b'x'; len]),
            ..publication(topic.clone(), "", QoS::AtMostOnce)
        };
        small.connect(broker.who(version, "fits")).await.publish_with(message(fits)).await;
        assert_eq!(subscriber.message(SOON).await.payload.len(), fits);
        let told = told(&small, version, message(fits + 1)).await;
        assert_eq!(told, (version == Version::V5).then_some(ReasonCode::PacketTooLarge));
    }
}

/// [MQTT-3.3.4-7]
async fn more_than_the_receive_maximum_ends_the_connection(broker: Broker) {
    let (mut client, connack) = broker.open(broker.v5("eager")).await;
    let most = connack.properties.receive_maximum.expect("a receive maximum");
    let exactly_once = |number| {
        let message = publication(broker.topic("many"), "x", QoS::ExactlyOnce);
        Packet::Publish(Publish { packet_id: PacketId::new(number), ..message })
    };
    for number in 1..=most {
        client.send(&exactly_once(number)).await.expect("PUBLISH is sent");
    }
    for number in 1..=most {
        client.pubrec(PacketId::new(number).expect("not zero")).await;
    }
    client.ping().await;
    client.send(&exactly_once(most + 1)).await.expect("PUBLISH is sent");
    let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
    assert_eq!(told, Some(ReasonCode::ReceiveMaximumExceeded));
}
