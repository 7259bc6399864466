//! MQTT over TLS and WebSocket, and behind a load balancer that speaks the PROXY protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::authority::{Authority, Issued};
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{of_client, text};
use rollcall_tests::patience::until;
use rollcall_tests::{ports, tunnel};
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Bytes, Message};

type Socket = WebSocketStream<TcpStream>;

/// A 3.1.1 CONNECT of the client `ws`, and what it is answered.
const CONNECT: &[u8] = &[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 2, b'w', b's'];
const CONNACK: &[u8] = &[0x20, 2, 0, 0];
const PING: &[u8] = &[0xC0, 0];
const PONG: &[u8] = &[0xD0, 0];

/// One node with one listener more, named `other`, and where it is.
async fn with_listener(settings: &[&str]) -> (TestCluster, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], ports::consecutive(1)));
    let bind = format!("listeners.other.bind={address}");
    (TestCluster::start_with(1, &[settings, &[&bind]].concat()).await, address)
}

async fn with_tls(identity: &Issued, settings: &[&str]) -> (TestCluster, SocketAddr) {
    let cert = format!("listeners.other.tls.cert={}", identity.cert.display());
    let key = format!("listeners.other.tls.key={}", identity.key.display());
    with_listener(&[&["listeners.other.type=tls", &cert, &key], settings].concat()).await
}

async fn disconnected(cluster: &TestCluster, client_id: &str) -> Value {
    let api = cluster.nodes[0].api();
    until("the client's end is in the log", SOON, || async {
        let events = of_client(&api.events_after(0).await, client_id);
        let end = events.iter().find(|event| text(event, "event") == "client.disconnected");
        end.cloned().ok_or_else(|| format!("{events:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_tls_1_2_or_1_3_talks_to_one_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let (cluster, tls) = with_tls(&authority.issue("node"), &["inbox.max_bytes=64MiB"]).await;
    let mut plain = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v311("plain")).await;
    plain.subscribe("from/tls", QoS::AtLeastOnce).await;
    let large = vec![b'x'; 200 << 10];
    for version in [&TLS12, &TLS13] {
        let through = tunnel::tls(tls, authority.client(version, None)).await;
        let mut client = RawClient::connect(through, &Options::v5("encrypted")).await;
        client.subscribe("from/plain", QoS::AtLeastOnce).await;
        client.publish("from/tls", &large, QoS::AtLeastOnce).await;
        assert_eq!(plain.message(SOON).await.payload, large);
        for _ in 0..20 {
            plain.publish("from/plain", &large, QoS::AtLeastOnce).await;
        }
        for _ in 0..20 {
            assert_eq!(client.message(SOON).await.payload, large);
        }
        client.disconnect().await;
        assert_eq!(text(&disconnected(&cluster, "encrypted").await, "reason"), "normal");
    }
    let stranger = Authority::new(folder.path(), "stranger");
    let refused = tunnel::encrypted(tls, stranger.client(&TLS13, None)).await;
    assert!(refused.is_err(), "the client does not know who issued the certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_certificates_are_required_only_clients_with_a_good_one_get_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let stranger = Authority::new(folder.path(), "stranger");
    let ca = format!("listeners.other.tls.client_ca={}", authority.file("ca").display());
    let (good, bad) = (authority.issue("device"), stranger.issue("impostor"));
    for (auth, without) in [("required", false), ("optional", true)] {
        let auth = format!("listeners.other.tls.client_auth={auth}");
        let (_cluster, tls) = with_tls(&authority.issue("node"), &[&auth, &ca]).await;
        for (identity, gets_in) in [(Some(&good), true), (None, without), (Some(&bad), false)] {
            for version in [&TLS12, &TLS13] {
                let through = tunnel::tls(tls, authority.client(version, identity)).await;
                let connected = RawClient::try_connect(through, &Options::v5("device")).await;
                assert_eq!(connected.is_ok(), gets_in, "{auth} {identity:?} {version:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_the_next_client_and_no_connection_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
    let identity = old.issue("node");
    let (_cluster, tls) = with_tls(&identity, &["listeners.other.tls.reload=1s"]).await;
    let through = tunnel::tls(tls, old.client(&TLS13, None)).await;
    let mut staying = RawClient::connect(through, &Options::v5("staying")).await;
    // A broken file is passed over.
    std::fs::write(&identity.cert, "no certificate").expect("the file is written");
    let renewed = new.issue("renewed");
    let accepted =
        || async { tunnel::encrypted(tls, new.client(&TLS13, None)).await.map_err(|error| error.to_string()) };
    assert!(accepted().await.is_err() && tunnel::encrypted(tls, old.client(&TLS13, None)).await.is_ok());
    replace(&renewed.key, &identity.key);
    replace(&renewed.cert, &identity.cert);
    until("the new certificate is shown", SOON, accepted).await;
    staying.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_authorities_judge_the_next_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
    let ca = folder.path().join("clients.pem");
    std::fs::copy(old.file("old"), &ca).expect("the file is written");
    let settings = [
        "listeners.other.tls.reload=1s".to_owned(),
        "listeners.other.tls.client_auth=required".to_owned(),
        format!("listeners.other.tls.client_ca={}", ca.display()),
    ];
    let (_cluster, tls) = with_tls(&old.issue("node"), &settings.each_ref().map(String::as_str)).await;
    let of_old = old.client(&TLS13, Some(&old.issue("earlier")));
    let of_new = old.client(&TLS13, Some(&new.issue("later")));
    let gets_in = |name, identity| async move {
        RawClient::try_connect(tunnel::tls(tls, identity).await, &Options::v5(name)).await.map(|(client, _)| client)
    };
    let mut staying = gets_in("staying", of_old.clone()).await.expect("its authority is known");
    assert!(gets_in("new", of_new.clone()).await.is_err());
    replace(&new.file("new"), &ca);
    until("the new authority is in force", SOON, || {
        let trying = gets_in("new", of_new.clone());
        async { trying.await.map_err(|error| error.to_string()) }
    })
    .await;
    assert!(gets_in("old", of_old).await.is_err());
    staying.ping().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layer_is_ended_in_its_own_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    for kind in ["tls", "wss"] {
        let kind_of = format!("listeners.other.type={kind}");
        let (_cluster, address) = with_tls(&authority.issue("node"), &[&kind_of]).await;
        let mut stream = tunnel::encrypted(address, authority.client(&TLS13, None)).await.expect("a handshake");
        let goodbye = [CONNECT, &[0xE0, 0]].concat();
        // Without a close_notify the end of the stream would be an error.
        let mut rest = Vec::new();
        if kind == "tls" {
            stream.write_all(&goodbye).await.expect("it is sent");
            stream.read_to_end(&mut rest).await.expect("a close_notify");
        } else {
            let mut request = format!("wss://{address}/mqtt").into_client_request().expect("a request");
            request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().expect("a header"));
            let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a handshake");
            socket.send(Message::Binary(goodbye.into())).await.expect("it is sent");
            while let Some(Ok(_)) = socket.next().await {}
            socket.get_mut().read_to_end(&mut rest).await.expect("a close_notify");
        }
    }
}

fn replace(new: &Path, old: &Path) {
    std::fs::rename(new, old).expect("the file takes the other's place");
}

async fn websocket(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> Result<Socket, String> {
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    if let Some(subprotocol) = subprotocol {
        let value = subprotocol.parse().expect("a header");
        request.headers_mut().insert("sec-websocket-protocol", value);
    }
    let stream = TcpStream::connect(address).await.expect("a connection");
    let shaken = tokio_tungstenite::client_async(request, stream).await;
    let (socket, response) = shaken.map_err(|error| error.to_string())?;
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt", "[MQTT-6.0.0-4]");
    Ok(socket)
}

/// Bytes of binary frames, as many as that.
async fn bytes(socket: &mut Socket, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        match tokio::time::timeout(SOON, socket.next()).await.expect("a frame comes in time") {
            Some(Ok(Message::Binary(frame))) => all.extend_from_slice(&frame),
            other => panic!("{other:?} instead of a binary frame [MQTT-6.0.0-1]"),
        }
    }
    all
}

async fn send(socket: &mut Socket, frame: &[u8]) {
    socket.send(Message::Binary(Bytes::copy_from_slice(frame))).await.expect("a frame is sent");
}

async fn is_closed(mut socket: Socket) {
    let closed = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(SOON, closed).await.expect("the broker closes the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_may_be_cut_over_frames_and_frames_may_hold_several() {
    // [MQTT-6.0.0-2], [MQTT-6.0.0-2/3.1.1]
    let (cluster, address) = with_listener(&["listeners.other.type=ws"]).await;
    let mut socket = websocket(address, "/mqtt", Some("mqtt")).await.expect("it is let in");
    for byte in CONNECT {
        send(&mut socket, &[*byte]).await;
    }
    assert_eq!(bytes(&mut socket, 4).await, CONNACK);
    send(&mut socket, &[PING, PING, &PING[..1]].concat()).await;
    assert_eq!(bytes(&mut socket, 4).await, [PONG, PONG].concat());
    send(&mut socket, &PING[1..]).await;
    assert_eq!(bytes(&mut socket, 2).await, PONG);
    socket.close(None).await.expect("a close frame is sent");
    is_closed(socket).await;
    assert_eq!(text(&disconnected(&cluster, "ws").await, "reason"), "normal", "a close frame is a way to leave");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_frame_closes_the_connection() {
    // [MQTT-6.0.0-1], [MQTT-6.0.0-1/3.1.1], [MQTT-6.0.0-4], [MQTT-6.0.0-4/3.1.1]
    let (cluster, address) = with_listener(&["listeners.other.type=ws", "listeners.other.path=/here"]).await;
    let mut socket = websocket(address, "/here", Some("mqttv3.1, mqtt")).await.expect("it is let in");
    send(&mut socket, CONNECT).await;
    bytes(&mut socket, 4).await;
    socket.send(Message::text("hello")).await.expect("a text frame is sent");
    is_closed(socket).await;
    assert_eq!(text(&disconnected(&cluster, "ws").await, "reason"), "tcp_closed");
    assert!(websocket(address, "/mqtt", Some("mqtt")).await.is_err_and(|error| error.contains("404")));
    for other in [None, Some("soap")] {
        assert!(websocket(address, "/here", other).await.is_err_and(|error| error.contains("400")), "{other:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_larger_than_any_packet_is_not_read() {
    let (_cluster, address) = with_listener(&["listeners.other.type=ws", "listeners.other.max_packet=4KiB"]).await;
    let mut socket = websocket(address, "/mqtt", Some("mqtt")).await.expect("it is let in");
    send(&mut socket, CONNECT).await;
    bytes(&mut socket, 4).await;
    // What is sent after the broker has hung up fails, or goes nowhere.
    let _ = socket.send(Message::Binary(vec![0; 1 << 20].into())).await;
    is_closed(socket).await;
}

/// Connects as a load balancer does for a client; the `peername` of its event.
async fn peername_behind(cluster: &TestCluster, listener: SocketAddr, header: &[u8]) -> String {
    let mut stream = TcpStream::connect(listener).await.expect("a connection");
    stream.write_all(&[header, CONNECT].concat()).await.expect("header and CONNECT are sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.expect("a CONNACK");
    assert_eq!(answer, CONNACK);
    drop(stream);
    let event = disconnected(cluster, "ws").await;
    text(&event, "peername").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_load_balancer_events_name_the_client_s_own_address() {
    const TRUSTED: &str = "listeners.other.trusted_proxies=127.0.0.0/8";
    let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 1883\r\n";
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 7, 0x5B][..]].concat();
    for (header, version) in [(&v1[..], "v1"), (&v2, "v2"), (&v2, "any")] {
        let setting = format!("listeners.other.proxy_protocol={version}");
        let (cluster, address) = with_listener(&[&setting, TRUSTED]).await;
        assert_eq!(peername_behind(&cluster, address, header).await, "192.0.2.7:4711", "{version}");
        let mut without = TcpStream::connect(address).await.expect("a connection");
        without.write_all(CONNECT).await.expect("a CONNECT is sent");
        assert!(is_hung_up(&mut without).await, "without a header nobody gets in");
    }
    let setting = "listeners.other.proxy_protocol=any";
    let (_cluster, address) = with_listener(&[setting, "listeners.other.trusted_proxies=192.0.2.0/24"]).await;
    let mut stranger = TcpStream::connect(address).await.expect("a connection");
    // It may have been closed before all of it is sent.
    let _ = stranger.write_all(&[&v1[..], CONNECT].concat()).await;
    assert!(is_hung_up(&mut stranger).await, "anybody could claim to be anybody");
}

/// The other side has closed; TLS says why before that.
async fn is_hung_up(stream: &mut TcpStream) -> bool {
    let mut said = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut said)).await;
    read.is_ok() && said.len() < 100
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_to_the_connect_in_time_is_closed_on_every_transport() {
    let folder = tempfile::tempdir().expect("a folder");
    let identity = Authority::new(folder.path(), "ca").issue("node");
    let tls = [
        format!("listeners.other.tls.cert={}", identity.cert.display()),
        format!("listeners.other.tls.key={}", identity.key.display()),
    ];
    let tls = tls.each_ref().map(String::as_str);
    let proxy = ["listeners.other.proxy_protocol=v2", "listeners.other.trusted_proxies=127.0.0.1"];
    for (kind, more) in [("tls", &tls[..]), ("ws", &[]), ("wss", &tls), ("tcp", &proxy)] {
        let kind = format!("listeners.other.type={kind}");
        let settings = [&[&kind, "session.connect_timeout=1s"], more].concat();
        let (_cluster, address) = with_listener(&settings).await;
        let started = Instant::now();
        let mut silent = TcpStream::connect(address).await.expect("a connection");
        let mut slow = TcpStream::connect(address).await.expect("a connection");
        slow.write_all(b"\r").await.expect("a byte is sent");
        for stream in [&mut silent, &mut slow] {
            assert!(is_hung_up(stream).await, "{kind}");
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{kind}: {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_counts_as_time_that_the_connect_takes() {
    const LIMIT: Duration = Duration::from_secs(4);
    let (_cluster, address) = with_listener(&["listeners.other.type=ws", "session.connect_timeout=4s"]).await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    tokio::time::sleep(LIMIT * 3 / 4).await;
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the handshake is asked for");
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        answer.push(char::from(stream.read_u8().await.expect("an answer")));
    }
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(is_hung_up(&mut stream).await && started.elapsed() >= LIMIT, "not before its time");
    assert!(started.elapsed() < LIMIT * 3 / 2, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_over_tls_holds_nobody_up_and_gets_what_it_is_owed() {
    const MESSAGES: usize = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let (cluster, tls) = with_tls(&authority.issue("node"), &["inbox.max_bytes=64MiB"]).await;
    let through = tunnel::tls(tls, authority.client(&TLS13, None)).await;
    let mut slow = RawClient::connect(through, &Options::v5("slow")).await;
    slow.subscribe("much", QoS::AtLeastOnce).await;
    let mut publisher = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("publisher")).await;
    // Far more than all buffers on the way hold.
    let large = vec![b'x'; 200 << 10];
    for _ in 0..MESSAGES {
        publisher.publish("much", &large, QoS::AtLeastOnce).await;
    }
    for _ in 0..MESSAGES {
        assert_eq!(slow.message(SOON).await.payload.len(), large.len());
    }
    slow.disconnect_with(ReasonCode::Success).await;
}
