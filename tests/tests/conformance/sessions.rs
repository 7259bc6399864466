//! What outlives a connection, and what does not.

use rollcall_proto::packet::{ConnAck, Connect, Packet, QoS, Version};
use rollcall_proto::properties::DisconnectProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON};

use crate::broker::{Broker, STRICT, VERSIONS};

crate::cases![
    a_session_is_there_when_its_client_comes_back,
    a_clean_start_discards_the_session_there_was,
    a_session_that_was_never_there_is_not_present,
    what_was_published_meanwhile_waits_for_the_session,
    a_session_without_expiry_ends_with_its_connection,
    a_disconnect_can_change_how_long_the_session_lasts,
    every_session_with_a_matching_subscription_gets_the_message,
];

/// Connects, subscribes at QoS 2 and leaves.
pub async fn leave_a_session(broker: &Broker, connect: &Connect, filter: &str) {
    let mut client = broker.connect(connect.clone()).await;
    client.subscribe(filter, QoS::ExactlyOnce).await;
    client.disconnect().await;
}

/// Comes back to a session that must be there.
pub async fn resume(broker: &Broker, connect: &Connect) -> RawClient {
    let (client, connack) = broker.open(connect.clone()).await;
    // 3.1 has no such flag.
    let present = connack.session_present || connect.version == Version::V31;
    assert_eq!((connack.reason, present), (ReasonCode::Success, true), "{}", connect.client_id);
    client
}

/// [MQTT-3.1.2-5], [MQTT-3.1.2-23], [MQTT-3.1.3-2], [MQTT-3.2.2-3], [MQTT-3.1.2-4/3.1.1], [MQTT-3.1.3-2/3.1.1],
/// [MQTT-3.2.2-2/3.1.1], [MQTT-4.1.0-1/3.1.1]
async fn a_session_is_there_when_its_client_comes_back(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, "stays");
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for broken in [false, true] {
            let mut client = resume(&broker, &stays).await;
            publisher.publish(&topic, b"live", QoS::AtMostOnce).await;
            assert_eq!(client.message(SOON).await.payload, "live", "the subscription is there");
            if broken { drop(client) } else { client.disconnect().await }
        }
        let mut client = resume(&broker, &stays).await;
        client.unsubscribe(&topic).await;
        client.disconnect().await;
        // For the next version, which has the same client id.
        broker.connect(broker.who(version, "stays")).await.disconnect().await;
    }
}

/// [MQTT-3.1.2-4], [MQTT-3.1.4-4], [MQTT-3.2.2-2], [MQTT-3.1.2-6/3.1.1], [MQTT-3.1.4-3/3.1.1], [MQTT-3.2.2-1/3.1.1]
async fn a_clean_start_discards_the_session_there_was(broker: Broker) {
    for version in VERSIONS {
        let (topic, end) = (broker.topic(version.name()), broker.topic("end"));
        let stays = broker.stays(version, "stays");
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        publisher.publish(&topic, b"waits in vain", QoS::AtLeastOnce).await;
        let clean = Connect { clean_start: true, ..stays.clone() };
        let (mut client, ConnAck { session_present, .. }) = broker.open(clean).await;
        assert!(!session_present, "{version:?}");
        client.subscribe(&end, QoS::AtLeastOnce).await;
        publisher.publish(&topic, b"for nobody", QoS::AtLeastOnce).await;
        publisher.publish(&end, b"end", QoS::AtLeastOnce).await;
        assert_eq!(client.messages_before(b"end").await, [], "{version:?}");
        client.disconnect().await;
    }
}

/// [MQTT-3.1.2-6], [MQTT-3.2.2-3], [MQTT-3.1.2-4/3.1.1], [MQTT-3.2.2-3/3.1.1]
async fn a_session_that_was_never_there_is_not_present(broker: Broker) {
    for version in STRICT {
        let stays = broker.stays(version, &format!("new{}", version.level()));
        let (client, connack) = broker.open(stays.clone()).await;
        assert_eq!((connack.reason, connack.session_present), (ReasonCode::Success, false), "{version:?}");
        client.disconnect().await;
        resume(&broker, &stays).await.disconnect().await;
    }
}

/// [MQTT-4.5.0-1], [MQTT-3.1.2-5/3.1.1], [MQTT-4.5.0-1/3.1.1]
async fn what_was_published_meanwhile_waits_for_the_session(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let stays = broker.stays(version, &format!("stays{}", version.level()));
        leave_a_session(&broker, &stays, &topic).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for (payload, qos) in [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce), ("end", QoS::AtLeastOnce)] {
            publisher.publish(&topic, payload.as_bytes(), qos).await;
        }
        let came = resume(&broker, &stays).await.messages_before(b"end").await;
        let came: Vec<_> = came.into_iter().map(|message| (message.qos, message.payload)).collect();
        assert_eq!(came, [(QoS::AtLeastOnce, "1".into()), (QoS::ExactlyOnce, "2".into())], "{version:?}");
    }
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2], [MQTT-3.1.2-6/3.1.1]
async fn a_session_without_expiry_ends_with_its_connection(broker: Broker) {
    for (version, session_expiry) in [(Version::V5, None), (Version::V5, Some(0)), (Version::V311, None)] {
        let mut ends = broker.who(version, "ends");
        ends.properties.session_expiry = session_expiry;
        leave_a_session(&broker, &ends, &broker.topic("ends")).await;
        let (client, connack) = broker.open(Connect { clean_start: false, ..ends }).await;
        assert!(!connack.session_present, "{version:?} {session_expiry:?}");
        client.disconnect().await;
        broker.connect(broker.who(version, "ends")).await.disconnect().await;
    }
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]
async fn a_disconnect_can_change_how_long_the_session_lasts(broker: Broker) {
    let disconnect = |session_expiry| {
        let properties = DisconnectProperties { session_expiry: Some(session_expiry), ..Default::default() };
        Packet::Disconnect(Box::new(rollcall_proto::packet::Disconnect { reason: ReasonCode::Success, properties }))
    };
    let stays = broker.stays(Version::V5, "stays");
    for (session_expiry, present) in [(7200, true), (0, false)] {
        let mut client = broker.connect(stays.clone()).await;
        client.send(&disconnect(session_expiry)).await.expect("DISCONNECT is sent");
        assert_eq!(client.closed(SOON).await, None);
        let (client, connack) = broker.open(stays.clone()).await;
        assert_eq!(connack.session_present, present, "after {session_expiry} seconds were asked for");
        client.disconnect().await;
    }
    // What was to end with its connection cannot be made to stay.
    let mut client = broker.connect(broker.v5("ends")).await;
    client.send(&disconnect(10)).await.expect("DISCONNECT is sent");
    let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
    assert_eq!(told, Some(ReasonCode::ProtocolError));
}

/// [MQTT-4.5.0-1], [MQTT-4.5.0-1/3.1.1]
async fn every_session_with_a_matching_subscription_gets_the_message(broker: Broker) {
    let mut live = Vec::new();
    for version in VERSIONS {
        for (name, filter) in [("name", "to/all"), ("plus", "to/+"), ("hash", "#"), ("other", "to/none")] {
            let connect = broker.who(version, &format!("{name}{}", version.level()));
            let mut client = broker.connect(connect).await;
            client.subscribe(&broker.topic(filter), QoS::AtLeastOnce).await;
            client.subscribe(&broker.topic("end"), QoS::AtLeastOnce).await;
            live.push((name, client));
        }
    }
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    publisher.publish(&broker.topic("to/all"), b"all", QoS::AtLeastOnce).await;
    publisher.publish(&broker.topic("end"), b"end", QoS::AtLeastOnce).await;
    for (name, client) in &mut live {
        let came = client.messages_before(b"end").await.len();
        assert_eq!(came, usize::from(*name != "other"), "{name} {:?}", client.version());
    }
}
