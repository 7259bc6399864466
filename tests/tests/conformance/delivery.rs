//! Who is sent a message, how often and in which order.

use rollcall_proto::packet::{QoS, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_tests::client::{RawClient, SOON};

use crate::broker::{Broker, VERSIONS};

crate::cases![
    messages_of_a_publisher_stay_in_order,
    overlapping_subscriptions_deliver_once_with_the_highest_qos,
    a_message_bears_the_identifiers_of_all_its_subscriptions,
    no_local_keeps_a_clients_own_messages_from_it,
    one_client_may_publish_what_it_subscribes_to,
];

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// [MQTT-4.6.0-5], [MQTT-4.6.0-6], [MQTT-4.6.0-5/3.1.1], [MQTT-4.6.0-6/3.1.1]
async fn messages_of_a_publisher_stay_in_order(broker: Broker) {
    const MESSAGES: u32 = 300;
    for qos in LEVELS {
        let topic = broker.topic(&format!("{qos:?}"));
        let mut subscribers = Vec::new();
        for version in VERSIONS {
            for (name, who) in [("clean", broker.who(version, "")), ("stays", broker.stays(version, ""))] {
                let client_id = broker.id(&format!("{name}{}{qos:?}", version.level())).into();
                let mut client = broker.connect(rollcall_proto::packet::Connect { client_id, ..who }).await;
                client.subscribe(&topic, qos).await;
                subscribers.push(client);
            }
        }
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        let publishing = tokio::spawn(async move {
            for number in 0..MESSAGES {
                publisher.publish(&topic, &number.to_be_bytes(), qos).await;
            }
        });
        for client in &mut subscribers {
            for number in 0..MESSAGES {
                assert_eq!(client.message(SOON).await.payload, number.to_be_bytes()[..], "{:?}", client.version());
            }
        }
        publishing.await.expect("all were published");
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.5-1/3.1.1]
async fn overlapping_subscriptions_deliver_once_with_the_highest_qos(broker: Broker) {
    let filters = ["over/lap", "over/+", "over/#", "+/lap"];
    for version in VERSIONS {
        for who in [broker.who(version, "clean"), broker.stays(version, &format!("stays{}", version.level()))] {
            let mut client = broker.connect(who).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            for (filter, qos) in filters.into_iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) {
                client.subscribe(&broker.topic(filter), qos).await;
                publisher.publish(&broker.topic("over/lap"), b"x", QoS::ExactlyOnce).await;
                publisher.publish(&broker.topic("over/lap"), b"end", QoS::ExactlyOnce).await;
                let mut came = client.messages_before(b"end").await;
                assert_eq!(came.len(), 1, "one copy");
                assert_eq!(came.remove(0).qos, qos, "{version:?}");
            }
        }
    }
}

async fn subscribe(client: &mut RawClient, filter: &str, qos: QoS, subscription_id: Option<u32>) {
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    let properties = SubscribeProperties { subscription_id, ..SubscribeProperties::default() };
    client.subscribe_with(&[(filter, options)], properties).await;
}

/// [MQTT-3.3.4-3], [MQTT-3.3.4-4]
async fn a_message_bears_the_identifiers_of_all_its_subscriptions(broker: Broker) {
    const LARGEST: u32 = 268_435_455;
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(who).await;
        subscribe(&mut client, &broker.topic("a/b"), QoS::AtMostOnce, Some(1)).await;
        subscribe(&mut client, &broker.topic("a/+"), QoS::ExactlyOnce, Some(LARGEST)).await;
        subscribe(&mut client, &broker.topic("a/#"), QoS::AtLeastOnce, None).await;
        let mut publisher = broker.connect(broker.who(Version::V311, "publisher")).await;
        for qos in LEVELS {
            for (topic, expected) in [("a/b", &[1, LARGEST][..]), ("a/c", &[LARGEST]), ("a/b/c", &[])] {
                publisher.publish(&broker.topic(topic), b"x", qos).await;
                let message = client.message(SOON).await;
                let mut ids = message.properties.unwrap_or_default().subscription_ids;
                ids.sort_unstable();
                assert_eq!(ids, expected, "{topic} {qos:?}");
            }
        }
    }
}

/// [MQTT-3.8.3-3]
async fn no_local_keeps_a_clients_own_messages_from_it(broker: Broker) {
    let topic = broker.topic("own");
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, no_local: true, ..SubscribeOptions::default() };
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(who.clone()).await;
        client.subscribe_with(&[(&topic, options)], SubscribeProperties::default()).await;
        for qos in LEVELS {
            client.publish(&topic, b"own", qos).await;
            broker.connect(broker.v5("other")).await.publish(&topic, b"end", qos).await;
            assert_eq!(client.messages_before(b"end").await, [], "{qos:?}");
        }
        client.disconnect().await;
    }
}

/// [MQTT-4.5.0-1], [MQTT-4.5.0-1/3.1.1]
async fn one_client_may_publish_what_it_subscribes_to(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let mut client = broker.connect(broker.who(version, "client")).await;
        client.subscribe(&topic, QoS::ExactlyOnce).await;
        for qos in LEVELS {
            client.publish(&topic, b"own", qos).await;
            let message = client.message(SOON).await;
            assert_eq!((message.qos, &message.payload[..]), (qos, &b"own"[..]), "{version:?}");
        }
    }
}
