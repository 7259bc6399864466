//! Retained messages: what replaces them, who is sent them, and with which flag.

use rollcall_proto::packet::{Publish, QoS, RetainHandling, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_tests::client::{RawClient, SOON, publication};

use crate::broker::{Broker, VERSIONS};

crate::cases![
    a_retained_message_comes_to_later_subscribers_with_its_qos,
    a_retained_message_replaces_the_one_before_at_any_qos,
    an_empty_retained_message_is_delivered_and_leaves_nothing,
    a_message_without_retain_leaves_alone_what_is_retained,
    what_is_retained_outlives_the_session_of_its_publisher,
    a_subscription_says_when_it_wants_what_is_retained,
    a_live_message_has_the_retain_flag_only_where_that_is_asked_for,
    a_subscription_made_again_is_sent_what_is_retained_again,
    wildcards_find_every_retained_message_once,
    a_session_that_is_offline_right_after_its_suback_is_still_owed_what_is_retained,
];

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Retained; the retained message of that topic is another when this returns, whatever the QoS.
async fn retain(client: &mut RawClient, topic: &str, payload: &str, qos: QoS) {
    client.publish_with(Publish { retain: true, ..publication(topic, payload, qos) }).await;
    // At QoS 0 there is no acknowledgement; one behind it on the same connection says as much.
    client.publish_with(publication(topic, "", QoS::AtLeastOnce)).await;
}

fn options(retain_handling: RetainHandling) -> SubscribeOptions {
    SubscribeOptions { qos: QoS::ExactlyOnce, retain_handling, ..SubscribeOptions::default() }
}

/// What is retained for a filter: the payloads that come to a new subscription to it, behind which a last one comes.
async fn retained(broker: &Broker, version: Version, filter: &str) -> Vec<Publish> {
    let end = broker.topic("last/of/the/retained");
    let mut publisher = broker.connect(broker.v5("ends")).await;
    retain(&mut publisher, &end, "end", QoS::AtLeastOnce).await;
    let mut client = broker.connect(broker.who(version, "reads")).await;
    client.subscribe(filter, QoS::ExactlyOnce).await;
    client.subscribe(&end, QoS::ExactlyOnce).await;
    let found = client.messages_before(b"end").await;
    client.disconnect().await;
    found
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-9], [MQTT-3.3.1-5/3.1.1], [MQTT-3.3.1-6/3.1.1], [MQTT-3.3.1-8/3.1.1]
async fn a_retained_message_comes_to_later_subscribers_with_its_qos(broker: Broker) {
    for from in VERSIONS {
        let mut publisher = broker.connect(broker.who(from, "publisher")).await;
        for qos in LEVELS {
            let topic = broker.topic(&format!("{}/{qos:?}", from.name()));
            retain(&mut publisher, &topic, "first", qos).await;
            retain(&mut publisher, &topic, "kept", qos).await;
            for to in VERSIONS {
                let found = retained(&broker, to, &topic).await;
                let found: Vec<_> = found.iter().map(|m| (&m.payload[..], m.qos, m.retain, m.dup)).collect();
                assert_eq!(found, [(&b"kept"[..], qos, true, false)], "{from:?} to {to:?}");
            }
        }
    }
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-7/3.1.1]
async fn a_retained_message_replaces_the_one_before_at_any_qos(broker: Broker) {
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for before in LEVELS {
        for after in LEVELS {
            let topic = broker.topic(&format!("{before:?}/{after:?}"));
            retain(&mut publisher, &topic, "before", before).await;
            retain(&mut publisher, &topic, "after", after).await;
            let found = retained(&broker, Version::V311, &topic).await;
            let found: Vec<_> = found.iter().map(|message| (&message.payload[..], message.qos)).collect();
            assert_eq!(found, [(&b"after"[..], after)], "{before:?}, then {after:?}");
        }
    }
}

/// [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-10/3.1.1], [MQTT-3.3.1-11/3.1.1]
async fn an_empty_retained_message_is_delivered_and_leaves_nothing(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let mut publisher = broker.connect(broker.who(version, "publisher")).await;
        let mut subscriber = broker.connect(broker.who(version, "subscriber")).await;
        subscriber.subscribe(&topic, QoS::AtLeastOnce).await;
        for kept in ["", "something", ""] {
            publisher
                .publish_with(Publish { retain: true, ..publication(topic.clone(), kept, QoS::AtLeastOnce) })
                .await;
            let message = subscriber.message(SOON).await;
            assert_eq!((&message.payload[..], message.retain), (kept.as_bytes(), false));
            let found = retained(&broker, version, &topic).await.len();
            assert_eq!(found, usize::from(!kept.is_empty()), "{version:?} {kept:?}");
        }
    }
}

/// [MQTT-3.3.1-8], [MQTT-3.3.1-12/3.1.1]
async fn a_message_without_retain_leaves_alone_what_is_retained(broker: Broker) {
    for version in VERSIONS {
        let (topic, fresh) = (broker.topic(version.name()), broker.topic(&format!("fresh/{}", version.name())));
        let mut publisher = broker.connect(broker.who(version, "publisher")).await;
        retain(&mut publisher, &topic, "kept", QoS::AtLeastOnce).await;
        for qos in LEVELS {
            for payload in ["passing", ""] {
                publisher.publish(&topic, payload.as_bytes(), qos).await;
                publisher.publish(&fresh, payload.as_bytes(), qos).await;
            }
        }
        let found: Vec<_> =
            retained(&broker, version, &topic).await.into_iter().map(|message| message.payload).collect();
        assert_eq!(found, ["kept"], "{version:?}");
        assert_eq!(retained(&broker, version, &fresh).await, [], "{version:?}");
    }
}

/// [MQTT-3.1.2-7/3.1.1]
async fn what_is_retained_outlives_the_session_of_its_publisher(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        for connect in [broker.stays(version, "publisher"), broker.who(version, "publisher")] {
            let mut publisher = broker.connect(connect).await;
            retain(&mut publisher, &topic, "kept", QoS::AtLeastOnce).await;
            publisher.disconnect().await;
        }
        assert_eq!(retained(&broker, version, &topic).await.len(), 1, "{version:?}");
    }
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]
async fn a_subscription_says_when_it_wants_what_is_retained(broker: Broker) {
    let (topic, end) = (broker.topic("kept"), broker.topic("end"));
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    retain(&mut publisher, &topic, "kept", QoS::AtLeastOnce).await;
    retain(&mut publisher, &end, "end", QoS::AtLeastOnce).await;
    let mut client = broker.connect(broker.v5("subscriber")).await;
    for (handling, expected) in [
        (RetainHandling::DoNotSend, 0),
        (RetainHandling::SendIfNew, 0),
        (RetainHandling::Send, 1),
        (RetainHandling::SendIfNew, 0),
        (RetainHandling::Send, 1),
    ] {
        let filters = [(&*topic, options(handling)), (&*end, options(RetainHandling::Send))];
        client.subscribe_with(&filters, SubscribeProperties::default()).await;
        assert_eq!(client.messages_before(b"end").await.len(), expected, "{handling:?}");
    }
    client.unsubscribe(&topic).await;
    let filters = [(&*topic, options(RetainHandling::SendIfNew)), (&*end, options(RetainHandling::Send))];
    client.subscribe_with(&filters, SubscribeProperties::default()).await;
    assert_eq!(client.messages_before(b"end").await.len(), 1, "it is new again");
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13], [MQTT-3.3.1-9/3.1.1]
async fn a_live_message_has_the_retain_flag_only_where_that_is_asked_for(broker: Broker) {
    let topic = broker.topic("live");
    let mut subscribers = Vec::new();
    for retain_as_published in [false, true] {
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, retain_as_published, ..SubscribeOptions::default() };
        for connect in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
            let name = format!("{}{retain_as_published}", connect.client_id);
            let mut client =
                broker.connect(rollcall_proto::packet::Connect { client_id: name.into(), ..connect }).await;
            client.subscribe_with(&[(&topic, options)], SubscribeProperties::default()).await;
            subscribers.push((retain_as_published, client));
        }
    }
    for version in [Version::V31, Version::V311] {
        let mut client = broker.connect(broker.who(version, &format!("v{}", version.level()))).await;
        client.subscribe(&topic, QoS::AtLeastOnce).await;
        subscribers.push((false, client));
    }
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for qos in LEVELS {
        for retain in [false, true] {
            publisher.publish_with(Publish { retain, ..publication(topic.clone(), "x", qos) }).await;
            for (as_published, client) in &mut subscribers {
                let shown = client.message(SOON).await.retain;
                assert_eq!(shown, retain && *as_published, "{:?} {qos:?}", client.version());
            }
        }
    }
}

/// [MQTT-3.8.4-4], [MQTT-3.8.4-3/3.1.1]
async fn a_subscription_made_again_is_sent_what_is_retained_again(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        retain(&mut publisher, &topic, "kept", QoS::AtLeastOnce).await;
        let mut client = broker.connect(broker.who(version, "again")).await;
        for qos in LEVELS {
            client.subscribe(&topic, qos).await;
            let message = client.message(SOON).await;
            assert_eq!((message.qos, message.retain), (qos.min(QoS::AtLeastOnce), true), "{version:?}");
        }
    }
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-6/3.1.1]
async fn wildcards_find_every_retained_message_once(broker: Broker) {
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for rest in ["a", "a/b", "a/b/c", "a/x/c", "b"] {
        retain(&mut publisher, &broker.topic(rest), rest, QoS::AtLeastOnce).await;
    }
    for (filter, expected) in [
        ("a", &["a"][..]),
        ("a/#", &["a", "a/b", "a/b/c", "a/x/c"]),
        ("a/+", &["a/b"]),
        ("a/+/c", &["a/b/c", "a/x/c"]),
        ("+", &["a", "b"]),
        ("c/#", &[]),
    ] {
        let found = retained(&broker, Version::V311, &broker.topic(filter)).await;
        let mut found: Vec<_> = found.into_iter().map(|message| message.payload).collect();
        found.sort();
        assert_eq!(found, expected, "{filter}");
    }
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-6/3.1.1]
async fn a_session_that_is_offline_right_after_its_suback_is_still_owed_what_is_retained(broker: Broker) {
    const TOPICS: usize = 300;
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for number in 0..TOPICS {
        publisher.retain(&broker.topic(&format!("{number}")), b"kept").await;
    }
    for version in VERSIONS {
        let mut who = broker.who(version, "leaves");
        who.clean_start = false;
        who.properties.session_expiry = Some(60);
        let mut client = broker.connect(who.clone()).await;
        client.subscribe(&broker.topic("#"), QoS::AtLeastOnce).await;
        drop(client);
        let mut again = broker.connect(who).await;
        let mut missing: std::collections::BTreeSet<String> =
            (0..TOPICS).map(|number| broker.topic(&format!("{number}")).to_string()).collect();
        while !missing.is_empty() {
            missing.remove(&*again.message(SOON).await.topic);
        }
        again.disconnect().await;
    }
}
