use rollcall_proto::packet::{Packet, Version};
use rollcall_proto::reason::{DisconnectReason, ReasonCode};
use rollcall_proto::session::{KeepAliveGrace, SessionConfig};

use crate::rig::*;

#[test]
fn a_connection_without_a_connect_is_closed() {
    let mut rig = Rig::new(config());
    assert_eq!(rig.session.poll_timeout(), Some(10_000));
    assert_eq!(rig.advance(9_999), []);
    let actions = rig.advance(1);
    assert_eq!(actions.len(), 1);
    assert_eq!(close(&actions).reason, DisconnectReason::TcpClosed);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    // [MQTT-3.1.2-22]
    let mut asked = connect(Version::V5, "c");
    asked.will = Some(will("w"));
    let mut rig = Rig::online_as(asked, config());
    assert_eq!(rig.session.poll_timeout(), Some(15_000));
    assert_eq!(rig.advance(14_999), []);
    let actions = rig.advance(1);
    assert_eq!(told(&actions), Some(ReasonCode::KeepAliveTimeout));
    let close = close(&actions);
    assert_eq!(close.reason, DisconnectReason::KeepAliveTimeout);
    assert_eq!(close.will.map(|w| w.topic), Some("w".into()));
    assert_eq!(rig.session.poll_timeout(), None);
}

#[test]
fn any_packet_moves_the_deadline_and_a_ping_is_answered() {
    let mut rig = Rig::online(Version::V311, config());
    rig.now = 14_000;
    assert_eq!(sent(&rig.handle(Packet::PingReq)), [Packet::PingResp], "[MQTT-3.12.4-1]");
    assert_eq!(rig.session.poll_timeout(), Some(29_000));
    assert_eq!(rig.advance(1_000), [], "a timer set before fires in vain");
}

#[test]
fn the_grace_can_be_a_fixed_time() {
    let rig = Rig::online(Version::V311, SessionConfig { keep_alive_grace: KeepAliveGrace::Plus(5_000), ..config() });
    assert_eq!(rig.session.poll_timeout(), Some(15_000));
    let twice = KeepAliveGrace::Percent(200).limit(60);
    assert_eq!((twice, KeepAliveGrace::Plus(5_000).limit(60)), (120_000, 65_000));
}

#[test]
fn no_keep_alive_is_no_deadline() {
    let mut asked = connect(Version::V311, "c");
    asked.keep_alive = 0;
    let mut rig = Rig::online_as(asked, config());
    assert_eq!(rig.session.poll_timeout(), None);
    assert_eq!(rig.advance(u64::MAX / 2), []);
}

#[test]
fn the_clock_of_a_held_publisher_stands_still() {
    let mut rig = Rig::online(Version::V311, config());
    rig.session.hold(5_000);
    assert_eq!(rig.session.poll_timeout(), None);
    rig.now = 100_000;
    assert_eq!(rig.advance(0), []);
    rig.session.release(100_000);
    assert_eq!(rig.session.poll_timeout(), Some(110_000), "10 s of its 15 were left");
    rig.session.release(200_000);
    assert_eq!(rig.session.poll_timeout(), Some(110_000), "a release without a hold is without effect");
}

#[test]
fn a_claim_is_not_timed_and_the_keep_alive_begins_with_its_grant() {
    let mut rig = Rig::new(config());
    rig.claim(connect(Version::V311, "c"));
    assert_eq!(rig.session.poll_timeout(), None);
    rig.now = 50_000;
    rig.grant(false);
    assert_eq!(rig.session.poll_timeout(), Some(65_000));
}
