//! Shared subscriptions: of all members, wherever they are connected, each message reaches one [MQTT 5.0 §4.8.2].

use std::collections::BTreeMap;
use std::time::Duration;

use rollcall_proto::packet::{Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;

const JOBS: &str = "$share/workers/jobs/+";

/// A member that also hears when everything was published.
async fn member(cluster: &TestCluster, node: usize, options: &Options) -> RawClient {
    let mut client = RawClient::connect(cluster.nodes[node].mqtt(), options).await;
    assert_eq!(client.subscribe(JOBS, QoS::ExactlyOnce).await, ReasonCode::GrantedQoS2);
    client.subscribe("done/+", QoS::AtLeastOnce).await;
    client
}

/// The jobs that come, acknowledged, until so many publishers are done.
async fn jobs_until_done(member: &mut RawClient, publishers: usize) -> Vec<String> {
    let (mut jobs, mut done) = (Vec::new(), 0);
    while done < publishers {
        let message = member.message(SOON).await;
        if message.topic.starts_with("done/") {
            done += 1;
        } else {
            jobs.push(String::from_utf8_lossy(&message.payload).into_owned());
        }
    }
    jobs
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_reaches_one_member_and_all_members_take_their_turns() {
    const EACH: usize = 60;
    let cluster = TestCluster::start(3).await;
    let mut members = Vec::new();
    for index in 0..6 {
        let version = [Version::V5, Version::V311, Version::V31][index % 3];
        let options = Options::new(version, format!("member-{index}"));
        let options = if index < 4 { options } else { options.persistent() };
        members.push(member(&cluster, index % 3, &options).await);
    }
    for node in 0..3 {
        let options = Options::v5(format!("publisher-{node}"));
        let mut publisher = RawClient::connect(cluster.nodes[node].mqtt(), &options).await;
        for number in node * EACH..(node + 1) * EACH {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
            publisher.publish("jobs/all", number.to_string().as_bytes(), qos).await;
        }
        publisher.publish(&format!("done/{node}"), b"", QoS::AtLeastOnce).await;
    }
    let mut all = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let jobs = jobs_until_done(member, 3).await;
        assert!((20..=40).contains(&jobs.len()), "member {index} of 6 got {} of {}", jobs.len(), 3 * EACH);
        all.extend(jobs);
    }
    all.sort_by_key(|job| job.parse::<usize>().expect("a number"));
    assert_eq!(all, numbered(0..3 * EACH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_has_not_acknowledged_or_not_been_sent_when_it_leaves_goes_to_another() {
    const MESSAGES: usize = 600;
    let cluster = TestCluster::start(3).await;
    let mut leaving = member(&cluster, 0, &Options::v5("leaving")).await;
    let mut staying = member(&cluster, 1, &Options::v5("staying")).await;
    let mut publisher = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish("jobs/left", number.to_string().as_bytes(), QoS::AtLeastOnce).await;
    }
    // It acknowledges three, and then no more.
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(String::from_utf8_lossy(&leaving.message(SOON).await.payload).into_owned());
    }
    leaving.ping().await;
    drop(leaving);
    let mut all = kept;
    while all.len() < MESSAGES {
        all.push(String::from_utf8_lossy(&staying.message(SOON).await.payload).into_owned());
    }
    all.sort_by_key(|job| job.parse::<usize>().expect("a number"));
    assert_eq!(all, numbered(0..MESSAGES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qos_2_message_in_flight_goes_to_nobody_else() {
    let cluster = TestCluster::start(3).await;
    let mut leaving = member(&cluster, 0, &Options::v5("leaving")).await;
    let mut publisher = RawClient::connect(cluster.nodes[1].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("jobs/once", b"in flight", QoS::ExactlyOnce).await;
    let publish = |packet: &Packet| matches!(packet, Packet::Publish(_)).then_some(());
    leaving.wait_for("PUBLISH", SOON, publish).await;
    let mut staying = member(&cluster, 2, &Options::v5("staying")).await;
    drop(leaving);
    let api = cluster.nodes[1].api();
    until("the member has left", SOON, || async {
        match api.session("leaving").await {
            None => Ok(()),
            Some(session) => Err(session.to_string()),
        }
    })
    .await;
    publisher.publish("jobs/once", b"next", QoS::ExactlyOnce).await;
    assert_eq!(&staying.message(SOON).await.payload[..], b"next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persistent_member_that_is_away_gets_what_nobody_else_is_there_for() {
    let cluster = TestCluster::start(3).await;
    let away = Options::v5("away").persistent();
    member(&cluster, 0, &away).await.disconnect().await;
    let mut there = member(&cluster, 1, &Options::v311("there")).await;
    let mut publisher = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("publisher")).await;
    for number in 0..10 {
        publisher.publish("jobs/a", number.to_string().as_bytes(), QoS::AtLeastOnce).await;
        assert_eq!(there.message(SOON).await.payload, number.to_string());
    }
    there.unsubscribe(JOBS).await;
    for number in 10..20 {
        publisher.publish("jobs/a", number.to_string().as_bytes(), QoS::AtLeastOnce).await;
    }
    publisher.publish("done/1", b"", QoS::AtLeastOnce).await;
    assert!(jobs_until_done(&mut there, 1).await.is_empty(), "it is a member no more");
    let (mut back, ack) = RawClient::try_connect(cluster.nodes[1].mqtt(), &away).await.expect("a CONNACK");
    assert!(ack.session_present);
    assert_eq!(jobs_until_done(&mut back, 1).await, numbered(10..20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_and_an_ordinary_subscription_each_get_their_message() {
    let cluster = TestCluster::start(1).await;
    let node = cluster.nodes[0].mqtt();
    let mut client = RawClient::connect(node, &Options::v5("client")).await;
    for filter in ["$share/one/t/#", "$share/two/+/x", "t/x"] {
        client.subscribe(filter, QoS::AtLeastOnce).await;
    }
    client.publish("t/x", b"thrice", QoS::AtLeastOnce).await;
    client.publish("t/y", b"last", QoS::AtLeastOnce).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..4 {
        *counts.entry(client.message(SOON).await.topic.to_string()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("t/x".into(), 3), ("t/y".into(), 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_subscription_gets_nothing_retained_and_nothing_of_events() {
    let cluster = TestCluster::start(1).await;
    let node = cluster.nodes[0].mqtt();
    let mut client = RawClient::connect(node, &Options::v5("client")).await;
    client.retain("jobs/old", b"retained").await;
    client.subscribe(JOBS, QoS::AtLeastOnce).await;
    assert_eq!(client.subscribe("$share/g/$events/#", QoS::AtLeastOnce).await, ReasonCode::TopicFilterInvalid);
    client.publish("jobs/new", b"live", QoS::AtLeastOnce).await;
    let message = client.message(SOON).await;
    assert_eq!((&*message.topic, message.retain), ("jobs/new", false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let cluster = TestCluster::start(1).await;
    let mut client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("client")).await;
    // No Local is the third bit of the options.
    let filter = [&[0, 1, 0, 0, JOBS.len() as u8], JOBS.as_bytes(), &[0b101]].concat();
    let packet = [&[0x82, filter.len() as u8], &filter[..]].concat();
    client.send_raw(&packet).await.expect("SUBSCRIBE is sent");
    let last = client.closed(SOON).await;
    assert_eq!(last.map(|last| last.reason), Some(ReasonCode::ProtocolError));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_reaches_one_member() {
    const WILLS: usize = 12;
    let cluster = TestCluster::start(3).await;
    let mut members = Vec::new();
    for (index, options) in [Options::v5("a"), Options::v311("b"), Options::v5("c").persistent()].iter().enumerate() {
        members.push(member(&cluster, index, options).await);
    }
    for number in 0..WILLS {
        let options = Options::v5(format!("dying-{number}")).will("jobs/will", number.to_string().as_bytes());
        drop(RawClient::connect(cluster.nodes[number % 3].mqtt(), &options).await);
    }
    let mut came = Vec::new();
    while came.len() < WILLS {
        for member in &mut members {
            while let Some(message) = member.message_within(Duration::from_millis(50)).await {
                came.push(String::from_utf8_lossy(&message.payload).into_owned());
            }
        }
    }
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    publisher.publish("done/1", b"", QoS::AtLeastOnce).await;
    for member in &mut members {
        came.extend(jobs_until_done(member, 1).await);
    }
    came.sort_by_key(|job| job.parse::<usize>().expect("a number"));
    assert_eq!(came, numbered(0..WILLS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_killed_node_are_passed_over() {
    let mut cluster = TestCluster::start(3).await;
    let mut staying = member(&cluster, 0, &Options::v5("staying")).await;
    let mut dying = member(&cluster, 1, &Options::v5("dying")).await;
    cluster.nodes[1].kill();
    assert!(matches!(dying.receive(SOON).await, Received::Closed));
    let api = cluster.nodes[2].api();
    let mut publisher = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("publisher")).await;
    until("the dead node's members are gone", Duration::from_secs(40), || async {
        match api.session("dying").await {
            None => Ok(()),
            Some(session) => Err(session.to_string()),
        }
    })
    .await;
    for number in 0..10 {
        publisher.publish("jobs/a", number.to_string().as_bytes(), QoS::AtLeastOnce).await;
        assert_eq!(staying.message(SOON).await.payload, number.to_string());
    }
}
