//! The bytes are written out from the specifications, so that reading and writing cannot share a mistake.

use super::*;

fn first(version: Version, bytes: &[u8]) -> Packet {
    let (packet, used) = take(version, bytes).expect("well-formed").expect("complete");
    assert_eq!(used, bytes.len());
    packet
}

fn message(duplicate: bool) -> Publish {
    Publish { qos: 2, duplicate, retain: false, packet_id: 0x0102, topic: "a/b".into(), payload: b"x".to_vec() }
}

fn persistent(version: Version) -> Connect {
    let client_id = "id".into();
    Connect { version, client_id, clean: false, expiry: NEVER, keep_alive: 60, receive_maximum: 9, will: None }
}

#[test]
fn a_connect_asks_for_a_session_that_never_expires() {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    connect(&mut old, &persistent(Version::V311));
    assert_eq!(old, b"\x10\x0E\x00\x04MQTT\x04\x00\x00\x3C\x00\x02id");
    connect(&mut new, &persistent(Version::V5));
    assert_eq!(new, b"\x10\x17\x00\x04MQTT\x05\x00\x00\x3C\x08\x11\xFF\xFF\xFF\xFF\x21\x00\x09\x00\x02id");
}

#[test]
fn a_connect_carries_its_will() {
    let will = Some(Will { topic: "w".into(), payload: b"x".to_vec(), delay: 3 });
    let mut old = Vec::new();
    connect(&mut old, &Connect { clean: true, will: will.clone(), ..persistent(Version::V311) });
    assert_eq!(old, b"\x10\x14\x00\x04MQTT\x04\x16\x00\x3C\x00\x02id\x00\x01w\x00\x01x");
    let mut new = Vec::new();
    connect(&mut new, &Connect { clean: true, expiry: 0, will, ..persistent(Version::V5) });
    let expected = b"\x10\x23\x00\x04MQTT\x05\x16\x00\x3C\x08\x11\x00\x00\x00\x00\x21\x00\x09\x00\x02id\x05\x18\x00\x00\x00\x03\x00\x01w\x00\x01x";
    assert_eq!(new, expected);
}

#[test]
fn what_a_client_sends_is_as_the_specifications_write_it() {
    let mut sent = Vec::new();
    publish(&mut sent, Version::V311, &message(true));
    assert_eq!(sent, b"\x3C\x08\x00\x03a/b\x01\x02x");
    sent.clear();
    publish(&mut sent, Version::V5, &message(false));
    assert_eq!(sent, b"\x34\x09\x00\x03a/b\x01\x02\x00x");
    sent.clear();
    subscribe(&mut sent, Version::V5, 1, "a/+", 2);
    assert_eq!(sent, b"\x82\x09\x00\x01\x00\x00\x03a/+\x02");
    sent.clear();
    publish(&mut sent, Version::V311, &Publish { qos: 0, retain: true, ..message(false) });
    assert_eq!(sent, b"\x31\x06\x00\x03a/bx");
    sent.clear();
    disconnect_with_will(&mut sent);
    assert_eq!(sent, b"\xE0\x01\x04");
    sent.clear();
    for answer in [Reply::Ack(1), Reply::Received(2), Reply::Release(3), Reply::Complete(4)] {
        reply(&mut sent, answer);
    }
    ping(&mut sent);
    disconnect(&mut sent);
    let expected = b"\x40\x02\x00\x01\x50\x02\x00\x02\x62\x02\x00\x03\x70\x02\x00\x04\xC0\x00\xE0\x00";
    assert_eq!(sent, expected);
}

#[test]
fn a_long_packet_has_a_length_of_several_bytes() {
    let mut sent = Vec::new();
    let long = Publish { payload: vec![b'x'; 300], ..message(false) };
    publish(&mut sent, Version::V311, &long);
    assert_eq!(sent[1..3], [0xB3, 0x02]);
    assert_eq!(first(Version::V311, &sent), Packet::Publish(long));
}

#[test]
fn what_a_broker_sends_is_read() {
    let told =
        |session_present, code, receive_maximum| Packet::ConnAck(ConnAck { session_present, code, receive_maximum });
    assert_eq!(first(Version::V311, b"\x20\x02\x01\x00"), told(true, 0, u16::MAX));
    let properties = b"\x20\x13\x00\x00\x10\x24\x01\x21\x00\x14\x26\x00\x01k\x00\x02vv\x22\x00\x20";
    assert_eq!(first(Version::V5, properties), told(false, 0, 20));
    assert_eq!(first(Version::V5, b"\x20\x03\x00\x88\x00"), told(false, 0x88, u16::MAX));

    assert_eq!(first(Version::V311, b"\x3C\x08\x00\x03a/b\x01\x02x"), Packet::Publish(message(true)));
    let expiry = b"\x34\x0E\x00\x03a/b\x01\x02\x05\x02\x00\x00\x00\x09x";
    assert_eq!(first(Version::V5, expiry), Packet::Publish(message(false)));

    assert_eq!(first(Version::V311, b"\x40\x02\x00\x07"), Packet::PubAck(Ack { packet_id: 7, code: 0 }));
    assert_eq!(first(Version::V5, b"\x50\x03\x00\x07\x97"), Packet::PubRec(Ack { packet_id: 7, code: 0x97 }));
    assert_eq!(first(Version::V5, b"\x62\x02\x00\x07"), Packet::PubRel(Ack { packet_id: 7, code: 0 }));
    assert_eq!(first(Version::V5, b"\x70\x04\x00\x07\x92\x00"), Packet::PubComp(Ack { packet_id: 7, code: 0x92 }));
    assert_eq!(first(Version::V311, b"\x90\x03\x00\x01\x02"), Packet::SubAck { codes: vec![2] });
    assert_eq!(first(Version::V5, b"\x90\x04\x00\x01\x00\x87"), Packet::SubAck { codes: vec![0x87] });
    assert_eq!(first(Version::V5, b"\xD0\x00"), Packet::PingResp);
    assert_eq!(first(Version::V5, b"\xE0\x02\x8E\x00"), Packet::Disconnect { code: 0x8E, elsewhere: None });
    let elsewhere = Some("a:1".to_owned());
    assert_eq!(first(Version::V5, b"\xE0\x08\x9C\x06\x1C\x00\x03a:1"), Packet::Disconnect { code: 0x9C, elsewhere });
}

#[test]
fn an_incomplete_packet_is_waited_for() {
    let whole = b"\x3C\x08\x00\x03a/b\x01\x02x";
    for length in 0..whole.len() {
        assert_eq!(take(Version::V311, &whole[..length]), Ok(None));
    }
    let two = [whole.as_slice(), whole].concat();
    assert_eq!(take(Version::V311, &two).expect("well-formed").expect("complete").1, whole.len());
}

#[test]
fn a_malformed_packet_is_found() {
    for wrong in [
        b"\x36\x08\x00\x03a/b\x01\x02x".as_slice(),
        b"\x34\x08\x00\x03a/b\x00\x00x",
        b"\x34\x04\x00\x03a/",
        b"\x30\x03\x00\x01\xFF",
        b"\x60\x02\x00\x01",
        b"\x40\x01\x00",
        b"\x30\xFF\xFF\xFF\xFF\x01",
        b"\xE0\x00",
    ] {
        assert!(take(Version::V311, wrong).is_err(), "{wrong:02x?}");
    }
    assert!(take(Version::V5, b"\x20\x05\x00\x00\x02\x99\x00").is_err());
}
