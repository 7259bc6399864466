//! Other people's clients talk to a three-node cluster, publisher and subscriber on different nodes, at QoS 0, 1 and 2.
//! `tests/clients/setup` installs them.

use std::path::PathBuf;
use std::sync::Arc;

use rollcall_tests::authority::Authority;
use rollcall_tests::client::SOON;
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::text;
use rollcall_tests::external::{Running, clients_folder, command, line_by_line, python, succeed};
use rollcall_tests::patience::until;
use rollcall_tests::ports;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, TlsConfiguration, Transport};
use rustls::ClientConfig;
use rustls::version::TLS13;
use tempfile::TempDir;
use tokio::process::Command;

/// One line for each QoS, as the round-trip scripts print it.
fn expected(who: &str) -> Vec<String> {
    (0..3).map(|qos| format!("{qos} {who} at QoS {qos}")).collect()
}

async fn lines_of(command: Command) -> Vec<String> {
    let output = succeed(command).await;
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn mqtt_ports(cluster: &TestCluster, subscriber: usize, publisher: usize) -> [String; 2] {
    [subscriber, publisher].map(|index| cluster.nodes[index].spec.mqtt_port.to_string())
}

fn urls(cluster: &TestCluster, subscriber: usize, publisher: usize) -> [String; 2] {
    mqtt_ports(cluster, subscriber, publisher).map(|port| format!("mqtt://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_and_sub_speak_3_1_and_3_1_1_and_5() {
    let cluster = TestCluster::start(3).await;
    for (round, version) in ["mqttv31", "mqttv311", "mqttv5"].into_iter().enumerate() {
        let [subscriber_port, publisher_port] = mqtt_ports(&cluster, round, (round + 1) % 3);
        for qos in ["0", "1", "2"] {
            let topic = format!("mosquitto/{version}/{qos}");
            let common = ["-h", "127.0.0.1", "-V", version, "-q", qos, "-t", &topic, "-p"];
            let mut subscriber = line_by_line("mosquitto_sub", &common);
            // -d prints the SUBACK, at which the publisher may start.
            subscriber.args([subscriber_port.as_str(), "-d", "-F", "got %q %p"]);
            let mut subscriber = Running::start(subscriber);
            subscriber.line_with("Subscribed", SOON).await;
            let mut publisher = command("mosquitto_pub", &common);
            publisher.args([publisher_port.as_str(), "-m", version]);
            succeed(publisher).await;
            let line = subscriber.line_with("got ", SOON).await;
            assert_eq!(line, format!("got {qos} {version}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_speaks_3_1_and_3_1_1_and_5() {
    let cluster = TestCluster::start(3).await;
    for (round, version) in ["3.1", "3.1.1", "5"].into_iter().enumerate() {
        let mut paho = Command::new(python());
        paho.arg(clients_folder().join("paho_roundtrip.py")).arg(version);
        paho.args(urls(&cluster, round, (round + 1) % 3)).kill_on_drop(true);
        assert_eq!(lines_of(paho).await, expected(&format!("paho {version}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_speaks_3_1_1_and_5() {
    let cluster = TestCluster::start(3).await;
    for (round, version) in ["4", "5"].into_iter().enumerate() {
        let mut node = command("node", &[]);
        node.arg(clients_folder().join("mqttjs_roundtrip.js")).arg(version);
        node.args(urls(&cluster, round, (round + 1) % 3));
        assert_eq!(lines_of(node).await, expected(&format!("MQTT.js {version}")));
    }
}

/// Three nodes that speak TLS and both kinds of WebSocket too, by certificates of a private CA.
struct Everywhere {
    cluster: TestCluster,
    first_port: u16,
    ca: PathBuf,
    /// For clients that trust the CA.
    tls: Arc<ClientConfig>,
    /// The nodes'.
    certificate: PathBuf,
    _folder: TempDir,
}

/// Besides the port of plain TCP; node *i* has them in a row.
const MORE: [(&str, &str); 3] = [("tls", "mqtts"), ("ws", "ws"), ("wss", "wss")];

impl Everywhere {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new(folder.path(), "ca");
        let identity = authority.issue("node");
        let first_port = ports::consecutive(3 * MORE.len() as u16);
        let cluster = TestCluster::start_changed(3, &[], |spec| {
            let index: u16 = spec.name.trim_start_matches("node-").parse().expect("a number");
            for (place, (kind, _)) in (0..).zip(MORE) {
                let port = first_port + index * MORE.len() as u16 + place;
                spec.settings.push(format!("listeners.{kind}.type={kind}"));
                spec.settings.push(format!("listeners.{kind}.bind=127.0.0.1:{port}"));
                if kind != "ws" {
                    spec.settings.push(format!("listeners.{kind}.tls.cert={}", identity.cert.display()));
                    spec.settings.push(format!("listeners.{kind}.tls.key={}", identity.key.display()));
                }
            }
        });
        let (ca, tls) = (authority.file("ca"), authority.client(&TLS13, None));
        Everywhere { cluster: cluster.await, first_port, ca, tls, certificate: identity.cert, _folder: folder }
    }

    fn port(&self, node: u16, kind: usize) -> u16 {
        self.first_port + node * MORE.len() as u16 + kind as u16
    }

    /// On two nodes, by one kind.
    fn urls(&self, kind: usize) -> [String; 2] {
        [0, 1].map(|node| format!("{}://127.0.0.1:{}/mqtt", MORE[kind].1, self.port(node, kind)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paho_speaks_tls_and_websocket_and_both_together() {
    let everywhere = Everywhere::start().await;
    for (kind, name) in MORE.iter().enumerate() {
        let mut paho = Command::new(python());
        paho.arg(clients_folder().join("paho_roundtrip.py")).arg("5").args(everywhere.urls(kind));
        paho.arg(&everywhere.ca).kill_on_drop(true);
        assert_eq!(lines_of(paho).await, expected("paho 5"), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_speaks_tls_and_websocket_and_both_together() {
    let everywhere = Everywhere::start().await;
    for (kind, name) in MORE.iter().enumerate() {
        let mut node = command("node", &[]);
        node.arg(clients_folder().join("mqttjs_roundtrip.js")).arg("5").args(everywhere.urls(kind));
        node.env("NODE_EXTRA_CA_CERTS", &everywhere.ca);
        assert_eq!(lines_of(node).await, expected("MQTT.js 5"), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_in_a_browser_speaks_websocket_with_and_without_tls() {
    let everywhere = Everywhere::start().await;
    for (kind, name) in MORE.iter().enumerate().skip(1) {
        let mut node = command("node", &[]);
        node.arg(clients_folder().join("browser_roundtrip.js")).arg("5").args(everywhere.urls(kind));
        node.arg(&everywhere.certificate);
        assert_eq!(lines_of(node).await, expected("a browser"), "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_speaks_tcp_and_tls_and_websocket_and_both_together() {
    let everywhere = Everywhere::start().await;
    let tls = || TlsConfiguration::Rustls(everywhere.tls.clone());
    let tcp = everywhere.cluster.nodes[..2].iter().map(|node| ("127.0.0.1".to_owned(), node.spec.mqtt_port));
    assert_eq!(rumqttc_round_trip(tcp.collect(), &Transport::tcp).await, expected("rumqttc"));
    let transports: [&dyn Fn() -> Transport; 3] =
        [&|| Transport::tls_with_config(tls()), &Transport::ws, &|| Transport::wss_with_config(tls())];
    for (kind, transport) in transports.into_iter().enumerate() {
        // It takes a URL where it speaks WebSocket, and a host where it does not.
        let host = |url: String| if kind == 0 { "127.0.0.1".to_owned() } else { url };
        let brokers = (0..).zip(everywhere.urls(kind)).map(|(node, url)| (host(url), everywhere.port(node, kind)));
        assert_eq!(rumqttc_round_trip(brokers.collect(), transport).await, expected("rumqttc"), "{:?}", MORE[kind]);
    }
}

/// Subscribes at the first broker, publishes at the second.
async fn rumqttc_round_trip(brokers: Vec<(String, u16)>, transport: &dyn Fn() -> Transport) -> Vec<String> {
    let mut connected = brokers.into_iter().zip(["sub", "pub"]).map(|((host, port), name)| {
        let mut options = MqttOptions::new(format!("rumqttc-{name}"), host, port);
        options.set_transport(transport());
        AsyncClient::new(options, 10)
    });
    let (subscriber, mut arriving) = connected.next().expect("a broker to subscribe at");
    let (publisher, mut leaving) = connected.next().expect("a broker to publish at");
    subscriber.subscribe("rumqttc/#", QoS::ExactlyOnce).await.expect("it asks");
    until_event(&mut arriving, |event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())).await;
    let publishing = tokio::spawn(async move { while leaving.poll().await.is_ok() {} });
    let mut lines = Vec::new();
    for (number, qos) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        let payload = format!("rumqttc at QoS {number}");
        publisher.publish(format!("rumqttc/{number}"), qos, false, payload).await.expect("it publishes");
        let message = until_event(&mut arriving, |event| match event {
            Event::Incoming(Packet::Publish(message)) => Some(message),
            _ => None,
        });
        let message = message.await;
        lines.push(format!("{} {}", message.qos as u8, String::from_utf8_lossy(&message.payload)));
    }
    publishing.abort();
    lines
}

async fn until_event<T>(events: &mut EventLoop, wanted: impl Fn(Event) -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = wanted(events.poll().await.expect("it stays connected")) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, looking).await.expect("it comes in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_and_sub_speak_tls() {
    let everywhere = Everywhere::start().await;
    let ca = everywhere.ca.display().to_string();
    let common = ["-h", "127.0.0.1", "--cafile", &ca, "-q", "1", "-t", "mosquitto/tls", "-p"];
    let mut subscriber = line_by_line("mosquitto_sub", &common);
    subscriber.args([&everywhere.port(0, 0).to_string(), "-d", "-F", "got %q %p"]);
    let mut subscriber = Running::start(subscriber);
    subscriber.line_with("Subscribed", SOON).await;
    let mut publisher = command("mosquitto_pub", &common);
    publisher.args([&everywhere.port(1, 0).to_string(), "-m", "encrypted"]);
    succeed(publisher).await;
    assert_eq!(subscriber.line_with("got ", SOON).await, "got 1 encrypted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy_events_name_the_device() {
    let listener = ports::consecutive(2);
    let settings = [
        format!("listeners.balanced.bind=127.0.0.1:{listener}"),
        "listeners.balanced.proxy_protocol=v2".to_owned(),
        "listeners.balanced.trusted_proxies=127.0.0.1".to_owned(),
    ];
    let cluster = TestCluster::start_with(1, &settings.each_ref().map(String::as_str)).await;
    let front = listener + 1;
    let file = cluster.scratch("haproxy.cfg");
    let configuration = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         listen mqtt\n bind 127.0.0.1:{front}\n server node 127.0.0.1:{listener} send-proxy-v2\n"
    );
    std::fs::write(&file, configuration).expect("its configuration is written");
    let _haproxy = Running::start(command("haproxy", &["-db", "-f", &file.display().to_string()]));
    // From an address of its own, which no other connection of this test comes from.
    let mut device = command("mosquitto_pub", &["-h", "127.0.0.1", "-A", "127.0.0.77", "-i", "device"]);
    device.args(["-t", "t", "-m", "hello", "-q", "1", "-p", &front.to_string()]);
    until("haproxy accepts", SOON, || async move {
        tokio::net::TcpStream::connect(("127.0.0.1", front)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    succeed(device).await;
    let events = cluster.nodes[0].api().events_after(0).await;
    let event = events.iter().find(|event| event["clientid"] == "device").expect("it has connected");
    assert!(text(event, "peername").starts_with("127.0.0.77:"), "{event}");
}
