//! A configuration that is read anew while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use rollcall_proto::packet::{ConnAck, Packet, QoS, Version};
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::patience::until;
use rollcall_tests::ports;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One node with a file that changes, and a client that is there all the time.
struct Live {
    cluster: TestCluster,
    file: PathBuf,
    values: BTreeMap<String, String>,
    /// The keys that were seen to act.
    seen: BTreeSet<String>,
    witness: RawClient,
}

impl Live {
    async fn start(settings: &[&str]) -> Self {
        let cluster = TestCluster::start_changed(1, settings, |spec| {
            let file = spec.data_dir.with_extension("toml");
            std::fs::write(&file, "").expect("the file is written");
            spec.file = Some(file);
        })
        .await;
        let file = cluster.nodes[0].spec.file.clone().expect("it has a file");
        let witness = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("witness")).await;
        Self { cluster, file, values: BTreeMap::new(), seen: BTreeSet::new(), witness }
    }

    fn write(&self) {
        let text: String = self.values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        std::fs::write(&self.file, text).expect("the file is written");
    }

    async fn reload(&self) -> (StatusCode, Value) {
        let answer = self.cluster.nodes[0].api().request(Method::POST, "/api/v1/reload", None).await;
        let answer = answer.expect("an answer");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    /// Sets keys to values as TOML has them; each is told to be in force.
    async fn set(&mut self, wanted: &[(&str, &str)]) {
        self.values.extend(wanted.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        self.seen.extend(wanted.iter().map(|(key, _)| key.to_string()));
        self.take_up(wanted.iter().map(|(key, _)| *key).collect()).await;
    }

    async fn take_up(&self, mut keys: Vec<&str>) {
        keys.sort_unstable();
        self.write();
        let expected = json!({ "applied": keys, "needs_restart": [], "only_seeds": [] });
        assert_eq!(self.reload().await, (StatusCode::OK, expected));
    }

    async fn unset(&mut self, keys: &[&str]) {
        self.values.retain(|key, _| !keys.contains(&&**key));
        self.take_up(keys.to_vec()).await;
    }

    fn mqtt(&self) -> SocketAddr {
        self.cluster.nodes[0].mqtt()
    }

    /// What a new client of 5.0 is told; its keep alive is 60 s.
    async fn answer(&self, client_id: &str) -> ConnAck {
        let connect = Options::v5(client_id).keep_alive(60);
        RawClient::try_connect(self.mqtt(), &connect).await.expect("a CONNACK").1
    }

    async fn client(&self) -> RawClient {
        RawClient::connect(self.mqtt(), &Options::v5("client")).await
    }
}

/// The keys that the reference says a running node takes up, of one listener.
fn documented() -> BTreeSet<String> {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let reference = std::fs::read_to_string(reference).expect("the reference is there");
    let rows = reference.lines().filter(|line| line.contains(" | reload | "));
    rows.filter_map(|row| row.split('`').nth(1)).map(|key| key.replace("NAME", "tcp")).collect()
}

async fn what_a_connack_tells(live: &mut Live) {
    type Seen = fn(&ConnAck) -> bool;
    let cases: [(&str, &str, Seen); 11] = [
        ("listeners.tcp.max_qos", "1", |ack| ack.properties.maximum_qos == Some(QoS::AtLeastOnce)),
        ("listeners.tcp.retain", "false", |ack| ack.properties.retain_available == Some(false)),
        ("listeners.tcp.max_packet", "\"8KiB\"", |ack| ack.properties.maximum_packet_size == Some(8 << 10)),
        ("session.receive_maximum", "7", |ack| ack.properties.receive_maximum == Some(7)),
        ("session.topic_alias_maximum", "3", |ack| ack.properties.topic_alias_maximum == Some(3)),
        ("listeners.tcp.keep_alive_min", "\"100s\"", |ack| ack.properties.server_keep_alive == Some(100)),
        ("listeners.tcp.keep_alive_max", "\"30s\"", |ack| ack.properties.server_keep_alive == Some(30)),
        ("listeners.tcp.client_id_max_length", "3", |ack| ack.reason == ReasonCode::ClientIdentifierNotValid),
        ("listeners.tcp.client_id_policy", "\"alphanumeric\"", |ack| {
            ack.reason == ReasonCode::ClientIdentifierNotValid
        }),
        ("listeners.tcp.client_id_required", "true", |ack| ack.reason == ReasonCode::ClientIdentifierNotValid),
        ("access.anonymous", "false", |ack| ack.reason == ReasonCode::BadUserNameOrPassword),
    ];
    for (key, value, is_seen) in cases {
        let client_id = if key.ends_with("required") { "" } else { "a-client" };
        let before = live.answer(client_id).await;
        assert!(!is_seen(&before), "{key} has not changed yet, and {before:?}");
        live.set(&[(key, value)]).await;
        let after = live.answer(client_id).await;
        assert!(is_seen(&after), "{key} = {value}, and {after:?}");
        live.unset(&[key]).await;
    }
}

async fn what_a_connection_may_do(live: &mut Live) {
    live.set(&[("listeners.tcp.max_filters", "1")]).await;
    let mut client = live.client().await;
    assert_eq!(client.subscribe("one", QoS::AtLeastOnce).await, ReasonCode::GrantedQoS1);
    assert_eq!(client.subscribe("two", QoS::AtLeastOnce).await, ReasonCode::QuotaExceeded);
    live.set(&[("listeners.tcp.max_topic_levels", "2")]).await;
    assert_eq!(live.client().await.subscribe("a/b/c", QoS::AtLeastOnce).await, ReasonCode::TopicFilterInvalid);
    live.unset(&["listeners.tcp.max_filters", "listeners.tcp.max_topic_levels"]).await;

    live.set(&[("listeners.tcp.max_packet", "\"1KiB\""), ("listeners.tcp.oversize", "\"drop\"")]).await;
    let mut client = live.client().await;
    assert!(!client.try_publish("t", &[0; 4 << 10]).await, "it is not taken");
    client.ping().await;
    client.disconnect().await;
    live.unset(&["listeners.tcp.max_packet", "listeners.tcp.oversize"]).await;

    live.set(&[("listeners.tcp.keep_alive_grace", "\"+30s\"")]).await;
    let mut silent = RawClient::connect(live.mqtt(), &Options::v5("silent").keep_alive(1)).await;
    assert!(!silent.is_closed_within(Duration::from_secs(3)).await, "it would be closed after 1.5 s");

    live.set(&[("session.connect_timeout", "\"500ms\"")]).await;
    let mut mute = RawClient::tcp(live.mqtt(), Version::V5).await.expect("a connection");
    assert!(mute.is_closed_within(Duration::from_secs(5)).await, "it would be closed after 10 s");

    live.set(&[("session.topic_aliases_sent", "0")]).await;
    let mut connect = Options::v5("aliases").packet();
    connect.properties.topic_alias_maximum = Some(10);
    let mut client = RawClient::connect(live.mqtt(), connect).await;
    client.subscribe("t", QoS::AtMostOnce).await;
    client.publish("t", b"x", QoS::AtMostOnce).await;
    let message = client.message(SOON).await;
    assert!(message.properties.is_none_or(|properties| properties.topic_alias.is_none()));
    live.witness.subscribe("t", QoS::AtMostOnce).await;

    // The witness is there.
    client.disconnect().await;
    silent.disconnect().await;
    until("the clients are gone", SOON, || async {
        let online = live.cluster.nodes[0].api().sessions("").await.len();
        if online == 1 { Ok(()) } else { Err(online.to_string()) }
    })
    .await;
    live.set(&[("listeners.tcp.max_connections", "1")]).await;
    let refused = RawClient::try_connect(live.mqtt(), &Options::v5("second")).await;
    assert!(refused.is_err(), "it is closed on accept");
    live.unset(&["listeners.tcp.max_connections"]).await;
}

async fn refusals(live: &mut Live, each: Duration) -> usize {
    let api = live.cluster.nodes[0].api();
    let before = api.last_seq().await.expect("a position");
    for _ in 0..50 {
        let mut client = RawClient::tcp(live.mqtt(), Version::V5).await.expect("a connection");
        client.send_raw(&[0xC0, 0x00]).await.expect("a PINGREQ is sent");
        client.closed(SOON).await;
        tokio::time::sleep(each).await;
    }
    live.witness.ping().await;
    api.events_after(before).await.iter().filter(|event| event["reason"] == "ping_without_connect").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_that_may_change_does_and_no_connection_is_dropped() {
    let [ws, proxied] = [0, 1].map(|more| SocketAddr::from(([127, 0, 0, 1], ports::consecutive(2) + more)));
    let binds = [format!("listeners.ws.bind={ws}"), format!("listeners.proxied.bind={proxied}")];
    let mut live = Live::start(&["listeners.ws.type=ws", &binds[0], &binds[1]]).await;
    what_a_connack_tells(&mut live).await;
    what_a_connection_may_do(&mut live).await;

    live.set(&[("events.refusal_burst", "5"), ("events.refusal_rate", "1")]).await;
    let few = refusals(&mut live, Duration::ZERO).await;
    assert!((1..=25).contains(&few), "{few} events of 50");
    live.set(&[("events.refusal_rate", "1000000")]).await;
    let all = refusals(&mut live, Duration::from_millis(2)).await;
    assert_eq!(all, 50, "as many as are refused");

    assert!(upgraded(ws, "/mqtt").await && !upgraded(ws, "/elsewhere").await);
    live.set(&[("listeners.ws.path", "\"/elsewhere\"")]).await;
    assert!(!upgraded(ws, "/mqtt").await && upgraded(ws, "/elsewhere").await);

    let both =
        [("listeners.proxied.proxy_protocol", "\"v1\""), ("listeners.proxied.trusted_proxies", "[\"127.0.0.1\"]")];
    live.set(&both).await;
    assert!(is_welcome_behind_a_proxy(proxied).await);
    live.set(&[("listeners.proxied.trusted_proxies", "[\"10.0.0.0/8\"]")]).await;
    assert!(!is_welcome_behind_a_proxy(proxied).await);

    live.set(&[("http.token", "\"open-sesame\"")]).await;
    assert!(live.cluster.nodes[0].api().get("cluster").await.is_err_and(|error| error.contains("401")));
    live.values.remove("http.token");
    live.write();
    live.cluster.nodes[0].hang_up();
    until("the token is gone", SOON, || async { live.cluster.nodes[0].api().get("cluster").await.map(drop) }).await;

    live.set(&[("drain.rate", "1"), ("drain.timeout", "\"3s\"")]).await;
    let seen = live.seen.iter().map(|key| key.replace(".ws.", ".tcp.").replace(".proxied.", ".tcp."));
    assert_eq!(
        seen.collect::<BTreeSet<_>>(),
        documented(),
        "the keys that the reference says change, and those seen to"
    );
    live.witness.ping().await;
    drains_slowly_and_not_for_long(live).await;
}

/// One client in a second, three of ten that are there.
async fn drains_slowly_and_not_for_long(mut live: Live) {
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(RawClient::connect(live.mqtt(), &Options::v5(format!("drained-{number}"))).await);
    }
    let began = Instant::now();
    live.cluster.nodes[0].terminate();
    assert!(live.cluster.nodes[0].ended(SOON).await.success());
    let took = began.elapsed();
    assert!((Duration::from_millis(2_500)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let mut told = usize::from(live.witness.closed(SOON).await.is_some());
    for client in &mut clients {
        told += usize::from(client.closed(SOON).await.is_some());
    }
    assert!((2..=6).contains(&told), "{told} were told");
}

async fn upgraded(ws: SocketAddr, path: &str) -> bool {
    let mut stream = TcpStream::connect(ws).await.expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {ws}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.is_ok() && status.ends_with(b" 101")
}

async fn is_welcome_behind_a_proxy(address: SocketAddr) -> bool {
    let mut client = RawClient::tcp(address, Version::V5).await.expect("a connection");
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 1883\r\n";
    // It may be closed by then.
    let _ = client.send_raw(header).await;
    let _ = client.send(&Packet::Connect(Box::new(Options::v5("device").packet()))).await;
    matches!(client.receive(SOON).await, Received::Packet(Packet::ConnAck(ack)) if ack.reason == ReasonCode::Success)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_value_and_nothing_is_changed_and_what_needs_a_restart_is_told() {
    let mut live = Live::start(&[]).await;
    let set = |live: &mut Live, values: &[(&str, &str)]| {
        live.values = values.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        live.write();
    };
    let max_qos = ("listeners.tcp.max_qos", "1");
    for (wrong, says) in [
        (("listeners.tcp.max_quos", "1"), "did you mean listeners.tcp.max_qos"),
        (("drain.timeout", "\"soon\""), "drain.timeout"),
        (("listeners.tcp.max_packet", "\"8MiB\""), "inbox.max_bytes"),
        (("this is", "not TOML"), "TOML"),
    ] {
        set(&mut live, &[max_qos, wrong]);
        let (status, problem) = live.reload().await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{problem}");
        assert_eq!(live.answer("client").await.properties.maximum_qos, None, "nothing was changed by {wrong:?}");
    }
    // What can be changed contradicts what is in force and cannot.
    set(&mut live, &[max_qos, ("inbox.max_bytes", "\"16MiB\""), ("listeners.tcp.max_packet", "\"8MiB\"")]);
    let (status, problem) = live.reload().await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");

    set(
        &mut live,
        &[
            max_qos,
            ("limits.max_connections", "5"),
            ("inbox.max_messages", "5"),
            ("listeners.new.bind", "\"127.0.0.1:1\""),
        ],
    );
    let (status, told) = live.reload().await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told["applied"], json!(["listeners.tcp.max_qos"]));
    assert_eq!(told["only_seeds"], json!(["limits.max_connections"]));
    let restart = told["needs_restart"].as_array().expect("a list");
    assert!(restart.contains(&json!("inbox.max_messages")) && restart.contains(&json!("listeners.new.bind")), "{told}");
    assert_eq!(live.answer("client").await.properties.maximum_qos, Some(QoS::AtLeastOnce));
    live.witness.ping().await;
}
