//! One QoS 0 PUBLISH of 64 bytes, and one QoS 1 with its PUBACK, through our codec and through mqttbytes.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rollcall_proto::codec::{DEFAULT_MAX_PACKET, Decoder, PublishParts, encode, encode_publish};
use rollcall_proto::packet::{Ack, Packet, PacketId, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::trie::Trie;

const TOPIC: &str = "site/12/device/3456/temperature";
/// As many as one read of 8 KiB may bring.
const BATCH: usize = 64;

fn parts(qos: QoS) -> PublishParts<'static> {
    PublishParts {
        topic: TOPIC,
        payload: &[7; 64],
        qos,
        retain: false,
        dup: false,
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(7) },
        properties: None,
        topic_alias: None,
        subscription_ids: &[],
    }
}

fn batch(version: Version, qos: QoS) -> BytesMut {
    let mut batch = BytesMut::new();
    for _ in 0..BATCH {
        encode_publish(&parts(qos), version, &mut batch).expect("a valid PUBLISH");
    }
    batch
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, version, qos) in [
        ("qos0 v3.1.1", Version::V311, QoS::AtMostOnce),
        ("qos0 v5", Version::V5, QoS::AtMostOnce),
        ("qos1 v5", Version::V5, QoS::AtLeastOnce),
    ] {
        let bytes = batch(version, qos);
        group.bench_function(format!("{name}, rollcall"), |b| {
            let mut decoder = Decoder::with_version(version, DEFAULT_MAX_PACKET);
            let mut buf = BytesMut::with_capacity(bytes.len());
            b.iter(|| {
                buf.reserve(bytes.len());
                buf.extend_from_slice(&bytes);
                while let Ok(Some(packet)) = decoder.decode(&mut buf) {
                    black_box(packet);
                }
            });
        });
        group.bench_function(format!("{name}, mqttbytes"), |b| {
            let mut buf = BytesMut::with_capacity(bytes.len());
            b.iter(|| {
                buf.reserve(bytes.len());
                buf.extend_from_slice(&bytes);
                if version == Version::V5 {
                    while let Ok(packet) = mqttbytes::v5::read(&mut buf, DEFAULT_MAX_PACKET) {
                        black_box(packet);
                    }
                } else {
                    while let Ok(packet) = mqttbytes::v4::read(&mut buf, DEFAULT_MAX_PACKET) {
                        black_box(packet);
                    }
                }
            });
        });
    }
    group.finish();
}

fn encode_publishes(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH as u64));
    let len = batch(Version::V5, QoS::AtLeastOnce).len();
    for (name, version) in [("qos0 v3.1.1", Version::V311), ("qos0 v5", Version::V5)] {
        group.bench_function(format!("{name}, rollcall"), |b| {
            let mut out = BytesMut::with_capacity(len);
            b.iter(|| {
                out.clear();
                for _ in 0..BATCH {
                    encode_publish(black_box(&parts(QoS::AtMostOnce)), version, &mut out).expect("a valid PUBLISH");
                }
                black_box(&out);
            });
        });
    }
    group.bench_function("qos0 v3.1.1, mqttbytes", |b| {
        let publish =
            mqttbytes::v4::Publish::from_bytes(TOPIC, mqttbytes::QoS::AtMostOnce, Bytes::from_static(&[7; 64]));
        let mut out = BytesMut::with_capacity(len);
        b.iter(|| {
            out.clear();
            for _ in 0..BATCH {
                black_box(&publish).write(&mut out).expect("a valid PUBLISH");
            }
            black_box(&out);
        });
    });
    group.bench_function("puback v5, rollcall", |b| {
        let ack = Packet::PubAck(Ack { packet_id: PacketId::MIN, reason: ReasonCode::Success, properties: None });
        let mut out = BytesMut::with_capacity(len);
        b.iter(|| {
            out.clear();
            for _ in 0..BATCH {
                encode(black_box(&ack), Version::V5, &mut out).expect("a valid PUBACK");
            }
            black_box(&out);
        });
    });
    group.finish();
}

fn match_topics(c: &mut Criterion) {
    c.bench_function("match one topic among 100,000 filters", |b| {
        let mut trie = Trie::new();
        for device in 0..100_000 {
            trie.get_or_insert_with(&format!("site/{}/device/{device}/+", device % 100), || device);
        }
        for filter in ["site/+/device/3456/temperature", "site/12/#", "+/+/+/+/temperature", "#"] {
            trie.get_or_insert_with(filter, || 0);
        }
        b.iter(|| {
            let mut found = 0;
            trie.for_each_match(black_box("site/56/device/3456/temperature"), |_| found += 1);
            black_box(found)
        });
    });
}

criterion_group!(benches, decode, encode_publishes, match_topics);
criterion_main!(benches);
