//! NATS' MQTT as a yardstick: sessions and messages are JetStream's, in files.

use super::Broker;
use super::broker::named;
use crate::external::command;
use crate::ports;

impl Broker {
    /// Each stream on up to three of the nodes, as is its default; `in_flight` messages unacknowledged for one
    /// subscription.
    pub async fn nats(nodes: u16, in_flight: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (mqtt, client, route) = (ports::consecutive(nodes), ports::consecutive(nodes), ports::consecutive(nodes));
        let routes: Vec<String> = (0..nodes).map(|index| format!("nats://127.0.0.1:{}", route + index)).collect();
        let start = |index| {
            let store = folder.path().join(format!("node-{index}"));
            let mut text = format!(
                "server_name: node-{index}\nlisten: 127.0.0.1:{}\njetstream {{ store_dir: {:?} }}\n\
                 mqtt {{ listen: \"127.0.0.1:{}\", max_ack_pending: {in_flight} }}\n",
                client + index,
                store.display().to_string(),
                mqtt + index,
            );
            if nodes > 1 {
                let (listen, routes) = (route + index, routes.join(", "));
                text += &format!("cluster {{ name: bench, listen: \"127.0.0.1:{listen}\", routes: [{routes}] }}\n");
            }
            let file = folder.path().join(format!("node-{index}.conf"));
            std::fs::write(&file, text).expect("its configuration is written");
            command("nats-server", &["-c", &file.display().to_string()])
        };
        let commands = (0..nodes).map(start).collect();
        Self::of_others(named("nats", nodes), mqtt, commands, folder).await
    }
}
