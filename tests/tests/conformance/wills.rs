//! What is published when a connection ends.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use rollcall_proto::packet::{Connect, Publish, QoS, SubscribeOptions, Version, Will};
use rollcall_proto::properties::{SubscribeProperties, WillProperties};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON};
use tokio::time::Instant;

use crate::broker::{Broker, STRICT, VERSIONS};

crate::cases![
    a_will_is_published_with_its_qos_when_the_connection_breaks,
    a_retained_will_is_retained_and_another_is_not,
    a_disconnect_takes_the_will_back,
    a_will_is_published_once,
    who_leaves_no_will_is_not_mourned,
    a_disconnect_with_will_publishes_it,
    a_client_that_breaks_the_rules_leaves_its_will,
    who_comes_back_within_the_delay_takes_the_will_back,
    a_will_waits_for_its_delay_or_for_the_end_of_the_session,
    the_properties_of_a_will_reach_its_heirs_in_their_order,
];

pub fn will(topic: impl Into<ByteString>, payload: &'static str, qos: QoS) -> Will {
    let payload = Bytes::from_static(payload.as_bytes());
    Will { topic: topic.into(), payload, qos, retain: false, properties: WillProperties::default() }
}

pub fn with_will(connect: Connect, will: Will) -> Connect {
    Connect { will: Some(will), ..connect }
}

fn delayed(seconds: u32, will: Will) -> Will {
    let properties = WillProperties { delay_interval: Some(seconds), ..WillProperties::default() };
    Will { properties, ..will }
}

/// Sees RETAIN as it was published.
async fn heir(broker: &Broker) -> RawClient {
    let mut heir = broker.connect(broker.v5("heir")).await;
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..Default::default() };
    heir.subscribe_with(&[(&broker.topic("will/#"), options)], SubscribeProperties::default()).await;
    heir
}

/// The will of one more client, whose connection breaks now: behind what was published before.
async fn last_will(broker: &Broker, heir: &mut RawClient) -> Vec<Publish> {
    let last = with_will(broker.v5("last"), will(broker.topic("will/last"), "last", QoS::AtLeastOnce));
    drop(broker.connect(last).await);
    heir.messages_before(b"last").await
}

/// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.1.2-9], [MQTT-3.1.2-12], [MQTT-3.1.2-8/3.1.1], [MQTT-3.1.2-9/3.1.1],
/// [MQTT-3.1.2-14/3.1.1]
async fn a_will_is_published_with_its_qos_when_the_connection_breaks(broker: Broker) {
    let mut heir = heir(&broker).await;
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let topic = broker.topic(&format!("will/{}/{qos:?}", version.name()));
            let client = broker.connect(with_will(broker.who(version, "dies"), will(topic.clone(), "x", qos))).await;
            drop(client);
            let message = heir.message(SOON).await;
            assert_eq!((message.topic, message.qos, &message.payload[..]), (topic, qos, &b"x"[..]), "{version:?}");
        }
    }
}

/// [MQTT-3.1.2-14], [MQTT-3.1.2-15], [MQTT-3.1.2-16/3.1.1], [MQTT-3.1.2-17/3.1.1]
async fn a_retained_will_is_retained_and_another_is_not(broker: Broker) {
    let mut heir = heir(&broker).await;
    for version in VERSIONS {
        let topics = [false, true].map(|retain| broker.topic(&format!("will/{}/{retain}", version.name())));
        for (topic, retain) in topics.iter().zip([false, true]) {
            let will = Will { retain, ..will(topic.clone(), "left", QoS::AtLeastOnce) };
            drop(broker.connect(with_will(broker.who(version, "dies"), will)).await);
            assert_eq!(heir.message(SOON).await.retain, retain, "{version:?}");
        }
        let mut late = broker.connect(broker.v5("late")).await;
        for topic in &topics {
            late.subscribe(topic, QoS::AtLeastOnce).await;
        }
        let message = late.message(SOON).await;
        assert_eq!((&message.topic, message.retain), (&topics[1], true), "{version:?}");
        late.disconnect().await;
    }
}

/// [MQTT-3.1.2-10], [MQTT-3.14.4-3], [MQTT-3.1.2-10/3.1.1], [MQTT-3.14.4-3/3.1.1]
async fn a_disconnect_takes_the_will_back(broker: Broker) {
    let mut heir = heir(&broker).await;
    for version in VERSIONS {
        for connect in [broker.who(version, "calm"), broker.stays(version, "stays")] {
            let will = will(broker.topic("will/calm"), "no", QoS::AtLeastOnce);
            broker.connect(with_will(connect, will)).await.disconnect().await;
        }
    }
    assert_eq!(last_will(&broker, &mut heir).await, []);
}

/// [MQTT-3.1.2-10], [MQTT-3.1.2-10/3.1.1], [MQTT-3.1.2-12/3.1.1]
async fn a_will_is_published_once(broker: Broker) {
    let mut heir = heir(&broker).await;
    for version in STRICT {
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        drop(broker.connect(with_will(stays.clone(), will(broker.topic("will/once"), "x", QoS::AtLeastOnce))).await);
        assert_eq!(heir.message(SOON).await.payload, "x");
        // The session goes on without one.
        drop(broker.connect(stays.clone()).await);
        let mut client = broker.connect(stays).await;
        client.ping().await;
        assert_eq!(last_will(&broker, &mut heir).await, [], "{version:?}");
    }
}

/// [MQTT-3.1.2-12/3.1.1]
async fn who_leaves_no_will_is_not_mourned(broker: Broker) {
    let mut everything = broker.connect(broker.v5("everything")).await;
    everything.subscribe(&broker.topic("#"), QoS::AtLeastOnce).await;
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "dies")).await;
        client.subscribe(&broker.topic("own"), QoS::AtLeastOnce).await;
        drop(client);
    }
    assert_eq!(last_will(&broker, &mut everything).await, []);
}

/// [MQTT-3.1.2-8]
async fn a_disconnect_with_will_publishes_it(broker: Broker) {
    let mut heir = heir(&broker).await;
    let asks = with_will(broker.v5("asks"), will(broker.topic("will/asked"), "x", QoS::AtLeastOnce));
    broker.connect(asks).await.disconnect_with(ReasonCode::DisconnectWithWill).await;
    assert_eq!(heir.message(SOON).await.topic, broker.topic("will/asked"));
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-8/3.1.1]
async fn a_client_that_breaks_the_rules_leaves_its_will(broker: Broker) {
    let mut heir = heir(&broker).await;
    for version in VERSIONS {
        let topic = broker.topic(&format!("will/{}", version.name()));
        let clumsy = with_will(broker.who(version, "clumsy"), will(topic.clone(), "x", QoS::AtLeastOnce));
        let mut client = broker.connect(clumsy).await;
        client.send_raw(&[0x00, 0x00]).await.expect("bytes are sent");
        client.closed(SOON).await;
        assert_eq!(heir.message(SOON).await.topic, topic);
    }
}

/// [MQTT-3.1.3-9], [MQTT-3.1.2-8]
async fn who_comes_back_within_the_delay_takes_the_will_back(broker: Broker) {
    let mut heir = heir(&broker).await;
    let delayed = |name| delayed(2, will(broker.topic("will/delayed"), name, QoS::AtLeastOnce));
    let stays = broker.stays(Version::V5, "back");
    drop(broker.connect(with_will(stays.clone(), delayed("no"))).await);
    let mut back = broker.connect(stays).await;
    back.ping().await;
    // This one is due behind the other.
    drop(broker.connect(with_will(broker.stays(Version::V5, "gone"), delayed("yes"))).await);
    assert_eq!(heir.messages_before(b"yes").await, []);
}

/// [MQTT-3.1.2-8]
async fn a_will_waits_for_its_delay_or_for_the_end_of_the_session(broker: Broker) {
    // A second of the log, whose clock runs at most one per cent fast.
    const DELAY: Duration = Duration::from_millis(990);
    let mut heir = heir(&broker).await;
    let short = delayed(3_600, will(broker.topic("will/short"), "x", QoS::AtLeastOnce));
    drop(broker.connect(with_will(broker.v5("short"), short)).await);
    assert_eq!(heir.message(SOON).await.topic, broker.topic("will/short"), "no session to wait for");
    let long = delayed(1, will(broker.topic("will/long"), "x", QoS::AtLeastOnce));
    let client = broker.connect(with_will(broker.stays(Version::V5, "long"), long)).await;
    let died = Instant::now();
    drop(client);
    assert_eq!(heir.message(SOON).await.topic, broker.topic("will/long"));
    assert!(died.elapsed() >= DELAY, "published after {:?}", died.elapsed());
}

/// [MQTT-3.1.3-10]
async fn the_properties_of_a_will_reach_its_heirs_in_their_order(broker: Broker) {
    let mut heir = heir(&broker).await;
    let user: Vec<(ByteString, ByteString)> =
        [("b", "2"), ("a", "1"), ("b", "2"), ("", "")].map(|(name, value)| (name.into(), value.into())).into();
    let properties = WillProperties {
        payload_format: Some(true),
        content_type: Some("text/plain".into()),
        response_topic: Some("reply".into()),
        correlation_data: Some(Bytes::from_static(&[0, 255])),
        user: user.clone(),
        ..WillProperties::default()
    };
    let will = Will { properties, ..will(broker.topic("will/properties"), "x", QoS::AtMostOnce) };
    drop(broker.connect(with_will(broker.v5("dies"), will)).await);
    let properties = *heir.message(SOON).await.properties.expect("properties");
    assert_eq!(properties.user, user);
    assert_eq!(properties.payload_format, Some(true));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.response_topic.as_deref(), Some("reply"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&[0, 255][..]));
}
