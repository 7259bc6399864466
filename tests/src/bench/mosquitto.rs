//! mosquitto as a yardstick: one process, one thread.

use super::Broker;
use crate::external::command;
use crate::ports;

impl Broker {
    /// With these lines of configuration beside what a test needs.
    pub async fn mosquitto(lines: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = ports::consecutive(1);
        let file = folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type error\n\
             persistence_location {}/\n{}\n",
            folder.path().display(),
            lines.join("\n"),
        );
        std::fs::write(&file, text).expect("its configuration is written");
        let command = command("mosquitto", &["-c", &file.display().to_string()]);
        Self::of_others("mosquitto".into(), port, vec![command], folder).await
    }
}
