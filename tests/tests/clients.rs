//! Other people's clients talk to a three-node cluster, publisher and subscriber on different nodes, at QoS 0, 1 and 2.
//! `tests/clients/setup` installs them.

use rollcall_tests::cluster::TestCluster;
use rollcall_tests::external::{Running, clients_folder, command, line_by_line, python, succeed};
use tokio::process::Command;

/// One line for each QoS, as the round-trip scripts print it.
fn expected(who: &str) -> Vec<String> {
    (0..3).map(|qos| format!("{qos} {who} at QoS {qos}")).collect()
}

async fn lines_of(command: Command) -> Vec<String> {
    let output = succeed(command).await;
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn ports(cluster: &TestCluster, subscriber: usize, publisher: usize) -> [String; 2] {
    [subscriber, publisher].map(|index| cluster.nodes[index].spec.mqtt_port.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mosquitto_pub_and_sub_speak_3_1_and_3_1_1_and_5() {
    let cluster = TestCluster::start(3).await;
    for (round, version) in ["mqttv31", "mqttv311", "mqttv5"].into_iter().enumerate() {
        let [subscriber_port, publisher_port] = ports(&cluster, round, (round + 1) % 3);
        for qos in ["0", "1", "2"] {
            let topic = format!("mosquitto/{version}/{qos}");
            let common = ["-h", "127.0.0.1", "-V", version, "-q", qos, "-t", &topic, "-p"];
            let mut subscriber = line_by_line("mosquitto_sub", &common);
            // -d prints the SUBACK, at which the publisher may start.
            subscriber.args([subscriber_port.as_str(), "-d", "-F", "got %q %p"]);
            let mut subscriber = Running::start(subscriber);
            subscriber.line_with("Subscribed", rollcall_tests::client::SOON).await;
            let mut publisher = command("mosquitto_pub", &common);
            publisher.args([publisher_port.as_str(), "-m", version]);
            succeed(publisher).await;
            let line = subscriber.line_with("got ", rollcall_tests::client::SOON).await;
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
        paho.args(ports(&cluster, round, (round + 1) % 3)).kill_on_drop(true);
        assert_eq!(lines_of(paho).await, expected(&format!("paho {version}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_js_speaks_3_1_1_and_5() {
    let cluster = TestCluster::start(3).await;
    for (round, version) in ["4", "5"].into_iter().enumerate() {
        let mut node = command("node", &[]);
        node.arg(clients_folder().join("mqttjs_roundtrip.js")).arg(version);
        node.args(ports(&cluster, round, (round + 1) % 3));
        assert_eq!(lines_of(node).await, expected(&format!("MQTT.js {version}")));
    }
}
