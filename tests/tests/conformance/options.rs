//! What a subscription was made with, and how long that holds.

use rollcall_proto::packet::{Publish, QoS, RetainHandling, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_tests::client::{RawClient, SOON, publication};

use crate::broker::Broker;
use crate::sessions::resume;

crate::cases![
    a_resumed_session_has_its_subscriptions_with_all_their_options,
    what_waits_for_a_session_was_chosen_by_its_options,
    what_is_retained_bears_the_identifier_of_its_new_subscription,
    no_local_on_one_of_two_subscriptions_concerns_that_one_alone,
];

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

async fn subscribe(client: &mut RawClient, filter: &str, options: SubscribeOptions, subscription_id: u32) {
    let properties = SubscribeProperties { subscription_id: Some(subscription_id), ..Default::default() };
    let suback = client.subscribe_with(&[(filter, options)], properties).await;
    assert_eq!(suback.reasons[0].byte(), options.qos as u8);
}

/// Own messages are not wanted, RETAIN is, and what is retained only while it is new.
fn chosen(qos: QoS) -> SubscribeOptions {
    SubscribeOptions { qos, no_local: true, retain_as_published: true, retain_handling: RetainHandling::SendIfNew }
}

fn ids(message: &Publish) -> Vec<u32> {
    message.properties.as_ref().map(|properties| properties.subscription_ids.clone()).unwrap_or_default()
}

/// [MQTT-3.1.2-5], [MQTT-3.3.1-13], [MQTT-3.3.4-3], [MQTT-3.8.3-3]
async fn a_resumed_session_has_its_subscriptions_with_all_their_options(broker: Broker) {
    let topic = broker.topic("kept");
    let stays = broker.stays(Version::V5, "stays");
    let mut client = broker.connect(stays.clone()).await;
    subscribe(&mut client, &topic, chosen(QoS::ExactlyOnce), 7).await;
    client.disconnect().await;
    let mut client = resume(&broker, &stays).await;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for qos in LEVELS {
        client.publish(&topic, b"own", qos).await;
        publisher.publish_with(Publish { retain: true, ..publication(topic.clone(), "kept", qos) }).await;
        let message = client.message(SOON).await;
        assert_eq!((&message.payload[..], message.qos, message.retain), (&b"kept"[..], qos, true));
        assert_eq!(ids(&message), [7]);
    }
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13], [MQTT-3.3.4-3], [MQTT-3.8.3-3]
async fn what_waits_for_a_session_was_chosen_by_its_options(broker: Broker) {
    for (name, as_published) in [("as", true), ("not", false)] {
        let topic = broker.topic(name);
        let stays = broker.stays(Version::V5, name);
        let mut client = broker.connect(stays.clone()).await;
        let options = SubscribeOptions { retain_as_published: as_published, ..chosen(QoS::ExactlyOnce) };
        subscribe(&mut client, &topic, options, 9).await;
        client.publish(&topic, b"own", QoS::AtLeastOnce).await;
        client.disconnect().await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish_with(Publish { retain: true, ..publication(topic.clone(), "kept", qos) }).await;
        }
        publisher.publish(&topic, b"end", QoS::AtLeastOnce).await;
        let came = resume(&broker, &stays).await.messages_before(b"end").await;
        let seen: Vec<_> = came.iter().map(|message| (message.qos, message.retain, ids(message))).collect();
        let expected = [QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (qos, as_published, vec![9]));
        assert_eq!(seen, expected);
    }
}

/// [MQTT-3.3.4-3]
async fn what_is_retained_bears_the_identifier_of_its_new_subscription(broker: Broker) {
    let topic = broker.topic("retained");
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    publisher.publish_with(Publish { retain: true, ..publication(topic.clone(), "kept", QoS::AtLeastOnce) }).await;
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(who).await;
        for (filter, subscription_id) in [(&topic, 3), (&broker.topic("+"), 4)] {
            subscribe(&mut client, filter, chosen(QoS::AtLeastOnce), subscription_id).await;
            let message = client.message(SOON).await;
            assert_eq!((ids(&message), message.retain), (vec![subscription_id], true));
        }
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-4], [MQTT-3.8.3-3]
async fn no_local_on_one_of_two_subscriptions_concerns_that_one_alone(broker: Broker) {
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut client = broker.connect(who).await;
        subscribe(&mut client, &broker.topic("a/b"), chosen(QoS::ExactlyOnce), 1).await;
        let any = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        subscribe(&mut client, &broker.topic("a/+"), any, 2).await;
        let mut other = broker.connect(broker.v5("other")).await;
        other.publish(&broker.topic("a/b"), b"of another", QoS::ExactlyOnce).await;
        let message = client.message(SOON).await;
        let mut both = ids(&message);
        both.sort_unstable();
        assert_eq!((message.qos, both), (QoS::ExactlyOnce, vec![1, 2]));
        client.publish(&broker.topic("a/b"), b"own", QoS::ExactlyOnce).await;
        let message = client.message(SOON).await;
        assert_eq!((&message.payload[..], message.qos, ids(&message)), (&b"own"[..], QoS::AtLeastOnce, vec![2]));
    }
}
