//! UNSUBSCRIBE, and what still comes afterwards.

use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{SOON, ack};

use crate::broker::{Broker, VERSIONS};

crate::cases![
    the_subscription_with_exactly_that_filter_is_deleted,
    behind_its_unsuback_nothing_is_added,
    an_unsuback_comes_also_when_nothing_was_deleted,
    many_filters_in_one_unsubscribe_are_as_many_requests,
    a_delivery_that_has_begun_is_completed,
];

/// [MQTT-3.10.4-1], [MQTT-3.10.4-1/3.1.1]
async fn the_subscription_with_exactly_that_filter_is_deleted(broker: Broker) {
    let [topic, plus, hash] = ["a/b", "a/+", "a/#"].map(|rest| broker.topic(rest));
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "client")).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for (filter, qos) in [(&topic, QoS::AtMostOnce), (&plus, QoS::AtLeastOnce), (&hash, QoS::ExactlyOnce)] {
            client.subscribe(filter, qos).await;
        }
        // None of these is one of the filters, though they match the same topics, or look alike.
        let others = [broker.topic("+/b"), broker.topic("a/b/"), broker.topic("A/b"), broker.topic("a/+/#")];
        for other in &others {
            client.unsubscribe_from(&[other]).await;
        }
        for (gone, left) in [(None, Some(QoS::ExactlyOnce)), (Some(&hash), Some(QoS::AtLeastOnce))]
            .into_iter()
            .chain([(Some(&plus), Some(QoS::AtMostOnce)), (Some(&topic), None)])
        {
            if let Some(gone) = gone {
                client.unsubscribe_from(&[gone]).await;
            }
            publisher.publish(&topic, b"x", QoS::ExactlyOnce).await;
            let Some(left) = left else { continue };
            assert_eq!(client.message(SOON).await.qos, left, "{version:?} after {gone:?}");
        }
        client.subscribe(&broker.topic("end"), QoS::ExactlyOnce).await;
        publisher.publish(&broker.topic("end"), b"end", QoS::ExactlyOnce).await;
        assert_eq!(client.messages_before(b"end").await, [], "{version:?}");
    }
}

/// [MQTT-3.10.4-2], [MQTT-3.10.4-2/3.1.1]
async fn behind_its_unsuback_nothing_is_added(broker: Broker) {
    for version in VERSIONS {
        let (topic, end) = (broker.topic("topic"), broker.topic("end"));
        for who in [broker.who(version, "clean"), broker.stays(version, &format!("stays{}", version.level()))] {
            let mut client = broker.connect(who).await;
            client.subscribe(&end, QoS::AtLeastOnce).await;
            for _ in 0..5 {
                client.subscribe(&topic, QoS::AtLeastOnce).await;
                client.unsubscribe(&topic).await;
                // On another node, where there are more.
                let mut publisher = broker.connect(broker.v5("publisher")).await;
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    publisher.publish(&topic, b"late", qos).await;
                }
                publisher.publish(&end, b"end", QoS::AtLeastOnce).await;
                assert_eq!(client.messages_before(b"end").await, [], "{version:?}");
            }
        }
    }
}

/// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.11.3-2], [MQTT-3.10.4-4/3.1.1], [MQTT-3.10.4-5/3.1.1]
async fn an_unsuback_comes_also_when_nothing_was_deleted(broker: Broker) {
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "client")).await;
        let unsuback = client.unsubscribe_from(&[&broker.topic("never")]).await;
        let expected = Vec::from_iter((version == Version::V5).then_some(ReasonCode::NoSubscriptionExisted));
        assert_eq!(unsuback.reasons, expected);
    }
}

/// [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT-3.11.3-2], [MQTT-3.10.4-6/3.1.1]
async fn many_filters_in_one_unsubscribe_are_as_many_requests(broker: Broker) {
    let [a, b, never, kept] = ["a", "b", "never", "kept"].map(|rest| broker.topic(rest));
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "client")).await;
        for filter in [&a, &b, &kept] {
            client.subscribe(filter, QoS::AtLeastOnce).await;
        }
        let unsuback = client.unsubscribe_from(&[&a, &never, "wrong/#/filter", &b]).await;
        if version == Version::V5 {
            let expected = [
                ReasonCode::Success,
                ReasonCode::NoSubscriptionExisted,
                ReasonCode::TopicFilterInvalid,
                ReasonCode::Success,
            ];
            assert_eq!(unsuback.reasons, expected);
        }
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for topic in [&a, &b] {
            publisher.publish(topic, b"x", QoS::AtLeastOnce).await;
        }
        publisher.publish(&kept, b"end", QoS::AtLeastOnce).await;
        assert_eq!(client.messages_before(b"end").await, [], "{version:?}");
    }
}

/// [MQTT-3.10.4-3], [MQTT-3.10.4-3/3.1.1]
async fn a_delivery_that_has_begun_is_completed(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        for who in [broker.who(version, "clean"), broker.stays(version, &format!("stays{}", version.level()))] {
            let mut client = broker.connect(who).await;
            client.subscribe(&topic, QoS::ExactlyOnce).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            publisher.publish(&topic, b"begun", QoS::ExactlyOnce).await;
            let id = client.unacknowledged().await.packet_id.expect("a packet identifier");
            client.unsubscribe(&topic).await;
            client.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
            assert_eq!(client.pubrel(id).await, ack(id), "{version:?}");
            client.send(&Packet::PubComp(ack(id))).await.expect("PUBCOMP is sent");
            client.ping().await;
        }
    }
}
