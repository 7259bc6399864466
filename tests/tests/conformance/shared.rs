//! Shared subscriptions.

use rollcall_proto::packet::{Ack, Packet, QoS, RetainHandling, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON, ack, publication};

use crate::broker::{Broker, VERSIONS};
use crate::bytes::{field, packet};
use crate::malformed::ends_the_connection;
use crate::sessions::resume;

crate::cases![
    a_shared_filter_that_is_none_is_refused_in_its_suback,
    no_local_on_a_shared_subscription_ends_the_connection,
    each_message_goes_to_one_member_at_that_members_qos,
    a_qos_2_delivery_that_has_begun_waits_for_its_member,
    a_qos_2_delivery_that_has_begun_goes_to_nobody_else_when_its_session_ends,
    a_message_that_a_member_refuses_goes_to_nobody_else,
    what_is_retained_is_not_sent_to_a_shared_subscription,
];

/// A member of the case's one group.
async fn join(broker: &Broker, client: &mut RawClient, topic: &str, qos: QoS) {
    let granted = client.subscribe(&format!("$share/{}/{topic}", broker.id("group")), qos).await;
    assert_eq!(granted.byte(), qos as u8);
}

/// Nothing has come to that client but what is published to it alone now.
async fn nothing_came(broker: &Broker, client: &mut RawClient) {
    let own = broker.topic("own/of/the/other");
    client.subscribe(&own, QoS::AtLeastOnce).await;
    broker.connect(broker.v5("ends")).await.publish(&own, b"end", QoS::AtLeastOnce).await;
    assert_eq!(client.messages_before(b"end").await, []);
}

/// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
async fn a_shared_filter_that_is_none_is_refused_in_its_suback(broker: Broker) {
    for version in VERSIONS {
        let failed = if version == Version::V5 { ReasonCode::TopicFilterInvalid } else { ReasonCode::UnspecifiedError };
        let mut client = broker.connect(broker.who(version, "client")).await;
        for wrong in ["$share/", "$share/g", "$share/g/", "$share//t", "$share/g+/t", "$share/#/t", "$share/+/t"] {
            assert_eq!(client.subscribe(wrong, QoS::AtMostOnce).await, failed, "{wrong}");
        }
        let topic = broker.topic(version.name());
        join(&broker, &mut client, &topic, QoS::AtMostOnce).await;
        broker.connect(broker.v5("publisher")).await.publish(&topic, b"x", QoS::AtMostOnce).await;
        assert_eq!(client.message(SOON).await.topic, topic);
    }
}

/// [MQTT-3.8.3-4]
async fn no_local_on_a_shared_subscription_ends_the_connection(broker: Broker) {
    let shared = field(format!("$share/group/{}", broker.topic("local")));
    for options in [0x04, 0x05, 0x06] {
        let bytes = packet(0x82, &[&[0, 1, 0], &shared, &[options]]);
        ends_the_connection(&broker, Version::V5, &bytes, &[ReasonCode::ProtocolError]).await;
    }
}

/// [MQTT-4.8.2-3]
async fn each_message_goes_to_one_member_at_that_members_qos(broker: Broker) {
    const MESSAGES: usize = 30;
    let topic = broker.topic("shared");
    let mut members = Vec::new();
    for (name, qos) in [("zero", QoS::AtMostOnce), ("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce)] {
        let mut member = broker.connect(broker.v5(name)).await;
        join(&broker, &mut member, &topic, qos).await;
        member.subscribe(&broker.topic("end"), QoS::AtMostOnce).await;
        members.push((qos, member));
    }
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish(&topic, number.to_string().as_bytes(), QoS::ExactlyOnce).await;
    }
    publisher.publish(&broker.topic("end"), b"end", QoS::AtMostOnce).await;
    let mut came = Vec::new();
    for (qos, member) in &mut members {
        for message in member.messages_before(b"end").await {
            assert_eq!(message.qos, *qos);
            came.push(String::from_utf8_lossy(&message.payload).parse::<usize>().expect("a number"));
        }
    }
    came.sort_unstable();
    assert_eq!(came, (0..MESSAGES).collect::<Vec<_>>());
}

/// [MQTT-4.8.2-4]
async fn a_qos_2_delivery_that_has_begun_waits_for_its_member(broker: Broker) {
    let topic = broker.topic("begun");
    let stays = broker.stays(Version::V5, "member");
    let mut member = broker.connect(stays.clone()).await;
    join(&broker, &mut member, &topic, QoS::ExactlyOnce).await;
    broker.connect(broker.v5("publisher")).await.publish(&topic, b"begun", QoS::ExactlyOnce).await;
    let id = member.unacknowledged().await.packet_id.expect("a packet identifier");
    let mut other = broker.connect(broker.v5("other")).await;
    join(&broker, &mut other, &topic, QoS::ExactlyOnce).await;
    member.disconnect().await;
    nothing_came(&broker, &mut other).await;
    let mut member = resume(&broker, &stays).await;
    let again = member.unacknowledged().await;
    assert_eq!((again.packet_id, &again.payload[..]), (Some(id), &b"begun"[..]));
    member.send(&Packet::PubRec(ack(id))).await.expect("PUBREC is sent");
    member.pubrel(id).await;
}

/// [MQTT-4.8.2-5]
async fn a_qos_2_delivery_that_has_begun_goes_to_nobody_else_when_its_session_ends(broker: Broker) {
    let topic = broker.topic("ends");
    for stays in [false, true] {
        let who = if stays { broker.stays(Version::V5, "stays") } else { broker.v5("clean") };
        let mut member = broker.connect(who.clone()).await;
        join(&broker, &mut member, &topic, QoS::ExactlyOnce).await;
        broker.connect(broker.v5("publisher")).await.publish(&topic, b"begun", QoS::ExactlyOnce).await;
        member.unacknowledged().await;
        let mut other = broker.connect(broker.v5("other")).await;
        join(&broker, &mut other, &topic, QoS::ExactlyOnce).await;
        member.disconnect().await;
        if stays {
            let clean = rollcall_proto::packet::Connect { clean_start: true, ..who };
            broker.connect(clean).await.disconnect().await;
        }
        nothing_came(&broker, &mut other).await;
        other.disconnect().await;
    }
}

/// [MQTT-4.8.2-6]
async fn a_message_that_a_member_refuses_goes_to_nobody_else(broker: Broker) {
    let topic = broker.topic("refused");
    for who in [broker.v5("clean"), broker.stays(Version::V5, "stays")] {
        let mut member = broker.connect(who).await;
        join(&broker, &mut member, &topic, QoS::ExactlyOnce).await;
        let mut publisher = broker.connect(broker.v5("publisher")).await;
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish(&topic, b"unwanted", qos).await;
        }
        let mut other = broker.connect(broker.v5("other")).await;
        join(&broker, &mut other, &topic, QoS::ExactlyOnce).await;
        for _ in 0..2 {
            let message = member.unacknowledged().await;
            let packet_id = message.packet_id.expect("a packet identifier");
            let refusal = Ack { packet_id, reason: ReasonCode::QuotaExceeded, properties: None };
            let refusal =
                if message.qos == QoS::ExactlyOnce { Packet::PubRec(refusal) } else { Packet::PubAck(refusal) };
            member.send(&refusal).await.expect("the refusal is sent");
        }
        member.ping().await;
        member.disconnect().await;
        nothing_came(&broker, &mut other).await;
        other.disconnect().await;
    }
}

async fn what_is_retained_is_not_sent_to_a_shared_subscription(broker: Broker) {
    let topic = broker.topic("retained");
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    let mut kept = publication(topic.clone(), "kept", QoS::AtLeastOnce);
    kept.retain = true;
    publisher.publish_with(kept).await;
    let mut member = broker.connect(broker.v5("member")).await;
    join(&broker, &mut member, &topic, QoS::AtLeastOnce).await;
    // The same by a subscription of its own comes behind it, if it came.
    let options =
        SubscribeOptions { qos: QoS::AtLeastOnce, retain_handling: RetainHandling::Send, ..Default::default() };
    member.subscribe_with(&[(&topic, options)], SubscribeProperties::default()).await;
    assert_eq!(member.message(SOON).await.payload, "kept");
    member.ping().await;
    assert_eq!(member.messages_set_aside().count(), 0, "it came twice");
}
