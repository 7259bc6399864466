//! Whole conversations, byte for byte.

use crate::broker::Broker;
use crate::bytes::{Raw, connect, field, packet};

crate::cases![
    a_3_1_client_is_answered_byte_for_byte,
    a_3_1_1_client_is_answered_byte_for_byte,
    a_5_0_client_is_answered_byte_for_byte,
    it_does_not_matter_how_the_bytes_are_cut,
];

/// What a 3.x client says and hears, in turn.
fn conversation_of_3_x(level: u8, id: &str, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (topic, elsewhere) = (field(topic), field(format!("{topic}/elsewhere")));
    let live = packet(0x30, &[&topic, b"live"]);
    vec![
        (connect(level, 0x02, &[&field(id)]), vec![0x20, 2, 0, 0]),
        (packet(0x82, &[&[0, 1], &topic, &[1]]), vec![0x90, 3, 0, 1, 1]),
        (live.clone(), live),
        (packet(0x32, &[&elsewhere, &[0, 7], b"x"]), vec![0x40, 2, 0, 7]),
        (packet(0x34, &[&elsewhere, &[0, 8], b"x"]), vec![0x50, 2, 0, 8]),
        (vec![0x62, 2, 0, 8], vec![0x70, 2, 0, 8]),
        (packet(0xA2, &[&[0, 2], &topic]), vec![0xB0, 2, 0, 2]),
        (vec![0xC0, 0], vec![0xD0, 0]),
        (vec![0xE0, 0], vec![]),
    ]
}

async fn talk(broker: &Broker, conversation: Vec<(Vec<u8>, Vec<u8>)>) {
    let mut client = Raw::open(broker).await;
    for (said, heard) in conversation {
        client.says(&said).await;
        client.hears(&heard).await;
    }
    client.ends().await;
}

async fn a_3_1_client_is_answered_byte_for_byte(broker: Broker) {
    let conversation = conversation_of_3_x(3, &broker.id("bytes"), &broker.topic("bytes"));
    talk(&broker, conversation).await;
}

/// [MQTT-2.2.2-1/3.1.1], [MQTT-2.3.1-5/3.1.1], [MQTT-2.3.1-6/3.1.1], [MQTT-2.3.1-7/3.1.1], [MQTT-3.1.4-4/3.1.1],
/// [MQTT-3.2.0-1/3.1.1], [MQTT-3.3.2-1/3.1.1], [MQTT-3.3.4-1/3.1.1], [MQTT-3.8.4-1/3.1.1], [MQTT-3.8.4-2/3.1.1],
/// [MQTT-3.10.4-4/3.1.1], [MQTT-3.12.4-1/3.1.1], [MQTT-4.3.1-1/3.1.1], [MQTT-7.0.0-2/3.1.1], [MQTT-7.1.1-1/3.1.1]
async fn a_3_1_1_client_is_answered_byte_for_byte(broker: Broker) {
    let conversation = conversation_of_3_x(4, &broker.id("bytes"), &broker.topic("bytes"));
    talk(&broker, conversation).await;
}

/// [MQTT-2.1.3-1], [MQTT-2.2.1-2], [MQTT-2.2.1-5], [MQTT-2.2.1-6], [MQTT-2.2.2-1], [MQTT-3.1.4-5], [MQTT-3.2.2-1],
/// [MQTT-3.3.2-1], [MQTT-3.3.4-1], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.7.2-1], [MQTT-3.8.4-1], [MQTT-3.8.4-2],
/// [MQTT-3.9.3-2], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.11.3-2], [MQTT-3.12.4-1], [MQTT-4.3.1-1]
async fn a_5_0_client_is_answered_byte_for_byte(broker: Broker) {
    let topic = broker.topic("bytes");
    let (topic, elsewhere) = (field(&topic), field(format!("{topic}/elsewhere")));
    let mut client = Raw::open(&broker).await;
    client.says(&connect(5, 0x02, &[&field(broker.id("bytes"))])).await;
    let connack = client.hears_packet().await;
    assert_eq!((connack[0], connack[2], connack[3]), (0x20, 0, 0), "no flag, no error: {connack:02X?}");
    assert_eq!(usize::from(connack[4]), connack.len() - 5, "the rest are properties: {connack:02X?}");
    client.says(&packet(0x82, &[&[0, 1, 0], &topic, &[1]])).await;
    client.hears(&[0x90, 4, 0, 1, 0, 1]).await;
    let live = packet(0x30, &[&topic, &[0], b"live"]);
    client.says(&live).await;
    client.hears(&live).await;
    client.says(&packet(0x32, &[&elsewhere, &[0, 7, 0], b"x"])).await;
    client.hears(&[0x40, 3, 0, 7, 0x10]).await;
    client.says(&packet(0x34, &[&elsewhere, &[0, 8, 0], b"x"])).await;
    client.hears(&[0x50, 3, 0, 8, 0x10]).await;
    client.says(&[0x62, 2, 0, 8]).await;
    client.hears(&[0x70, 2, 0, 8]).await;
    client.says(&packet(0xA2, &[&[0, 2, 0], &topic, &elsewhere])).await;
    client.hears(&[0xB0, 5, 0, 2, 0, 0, 0x11]).await;
    client.says(&[0xC0, 0]).await;
    client.hears(&[0xD0, 0]).await;
    client.says(&[0xE0, 0]).await;
    client.ends().await;
}

/// [MQTT-4.2.0-1], [MQTT-7.1.1-1/3.1.1]
async fn it_does_not_matter_how_the_bytes_are_cut(broker: Broker) {
    let (id, topic) = (field(broker.id("cut")), field(broker.topic("cut")));
    let said = [
        connect(4, 0x02, &[&id]),
        packet(0x82, &[&[0, 1], &topic, &[1]]),
        packet(0x32, &[&field(broker.topic("elsewhere")), &[0, 7], b"x"]),
        vec![0xC0, 0],
    ]
    .concat();
    for size in [1, 3, said.len()] {
        let mut client = Raw::open(&broker).await;
        for part in said.chunks(size) {
            client.says(part).await;
        }
        client.hears(&[0x20, 2, 0, 0]).await;
        // Each is answered when it is done, and not all take the same time.
        let mut answers = [client.hears_packet().await, client.hears_packet().await, client.hears_packet().await];
        answers.sort();
        assert_eq!(answers, [vec![0x40, 2, 0, 7], vec![0x90, 3, 0, 1, 1], vec![0xD0, 0]], "in pieces of {size}");
    }
}
