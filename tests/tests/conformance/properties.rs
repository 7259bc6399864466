//! What a PUBLISH of 5.0 carries besides its payload, and topic aliases.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use rollcall_proto::packet::{Packet, PacketId, Publish, QoS, SubscribeOptions, Version};
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON, publication};

use crate::broker::Broker;
use crate::bytes::{field, packet};

crate::cases![
    the_properties_of_a_message_reach_its_subscribers_as_they_were,
    before_5_0_a_subscriber_is_spared_the_properties,
    a_topic_alias_stands_for_its_topic,
    topic_aliases_end_with_their_connection,
    a_topic_alias_out_of_range_ends_the_connection,
    a_client_is_sent_as_many_topic_aliases_as_it_allows,
    a_subscription_identifier_from_a_client_ends_the_connection,
    nobody_is_told_what_they_did_not_ask_for,
];

fn with(message: Publish, properties: PublishProperties) -> Publish {
    Publish { properties: Some(Box::new(properties)), ..message }
}

fn everything() -> PublishProperties {
    let user = [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("ü", "\u{10FFFF}")];
    PublishProperties {
        payload_format: Some(true),
        response_topic: Some("reply/to/me".into()),
        correlation_data: Some(Bytes::from_static(&[0, 1, 0xFF, 0])),
        user: user.map(|(name, value)| (ByteString::from(name), ByteString::from(value))).into(),
        content_type: Some("text/plain; charset=utf-8".into()),
        ..PublishProperties::default()
    }
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
async fn the_properties_of_a_message_reach_its_subscribers_as_they_were(broker: Broker) {
    let topic = broker.topic("all");
    let mut subscribers = Vec::new();
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(who).await;
        client.subscribe(&topic, QoS::ExactlyOnce).await;
        subscribers.push(client);
    }
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    let unformatted = PublishProperties { payload_format: Some(false), ..PublishProperties::default() };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for retain in [false, true] {
            for properties in [everything(), unformatted.clone()] {
                let message = Publish { retain, ..publication(topic.clone(), "text", qos) };
                publisher.publish_with(with(message, properties.clone())).await;
                for client in &mut subscribers {
                    let came = client.message(SOON).await.properties.map(|properties| *properties);
                    assert_eq!(came, Some(properties.clone()), "{qos:?}");
                }
            }
        }
    }
    // What is retained is the last of them.
    let mut late = broker.connect(broker.v5("late")).await;
    late.subscribe(&topic, QoS::AtMostOnce).await;
    assert_eq!(late.message(SOON).await.properties, Some(Box::new(unformatted)));
}

/// [MQTT-7.0.0-2/3.1.1]
async fn before_5_0_a_subscriber_is_spared_the_properties(broker: Broker) {
    let topic = broker.topic("spared");
    for version in [Version::V31, Version::V311] {
        let mut client = broker.connect(broker.who(version, "client")).await;
        client.subscribe(&topic, QoS::AtLeastOnce).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        publisher.publish_with(with(publication(topic.clone(), "text", QoS::AtLeastOnce), everything())).await;
        assert_eq!(client.message(SOON).await.payload, "text");
    }
}

fn aliased(topic: impl Into<ByteString>, alias: u16, payload: &str, qos: QoS) -> Publish {
    let properties = PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
    with(publication(topic, payload, qos), properties)
}

/// [MQTT-3.3.2-12]
async fn a_topic_alias_stands_for_its_topic(broker: Broker) {
    let mut subscriber = broker.connect(broker.v5("subscriber")).await;
    subscriber.subscribe(&broker.topic("+"), QoS::ExactlyOnce).await;
    let (mut publisher, connack) = broker.open(broker.v5("publisher")).await;
    let most = connack.properties.topic_alias_maximum.expect("aliases are allowed");
    for alias in 1..=most {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let topic = broker.topic(&format!("{alias}-{qos:?}"));
            publisher.publish_with(aliased(topic.clone(), alias, "set", qos)).await;
            publisher.publish_with(aliased("", alias, "used", qos)).await;
            for payload in ["set", "used"] {
                let message = subscriber.message(SOON).await;
                assert_eq!((&message.topic, message.payload), (&topic, payload.into()));
                assert_eq!(message.properties, None, "the alias is the publisher's own");
            }
        }
    }
}

/// The connection ends; what a 5.0 client is told.
async fn told(client: &mut RawClient) -> Option<ReasonCode> {
    client.closed(SOON).await.map(|disconnect| disconnect.reason)
}

/// [MQTT-3.3.2-7]
async fn topic_aliases_end_with_their_connection(broker: Broker) {
    let stays = broker.stays(Version::V5, "publisher");
    let mut publisher = broker.connect(stays.clone()).await;
    publisher.publish_with(aliased(broker.topic("alias"), 1, "set", QoS::AtLeastOnce)).await;
    publisher.publish_with(aliased("", 1, "used", QoS::AtLeastOnce)).await;
    let mut again = broker.connect(stays).await;
    again.publish_with(aliased("", 1, "used", QoS::AtMostOnce)).await;
    assert!(matches!(told(&mut again).await, Some(ReasonCode::ProtocolError | ReasonCode::TopicAliasInvalid)));
}

/// [MQTT-3.3.2-8], [MQTT-3.3.2-9], [MQTT-3.2.2-17]
async fn a_topic_alias_out_of_range_ends_the_connection(broker: Broker) {
    let (mut client, connack) = broker.open(broker.v5("client")).await;
    let most = connack.properties.topic_alias_maximum.expect("aliases are allowed");
    client.publish_with(aliased(broker.topic("alias"), most + 1, "x", QoS::AtMostOnce)).await;
    assert_eq!(told(&mut client).await, Some(ReasonCode::TopicAliasInvalid));
    let bytes = packet(0x30, &[&field(broker.topic("alias")), &[3, 0x23, 0, 0], b"x"]);
    let mut client = broker.connect(broker.v5("client")).await;
    client.send_raw(&bytes).await.expect("PUBLISH is sent");
    assert_eq!(told(&mut client).await, Some(ReasonCode::TopicAliasInvalid));
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]
async fn a_client_is_sent_as_many_topic_aliases_as_it_allows(broker: Broker) {
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let allowances = [None, Some(0), Some(1), Some(u16::MAX)];
    for (allowed, qos) in allowances.into_iter().flat_map(|most| levels.map(|qos| (most, qos))) {
        let mut who = broker.v5("subscriber");
        who.properties.topic_alias_maximum = allowed;
        let mut client = broker.connect(who).await;
        client.subscribe(&broker.topic("#"), qos).await;
        let (mut known, mut left_out) = (BTreeMap::new(), 0);
        for round in 0..4 {
            for topic in [broker.topic("alias"), broker.topic("other"), broker.topic(&format!("{round}"))] {
                publisher.publish_with(aliased(topic.clone(), 1, "x", qos)).await;
                let message = client.message(SOON).await;
                let alias = message.properties.unwrap_or_default().topic_alias;
                assert!(alias.is_none_or(|alias| (1..=allowed.unwrap_or(0)).contains(&alias)), "{alias:?}");
                if let Some(alias) = alias.filter(|_| !message.topic.is_empty()) {
                    known.insert(alias, message.topic.clone());
                }
                left_out += usize::from(message.topic.is_empty());
                let shown = if message.topic.is_empty() { &known[&alias.expect("an alias")] } else { &message.topic };
                assert_eq!(*shown, topic);
            }
        }
        // The second and later ones of "alias", and of "other".
        assert_eq!(left_out, 3 * usize::from(allowed.unwrap_or(0).min(2)), "{allowed:?} {qos:?}");
    }
}

/// [MQTT-3.3.4-6]
async fn a_subscription_identifier_from_a_client_ends_the_connection(broker: Broker) {
    let properties = PublishProperties { subscription_ids: vec![1], ..PublishProperties::default() };
    let message = with(publication(broker.topic("id"), "x", QoS::AtMostOnce), properties);
    let mut client = broker.connect(broker.v5("client")).await;
    client.send(&Packet::Publish(message)).await.expect("PUBLISH is sent");
    let told = told(&mut client).await;
    assert!(matches!(told, Some(ReasonCode::ProtocolError | ReasonCode::MalformedPacket)), "{told:?}");
}

/// [MQTT-3.1.2-28], [MQTT-3.1.2-29]
async fn nobody_is_told_what_they_did_not_ask_for(broker: Broker) {
    for asked in [None, Some(false)] {
        let mut who = broker.v5("client");
        who.properties.request_response_information = asked;
        who.properties.request_problem_information = Some(false);
        let (mut client, connack) = broker.open(who).await;
        assert_eq!(connack.properties.response_information, None);
        let options = SubscribeOptions::default();
        let suback = client.subscribe_with(&[("wrong#", options)], Default::default()).await;
        assert!(suback.reasons[0].is_error() && suback.properties.is_empty(), "{suback:?}");
        let unsuback = client.unsubscribe_from(&["wrong#"]).await;
        assert!(unsuback.reasons[0].is_error() && unsuback.properties.is_empty(), "{unsuback:?}");
        for (qos, number) in [(QoS::AtLeastOnce, 50), (QoS::ExactlyOnce, 51)] {
            let id = PacketId::new(number);
            let refused = Publish { packet_id: id, ..publication("$events/forged", "x", qos) };
            client.send(&Packet::Publish(refused)).await.expect("PUBLISH is sent");
            let id = id.expect("not zero");
            let told = if qos == QoS::AtLeastOnce { client.puback(id).await } else { client.pubrec(id).await };
            assert!(told.reason.is_error() && told.properties.is_none(), "{told:?}");
        }
    }
}
