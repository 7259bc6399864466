//! SUBSCRIBE, and what its SUBACK says.

use rollcall_proto::packet::{QoS, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::SOON;

use crate::broker::{Broker, VERSIONS};
use crate::bytes::{Raw, connect, field, packet};

crate::cases![
    a_suback_has_one_code_for_each_filter_in_their_order,
    the_codes_of_a_suback_are_its_own_in_every_version,
    many_filters_in_one_subscribe_are_as_many_subscriptions,
    the_same_filter_again_replaces_the_subscription,
    no_message_is_lost_while_a_subscription_is_replaced,
    a_message_comes_with_the_lower_qos_of_the_two,
];

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn at(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, ..SubscribeOptions::default() }
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1], [MQTT-3.9.3-2], [MQTT-2.2.1-6],
/// [MQTT-3.8.4-1/3.1.1], [MQTT-3.8.4-2/3.1.1], [MQTT-3.8.4-5/3.1.1], [MQTT-3.9.3-1/3.1.1]
async fn a_suback_has_one_code_for_each_filter_in_their_order(broker: Broker) {
    let [a, b, c] = ["a", "b", "c"].map(|rest| broker.topic(rest));
    for version in VERSIONS {
        let failed = if version == Version::V5 { ReasonCode::TopicFilterInvalid } else { ReasonCode::UnspecifiedError };
        let mut client = broker.connect(broker.who(version, "client")).await;
        let filters = [
            (&*c, at(QoS::ExactlyOnce)),
            ("no/#/filter", at(QoS::ExactlyOnce)),
            (&*a, at(QoS::AtMostOnce)),
            ("no+filter", at(QoS::AtMostOnce)),
            (&*b, at(QoS::AtLeastOnce)),
        ];
        let suback = client.subscribe_with(&filters, SubscribeProperties::default()).await;
        let expected = [ReasonCode::GrantedQoS2, failed, ReasonCode::Success, failed, ReasonCode::GrantedQoS1];
        assert_eq!(suback.reasons, expected, "{version:?}");
    }
}

/// [MQTT-3.9.3-2], [MQTT-3.9.3-1], [MQTT-3.9.3-2/3.1.1], [MQTT-3.9.3-1/3.1.1]
async fn the_codes_of_a_suback_are_its_own_in_every_version(broker: Broker) {
    let (good, wrong) = (field(broker.topic("good")), field("wrong/#/filter"));
    for (level, none, failed) in [(3, &[][..], 0x80), (4, &[], 0x80), (5, &[0], 0x8F)] {
        let mut client = Raw::open(&broker).await;
        client.says(&connect(level, 2, &[&field(broker.id("bytes"))])).await;
        client.hears_packet().await;
        let filters = [&good[..], &[0], &wrong, &[0], &good, &[1], &wrong, &[2], &good, &[2]].concat();
        client.says(&packet(0x82, &[&[0, 9], none, &filters])).await;
        let expected = packet(0x90, &[&[0, 9], none, &[0, failed, 1, failed, 2]]);
        client.hears(&expected).await;
        client.says(&[0xE0, 0]).await;
        client.ends().await;
    }
}

/// [MQTT-3.8.4-5], [MQTT-3.8.4-4/3.1.1]
async fn many_filters_in_one_subscribe_are_as_many_subscriptions(broker: Broker) {
    for version in VERSIONS {
        let topics: Vec<_> = (0..20).map(|number| broker.topic(&format!("{}/{number}", version.name()))).collect();
        let filters: Vec<_> = topics.iter().zip(LEVELS.iter().cycle()).map(|(t, qos)| (&**t, at(*qos))).collect();
        let mut client = broker.connect(broker.who(version, "client")).await;
        let suback = client.subscribe_with(&filters, SubscribeProperties::default()).await;
        assert_eq!(suback.reasons.len(), filters.len());
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for (topic, options) in &filters {
            publisher.publish(topic, b"x", QoS::ExactlyOnce).await;
            let message = client.message(SOON).await;
            assert_eq!((&*message.topic, message.qos), (*topic, options.qos), "{version:?}");
        }
    }
}

/// [MQTT-3.8.4-3], [MQTT-3.8.4-3/3.1.1]
async fn the_same_filter_again_replaces_the_subscription(broker: Broker) {
    for version in VERSIONS {
        for stays in [false, true] {
            let topic = broker.topic(version.name());
            let who = if stays { broker.stays(version, "client") } else { broker.who(version, "client") };
            let mut client = broker.connect(who).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            for granted in [QoS::ExactlyOnce, QoS::AtMostOnce, QoS::AtLeastOnce] {
                client.subscribe(&topic, granted).await;
                publisher.publish(&topic, b"x", QoS::ExactlyOnce).await;
                assert_eq!(client.message(SOON).await.qos, granted, "{version:?}");
            }
            publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
            assert_eq!(client.messages_before(b"end").await, [], "one copy for one subscription");
            client.unsubscribe(&topic).await;
            client.disconnect().await;
            broker.connect(broker.who(version, "client")).await.disconnect().await;
        }
    }
    // All of it is replaced, not the QoS alone.
    let topic = broker.topic("identifiers");
    let mut client = broker.connect(broker.v5("identified")).await;
    for subscription_id in [Some(1), Some(2), None] {
        let properties = SubscribeProperties { subscription_id, ..SubscribeProperties::default() };
        client.subscribe_with(&[(&topic, at(QoS::AtMostOnce))], properties).await;
        broker.connect(broker.v5("publisher")).await.publish(&topic, b"x", QoS::AtMostOnce).await;
        let properties = client.message(SOON).await.properties.unwrap_or_default();
        assert_eq!(properties.subscription_ids, Vec::from_iter(subscription_id));
    }
}

/// [MQTT-3.8.4-4], [MQTT-3.8.4-3/3.1.1]
async fn no_message_is_lost_while_a_subscription_is_replaced(broker: Broker) {
    const MESSAGES: u32 = 200;
    let topic = broker.topic("flow");
    let mut client = broker.connect(broker.v5("client")).await;
    client.subscribe(&topic, QoS::ExactlyOnce).await;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    let publishing = tokio::spawn({
        let topic = topic.clone();
        async move {
            for number in 0..MESSAGES {
                publisher.publish(&topic, number.to_string().as_bytes(), QoS::AtLeastOnce).await;
            }
            publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
        }
    });
    for _ in 0..20 {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            client.subscribe(&topic, qos).await;
        }
    }
    let came: Vec<_> = client.messages_before(b"end").await.into_iter().map(|message| message.payload).collect();
    let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(came, expected);
    publishing.await.expect("all were published");
}

/// [MQTT-3.8.4-8], [MQTT-3.8.4-6/3.1.1]
async fn a_message_comes_with_the_lower_qos_of_the_two(broker: Broker) {
    for version in VERSIONS {
        for (name, who) in [("clean", broker.who(version, "clean")), ("stays", broker.stays(version, "stays"))] {
            let mut client = broker.connect(who).await;
            for granted in LEVELS {
                let topic = broker.topic(&format!("{name}/{}/{granted:?}", version.name()));
                client.subscribe(&topic, granted).await;
                let mut publisher = broker.connect(broker.v5("publisher")).await;
                for published in LEVELS {
                    publisher.publish(&topic, b"x", published).await;
                    assert_eq!(client.message(SOON).await.qos, published.min(granted), "{version:?} {name}");
                }
            }
            client.disconnect().await;
        }
    }
}
