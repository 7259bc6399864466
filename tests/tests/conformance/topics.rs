//! Which filters there are, and which topics they match.

use rollcall_proto::packet::{QoS, SubscribeOptions, Version};
use rollcall_proto::properties::SubscribeProperties;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::SOON;

use crate::broker::{Broker, VERSIONS};
use crate::bytes::{field, packet};
use crate::malformed::ends_the_connection;

crate::cases![
    a_filter_matches_the_topics_it_should_and_no_others,
    a_filter_that_is_none_is_refused_in_its_suback,
    an_empty_filter_is_refused,
    a_leading_wildcard_does_not_match_a_dollar_topic,
    nothing_is_normalised_in_matching,
    topics_and_filters_may_have_65535_bytes,
];

/// [MQTT-3.3.2-3], [MQTT-3.3.2-3/3.1.1]
async fn a_filter_matches_the_topics_it_should_and_no_others(broker: Broker) {
    const TOPICS: [&str; 9] = ["a", "a/", "a/b", "a/b/c", "a//c", "/a", "b", "b/a", "a/b/c/d"];
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for (version, (filter, expected)) in VERSIONS.into_iter().cycle().zip([
        ("a", &["a"][..]),
        ("a/", &["a/"]),
        ("a/b", &["a/b"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c", "a/b/c/d"]),
        ("a/b/#", &["a/b", "a/b/c", "a/b/c/d"]),
        ("+", &["a", "b"]),
        ("a/+", &["a/", "a/b"]),
        ("+/a", &["/a", "b/a"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+/+", &["a/", "a/b", "/a", "b/a"]),
        ("/+", &["/a"]),
        ("+/b/#", &["a/b", "a/b/c", "a/b/c/d"]),
        ("a/+/#", &["a/", "a/b", "a/b/c", "a//c", "a/b/c/d"]),
    ]) {
        let mut client = broker.connect(broker.who(version, "client")).await;
        client.subscribe(&broker.topic(filter), QoS::AtMostOnce).await;
        client.subscribe(&broker.topic("the/end"), QoS::AtMostOnce).await;
        for topic in TOPICS {
            publisher.publish(&broker.topic(topic), topic.as_bytes(), QoS::AtMostOnce).await;
        }
        publisher.publish(&broker.topic("the/end"), b"end", QoS::AtMostOnce).await;
        let came = client.messages_before(b"end").await;
        assert!(came.iter().all(|message| message.topic == broker.topic(&String::from_utf8_lossy(&message.payload))));
        let came: Vec<_> = came.into_iter().map(|message| message.payload).collect();
        assert_eq!(came, expected, "{filter} of {version:?}");
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.1-2/3.1.1], [MQTT-4.7.1-3/3.1.1]
async fn a_filter_that_is_none_is_refused_in_its_suback(broker: Broker) {
    for version in VERSIONS {
        let failed = if version == Version::V5 { ReasonCode::TopicFilterInvalid } else { ReasonCode::UnspecifiedError };
        let mut client = broker.connect(broker.who(version, "client")).await;
        for wrong in ["a#", "a/#/b", "#/", "##", "a/b#", "+#", "a+", "+a/b", "a/++/b", "a/+b"] {
            assert_eq!(client.subscribe(wrong, QoS::AtMostOnce).await, failed, "{wrong}");
        }
        for right in ["#", "+", "+/#", "+/+", "/+", "a/+/b", "/"] {
            let right = broker.topic(right);
            assert_eq!(client.subscribe(&right, QoS::AtMostOnce).await, ReasonCode::Success, "{right}");
        }
    }
}

/// [MQTT-4.7.3-1], [MQTT-4.7.3-1/3.1.1]
async fn an_empty_filter_is_refused(broker: Broker) {
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "client")).await;
        let filters = [("", SubscribeOptions::default()), (&*broker.topic("good"), SubscribeOptions::default())];
        let suback = client.subscribe_with(&filters, SubscribeProperties::default()).await;
        assert!(suback.reasons[0].is_error(), "{version:?}: {:?}", suback.reasons);
        assert_eq!(suback.reasons[1], ReasonCode::Success);
    }
}

/// [MQTT-4.7.2-1], [MQTT-4.7.2-1/3.1.1]
async fn a_leading_wildcard_does_not_match_a_dollar_topic(broker: Broker) {
    // Under a name of its own in the second level: the first is anybody's.
    let own = broker.id("dollar");
    for version in VERSIONS {
        for (filter, expected) in [
            (format!("+/{own}"), vec!["t"]),
            (format!("+/{own}/#"), vec!["t"]),
            (format!("$x/{own}"), vec!["$x"]),
            (format!("$x/{own}/#"), vec!["$x"]),
            (format!("$x/+/{own}"), vec![]),
        ] {
            let mut client = broker.connect(broker.who(version, "client")).await;
            client.subscribe(&filter, QoS::AtMostOnce).await;
            client.subscribe(&broker.topic("end"), QoS::AtMostOnce).await;
            let mut publisher = broker.connect(broker.v5("publisher")).await;
            for first in ["$x", "t"] {
                publisher.publish(&format!("{first}/{own}"), first.as_bytes(), QoS::AtMostOnce).await;
            }
            publisher.publish(&broker.topic("end"), b"end", QoS::AtMostOnce).await;
            let came: Vec<_> = client.messages_before(b"end").await.into_iter().map(|m| m.payload).collect();
            assert_eq!(came, expected, "{filter} of {version:?}");
        }
    }
}

/// [MQTT-4.7.3-4], [MQTT-4.7.3-4/3.1.1]
async fn nothing_is_normalised_in_matching(broker: Broker) {
    // Composed and decomposed, cases, spaces, a character without a meaning, and slashes.
    const ALIKE: [&str; 12] =
        ["\u{E9}", "e\u{301}", "E\u{301}", "e", "E", " e", "e ", "e/", "/e", "//e", "e\u{FFFE}", "e\u{200B}"];
    let mut clients = Vec::new();
    for (version, (number, name)) in VERSIONS.into_iter().cycle().zip(ALIKE.iter().enumerate()) {
        let mut client = broker.connect(broker.who(version, &format!("client{number}"))).await;
        client.subscribe(&broker.topic(name), QoS::AtMostOnce).await;
        client.subscribe(&broker.topic("end"), QoS::AtMostOnce).await;
        clients.push((name, client));
    }
    let mut publisher = broker.connect(broker.v5("publisher")).await;
    for name in ALIKE {
        publisher.publish(&broker.topic(name), name.as_bytes(), QoS::AtMostOnce).await;
    }
    publisher.publish(&broker.topic("end"), b"end", QoS::AtMostOnce).await;
    for (name, client) in &mut clients {
        let came: Vec<_> = client.messages_before(b"end").await.into_iter().map(|m| (m.topic, m.payload)).collect();
        assert_eq!(came, [(broker.topic(name), (**name).into())], "{name:?}");
    }
}

/// [MQTT-4.7.3-3], [MQTT-4.7.3-3/3.1.1]
async fn topics_and_filters_may_have_65535_bytes(broker: Broker) {
    for version in VERSIONS {
        let start = broker.topic(version.name());
        let longest = format!("{start}/{}", "x".repeat(65_535 - start.len() - 1));
        let mut client = broker.connect(broker.who(version, "client")).await;
        client.subscribe(&longest, QoS::AtMostOnce).await;
        client.publish(&longest, b"long", QoS::AtLeastOnce).await;
        let message = client.message(SOON).await;
        assert_eq!((&*message.topic, &message.payload[..]), (&*longest, &b"long"[..]));
        // A longer one has no length that could be written; with the greatest length and too few bytes it is cut off.
        let cut = packet(0x30, &[&field(&longest)[..1_000]]);
        ends_the_connection(&broker, version, &cut, &[ReasonCode::MalformedPacket]).await;
    }
}
