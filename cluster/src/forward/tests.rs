use bytes::Bytes;
use rollcall_proto::packet::QoS;
use rollcall_proto::properties::PublishProperties;
use rollcall_proto::schema::roster::{Batch, Command, NodeUp, command};
use rollcall_storage::{EventLog, EventLogOptions};
use tempfile::TempDir;

use super::*;
use crate::feed::EventFeed;
use crate::raft::replicated::Replicated as _;
use crate::replica::Observer;
use crate::roster::{Lost, Roster};
use crate::testing::{WINDOW, config};

const ME: NodeId = 1;
const OTHER: NodeId = 2;

fn link(route_lease: Duration) -> Link {
    Link::new(1, &config(route_lease))
}

fn patient() -> Link {
    link(Duration::from_secs(600))
}

fn message(topic: &str) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.into(),
        payload: Bytes::from_static(b"payload"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
        publisher: "publisher".into(),
        expires_at: None,
    })
}

fn parcel(topic: &str) -> Parcel {
    Parcel::for_matching(message(topic))
}

fn numbers(frame: &[Forwarded]) -> Vec<u64> {
    frame.iter().map(|message| message.number).collect()
}

#[test]
fn messages_are_numbered_in_order_and_leave_the_window_when_acknowledged() {
    let link = patient();
    for (number, topic) in (1..).zip(["a", "b", "c"]) {
        assert_eq!(link.send(parcel(topic)), number);
    }
    assert_eq!(numbers(&link.from(1, 0)), [1, 2, 3]);
    assert_eq!(numbers(&link.from(3, 0)), [3]);
    link.acknowledge(2);
    assert_eq!((link.first(), numbers(&link.from(1, 0))), (3, vec![3]));
    assert_eq!(link.send(parcel("d")), 4);
    link.acknowledge(1);
    assert_eq!(numbers(&link.from(3, 0)), [3, 4], "a late acknowledgement takes nothing back");
    link.acknowledge(4);
    assert!(link.from(5, 0).is_empty());
    assert_eq!(link.window.lock().bytes, 0);
}

#[test]
fn a_frame_is_bounded_and_the_next_goes_on_behind_it() {
    let link = patient();
    for _ in 0..FRAME + 10 {
        link.send(parcel("a"));
    }
    assert_eq!(link.from(1, 0).len(), FRAME);
    assert_eq!(link.from(1 + FRAME as u64, 0).len(), 10);
}

#[tokio::test]
async fn a_full_window_has_room_again_after_an_acknowledgement() {
    let link = patient();
    for number in 0..WINDOW {
        assert!(!link.is_full(), "with {number}");
        link.send(parcel("a"));
    }
    assert!(link.is_full());
    let room = async {
        link.room(false).await;
        assert!(!link.is_full());
    };
    tokio::join!(room, async { link.acknowledge(1) });
}

#[tokio::test]
async fn a_message_that_may_be_dropped_waits_for_a_silent_link_no_longer_than_its_silence() {
    let link = link(Duration::from_millis(30));
    for _ in 0..WINDOW {
        link.send(parcel("a"));
    }
    link.room(true).await;
    assert!(link.is_full() && link.is_silent());
    assert!(futures_util::poll!(std::pin::pin!(link.room(false))).is_pending(), "any other waits on");
}

#[test]
fn large_messages_fill_the_window_too() {
    let link = patient();
    link.send(Parcel::for_matching(Arc::new(Message { payload: vec![0; 1 << 20].into(), ..(*message("a")).clone() })));
    assert!(link.is_full());
    link.acknowledge(1);
    assert!(!link.is_full());
}

#[tokio::test]
async fn received_returns_at_the_acknowledgement_of_that_very_message() {
    let link = patient();
    link.send(parcel("a"));
    link.send(parcel("b"));
    let mut second = std::pin::pin!(link.received(2));
    link.acknowledge(1);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    link.received(1).await;
    link.acknowledge(2);
    second.await;
}

#[tokio::test]
async fn a_silent_link_is_not_waited_for_and_keeps_the_message() {
    let link = link(Duration::from_millis(30));
    let began = boottime();
    let number = link.send(parcel("a"));
    link.received(number).await;
    assert!(boottime() - began >= Duration::from_millis(25), "not before it has been silent for that long");
    assert!(link.is_silent());
    assert_eq!(numbers(&link.from(1, 0)), [1], "it is sent when the other side speaks again");
    link.acknowledge(0);
    assert!(!link.is_silent(), "any word counts");
}

#[tokio::test]
async fn an_ended_link_holds_up_nobody() {
    let link = patient();
    for _ in 0..WINDOW {
        link.send(parcel("a"));
    }
    let waiting = async { tokio::join!(link.room(false), link.received(3)) };
    tokio::join!(waiting, async { link.acked.send_replace(ENDED) });
    assert!(link.has_ended() && !link.is_full());
}

#[derive(Default)]
struct Heard(Mutex<Vec<Arc<Message>>>);

impl Observer for Heard {
    fn lost(&self, _: &Lost) {}
    fn send_away(&self, _: Vec<(String, u64)>) {}

    fn fenced(&self) {}
    fn replaced(&self, _: &Roster) {}
    fn will(&self, _: Arc<Message>) {}
    fn forwarded(&self, parcel: Parcel) {
        self.0.lock().push(parcel.message);
    }
}

impl Heard {
    fn topics(&self) -> Vec<String> {
        self.0.lock().iter().map(|message| message.topic.to_string()).collect()
    }
}

fn replica(dir: &TempDir) -> (Arc<Replica>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let log = EventLog::open(dir.path(), EventLogOptions::default()).unwrap();
    (Arc::new(Replica::new(ME, EventFeed::new(log, 100, 100), heard.clone())), heard)
}

fn frame(messages: std::ops::RangeInclusive<u64>) -> Vec<Forwarded> {
    messages.map(|number| to_wire(number, &parcel(&format!("t/{number}")), 0)).collect()
}

fn open(boot: u64, first: u64) -> ForwardOpen {
    ForwardOpen { node: OTHER, boot, first }
}

#[test]
fn what_is_sent_again_after_a_reconnect_is_passed_over() {
    let dir = TempDir::new().unwrap();
    let ((replica, heard), received) = (replica(&dir), Received::default());
    let (inbound, stream) = received.open(open(7, 1));
    assert_eq!(inbound.lock().take(stream, frame(1..=3), &replica), Some(3));
    let (inbound, stream) = received.open(open(7, 2));
    assert_eq!(inbound.lock().take(stream, frame(2..=4), &replica), Some(4));
    assert_eq!(heard.topics(), ["t/1", "t/2", "t/3", "t/4"]);
}

#[test]
fn a_stream_is_not_listened_to_once_a_later_one_has_taken_over() {
    let dir = TempDir::new().unwrap();
    let ((replica, heard), received) = (replica(&dir), Received::default());
    let (old, old_stream) = received.open(open(7, 1));
    let (new, new_stream) = received.open(open(7, 1));
    assert_eq!(old.lock().take(old_stream, frame(1..=2), &replica), None);
    assert!(heard.topics().is_empty());
    assert_eq!(new.lock().take(new_stream, frame(1..=1), &replica), Some(1));
    assert_eq!(old.lock().take(old_stream, frame(2..=2), &replica), None);
    assert_eq!(heard.topics(), ["t/1"]);
}

#[test]
fn another_link_of_the_same_node_counts_from_its_own_first() {
    let dir = TempDir::new().unwrap();
    let ((replica, heard), received) = (replica(&dir), Received::default());
    let (inbound, stream) = received.open(open(7, 1));
    inbound.lock().take(stream, frame(1..=3), &replica);
    let (inbound, stream) = received.open(open(8, 1));
    assert_eq!(inbound.lock().take(stream, frame(1..=2), &replica), Some(2));
    assert_eq!(heard.topics().len(), 5);
}

#[test]
fn a_receiver_that_has_restarted_takes_what_was_not_acknowledged() {
    let dir = TempDir::new().unwrap();
    let ((replica, heard), received) = (replica(&dir), Received::default());
    let (inbound, stream) = received.open(open(7, 40));
    assert_eq!(inbound.lock().take(stream, Vec::new(), &replica), Some(39));
    assert_eq!(inbound.lock().take(stream, frame(40..=41), &replica), Some(41));
    assert_eq!(heard.topics(), ["t/40", "t/41"]);
}

#[test]
fn a_message_that_is_not_utf_8_is_dropped_and_acknowledged() {
    let dir = TempDir::new().unwrap();
    let ((replica, heard), received) = (replica(&dir), Received::default());
    let (inbound, stream) = received.open(open(7, 1));
    let mut messages = frame(1..=2);
    messages[0].message.as_mut().unwrap().topic = Bytes::from_static(&[0xff]);
    assert_eq!(inbound.lock().take(stream, messages, &replica), Some(2));
    assert_eq!(heard.topics(), ["t/2"]);
}

#[test]
fn a_message_is_the_same_on_the_other_node_with_what_is_left_of_its_life() {
    let properties = PublishProperties {
        payload_format: Some(true),
        response_topic: Some("reply".into()),
        correlation_data: Some(Bytes::from_static(b"42")),
        content_type: Some("text/plain".into()),
        user: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
        ..PublishProperties::default()
    };
    let sent = Message {
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: Some(Box::new(properties)),
        expires_at: Some(5_000),
        ..(*message("a/b")).clone()
    };
    let addressee = Addressee { connection: 9, share: "$share/g/a".into(), qos: 1, retain: true, subscription_id: 3 };
    let parcel = Parcel { message: Arc::new(sent.clone()), addressed: true, addressees: vec![addressee] };
    let arrived = from_wire(to_wire(1, &parcel, 2_000), 100_000).unwrap();
    assert_eq!((arrived.addressed, &arrived.addressees), (true, &parcel.addressees));
    let message = (*arrived.message).clone();
    assert_eq!(message.expires_at, Some(103_000), "each node has its own clock");
    assert_eq!(Message { expires_at: sent.expires_at, ..message }, sent);
    let late = from_wire(to_wire(1, &parcel, 9_000), 7).unwrap();
    assert_eq!(late.message.expires_at, Some(7), "expired on the way");
}

fn bring_up(replica: &Replica, index: u64, boot: u64) {
    let up = NodeUp { boot, name: "b".into(), rpc_address: "127.0.0.1:1".into(), ..NodeUp::default() };
    let commands = vec![Command { kind: Some(command::Kind::NodeUp(up)) }];
    let batch = Batch { node: OTHER, node_epoch: 0, number: boot, commands };
    replica.apply(index, 1, &prost::Message::encode_to_vec(&batch).into()).unwrap();
    replica.advance(index);
}

#[tokio::test]
async fn a_message_for_a_nodes_new_epoch_never_waits_in_the_link_to_the_old_one() {
    let dir = TempDir::new().unwrap();
    let (replica, _) = replica(&dir);
    bring_up(&replica, 1, 70);
    let peers = Peers::new(Duration::from_millis(100), None);
    let links = Links::new(Arc::new(config(Duration::from_secs(2))), replica.clone(), peers);
    assert!(links.to(9).is_none(), "nobody of that name is up");
    let old = links.to(OTHER).unwrap();
    assert!(Arc::ptr_eq(&old, &links.to(OTHER).unwrap()), "one link per epoch");
    bring_up(&replica, 2, 71);
    assert!(!Arc::ptr_eq(&old, &links.to(OTHER).unwrap()));
    let number = old.send(parcel("for the sessions that ended"));
    old.received(number).await;
    assert!(old.has_ended());
}
