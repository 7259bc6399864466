//! Clients that fall silent. Time is what these cases are about, so they measure it.

use std::time::Duration;

use rollcall_proto::packet::{Connect, Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{RawClient, SOON};
use tokio::time::{Instant, sleep};

use crate::broker::{Broker, Listener, VERSIONS};
use crate::wills::{will, with_will};

crate::cases![
    a_silent_client_is_closed_after_one_and_a_half_keep_alives,
    a_client_that_sends_anything_is_kept,
    a_client_without_keep_alive_may_be_silent,
    a_keep_alive_that_the_listener_does_not_allow_is_replaced,
    a_ping_is_answered_in_every_version,
];

const KEEP_ALIVE: u16 = 1;
const ALLOWED: Duration = Duration::from_millis(1_500);

fn kept_alive(connect: Connect) -> Connect {
    Connect { keep_alive: KEEP_ALIVE, ..connect }
}

/// [MQTT-3.1.2-22], [MQTT-3.2.2-22], [MQTT-3.1.2-24/3.1.1]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives(broker: Broker) {
    for version in VERSIONS {
        let topic = broker.topic(version.name());
        let mut heir = broker.connect(broker.v5("heir")).await;
        heir.subscribe(&topic, QoS::AtMostOnce).await;
        let silent = with_will(kept_alive(broker.who(version, "silent")), will(topic.clone(), "x", QoS::AtMostOnce));
        let (mut client, connack) = broker.open(silent).await;
        assert_eq!(connack.properties.server_keep_alive, None);
        client.ping().await;
        let silent_since = Instant::now();
        let told = client.closed(SOON).await.map(|disconnect| disconnect.reason);
        let took = silent_since.elapsed();
        assert_eq!(told, (version == Version::V5).then_some(ReasonCode::KeepAliveTimeout));
        // The broker's clock began a moment before ours.
        assert!(took > ALLOWED - Duration::from_millis(100), "{version:?} closed after {took:?}");
        assert!(took < 2 * ALLOWED, "{version:?} closed after {took:?}");
        // As if the network had failed.
        assert_eq!(heir.message(SOON).await.topic, topic);
    }
}

/// [MQTT-3.1.2-22], [MQTT-3.12.4-1], [MQTT-3.1.2-24/3.1.1], [MQTT-3.12.4-1/3.1.1]
async fn a_client_that_sends_anything_is_kept(broker: Broker) {
    let mut clients = Vec::new();
    for version in VERSIONS {
        for name in ["pings", "publishes"] {
            let who = kept_alive(broker.who(version, &format!("{name}{}", version.level())));
            clients.push((name, broker.connect(who).await));
        }
    }
    let began = Instant::now();
    while began.elapsed() < 2 * ALLOWED {
        sleep(ALLOWED / 3).await;
        for (name, client) in &mut clients {
            match *name {
                "pings" => client.ping().await,
                _ => client.publish(&broker.topic("any"), b"x", QoS::AtMostOnce).await,
            }
        }
    }
    for (name, client) in &mut clients {
        still_there(client, name).await;
    }
}

async fn still_there(client: &mut RawClient, name: &str) {
    client.send(&Packet::PingReq).await.unwrap_or_else(|error| panic!("{name} {:?}: {error}", client.version()));
    client.wait_for("PINGRESP", SOON, |packet| matches!(packet, Packet::PingResp).then_some(())).await;
}

/// [MQTT-3.2.2-22]
async fn a_client_without_keep_alive_may_be_silent(broker: Broker) {
    let mut clients = Vec::new();
    for version in VERSIONS {
        clients.push(broker.connect(broker.who(version, &format!("silent{}", version.level()))).await);
    }
    sleep(2 * ALLOWED).await;
    for client in &mut clients {
        still_there(client, "silent").await;
    }
}

/// [MQTT-3.2.2-22]
async fn a_keep_alive_that_the_listener_does_not_allow_is_replaced(broker: Broker) {
    let narrow = broker.by(Listener::Narrow);
    for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (30, None)] {
        let (_, connack) = narrow.open(Connect { keep_alive: asked, ..broker.v5("asks") }).await;
        assert_eq!(connack.properties.server_keep_alive, told, "{asked} was asked for");
    }
}

/// [MQTT-3.12.4-1], [MQTT-3.12.4-1/3.1.1]
async fn a_ping_is_answered_in_every_version(broker: Broker) {
    for version in VERSIONS {
        let mut client = broker.connect(broker.who(version, "pings")).await;
        for _ in 0..3 {
            client.ping().await;
        }
    }
}
