//! RabbitMQ's MQTT as a yardstick: a persistent session is a quorum queue, its own kind of Raft group.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::process::Command;

use super::Broker;
use super::broker::named;
use crate::external::command;
use crate::ports;

/// Debian's own `rabbitmq-server` changes to another user; this is what it starts.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

impl Broker {
    /// `in_flight` messages unacknowledged for one subscriber.
    pub async fn rabbitmq(nodes: u16, in_flight: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        secret(folder.path());
        let (mqtt, amqp, distribution) =
            (ports::consecutive(nodes), ports::consecutive(nodes), ports::consecutive(nodes));
        // Erlang's port mapper, which a node would otherwise start for itself and leave running.
        let mapper = ports::consecutive(1).to_string();
        let helper = command("epmd", &["-port", &mapper, "-address", "127.0.0.1"]).spawn();
        let helper = helper.unwrap_or_else(|error| panic!("epmd does not start ({error}): is erlang-base installed?"));
        let start = |index| {
            let place = folder.path().join(format!("node-{index}"));
            std::fs::create_dir(&place).expect("a folder for a node");
            let text = configuration(nodes, mqtt + index, in_flight);
            std::fs::write(place.join("rabbitmq.conf"), text).expect("its configuration is written");
            let mut command = node(folder.path(), &place, index, &mapper);
            command.env("RABBITMQ_NODE_PORT", (amqp + index).to_string());
            command.env("RABBITMQ_DIST_PORT", (distribution + index).to_string());
            command
        };
        let commands = (0..nodes).map(start).collect();
        let mut broker = Self::of_others(named("rabbitmq", nodes), mqtt, commands, folder).await;
        broker.keep(helper);
        broker
    }
}

fn node(folder: &Path, place: &Path, index: u16, mapper: &str) -> Command {
    let mut command = command(PROGRAM, &[]);
    command
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("bench-{index}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", place.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS", "rabbitmq_mqtt")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", place.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", place)
        .env("RABBITMQ_LOG_BASE", place)
        .env("RABBITMQ_PID_FILE", place.join("pid"))
        .env("ERL_EPMD_PORT", mapper)
        // The script then becomes the broker instead of waiting for it: killing it kills the broker.
        .env("RUNNING_UNDER_SYSTEMD", "true");
    command
}

fn configuration(nodes: u16, mqtt: u16, in_flight: u16) -> String {
    let mut text = format!(
        "mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\nmqtt.allow_anonymous = true\nmqtt.prefetch = {in_flight}\n\
         mqtt.durable_queue_type = quorum\nlog.file.level = error\n"
    );
    if nodes > 1 {
        text += "cluster_formation.peer_discovery_backend = classic_config\n";
        for peer in 0..nodes {
            text += &format!("cluster_formation.classic_config.nodes.{} = bench-{peer}@localhost\n", peer + 1);
        }
    }
    text
}

/// What the nodes know each other by. Erlang insists that nobody else can read it.
fn secret(folder: &Path) {
    let file = folder.join(".erlang.cookie");
    let secret: u128 = rand::random();
    std::fs::write(&file, format!("{secret:032x}")).expect("the cookie is written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).expect("it is ours alone");
}
