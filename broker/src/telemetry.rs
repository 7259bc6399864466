//! What the program tells about itself: logs, and every metric by name.

use std::io::IsTerminal;

use clap::ValueEnum;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Logs go to stderr; without a format given, for people on a terminal and as JSON otherwise. `RUST_LOG` sets the level.
pub fn start_logging(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    let terminal = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let format = format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    // Fails only when a subscriber is there already, and then the logs go there.
    let _ = match format {
        LogFormat::Human => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
}

/// Installs the recorder behind the `metrics` macros and describes every metric.
///
/// # Errors
/// When another recorder is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub const BUILD_INFO: &str = "rollcall_build_info";
pub const CONNECTIONS: &str = "rollcall_connections";
pub const ACCEPTED: &str = "rollcall_accepted_sockets_total";
pub const REFUSED_SOCKETS: &str = "rollcall_refused_sockets_total";
pub const CONNECTS: &str = "rollcall_connects_total";
pub const CONNECT_SECONDS: &str = "rollcall_connect_seconds";
pub const DISCONNECTS: &str = "rollcall_disconnects_total";
pub const PACKETS_RECEIVED: &str = "rollcall_packets_received_total";
pub const PACKETS_SENT: &str = "rollcall_packets_sent_total";
pub const BYTES_RECEIVED: &str = "rollcall_bytes_received_total";
pub const BYTES_SENT: &str = "rollcall_bytes_sent_total";
pub const MESSAGES_RECEIVED: &str = "rollcall_messages_received_total";
pub const MESSAGES_SENT: &str = "rollcall_messages_sent_total";
pub const REFUSAL_EVENTS_DROPPED: &str = "rollcall_refusal_events_dropped_total";
pub const MESSAGES_DROPPED: &str = "rollcall_messages_dropped_total";
pub const MESSAGES_FORWARDED: &str = "rollcall_messages_forwarded_total";
pub const MESSAGES_PASSED_ON: &str = "rollcall_messages_passed_on_total";
pub const SUBACK_SECONDS: &str = "rollcall_suback_seconds";
pub const SESSIONS: &str = "rollcall_sessions";
pub const SESSIONS_ONLINE: &str = "rollcall_sessions_online";
pub const EVENTS_SEQ: &str = "rollcall_events_seq";
pub const EVENT_FOLLOWERS: &str = "rollcall_event_followers";
pub const LOG_SYNCS: &str = "rollcall_log_syncs_total";
pub const LOG_BYTES: &str = "rollcall_log_written_bytes_total";
pub const LOG_SYNC_SECONDS: &str = "rollcall_log_last_sync_seconds";
pub const DISK_FAILED: &str = "rollcall_disk_failed";
pub const READY: &str = "rollcall_ready";

fn describe() {
    describe_gauge!(BUILD_INFO, "Always 1; the version is a label");
    describe_gauge!(READY, "1 while this node may serve");
    describe_gauge!(CONNECTIONS, "MQTT connections open on this node, by listener");
    describe_counter!(ACCEPTED, "Sockets accepted, by listener");
    describe_counter!(REFUSED_SOCKETS, "Sockets closed on accept because the listener was full, by listener");
    describe_counter!(CONNECTS, "CONNECT packets answered, by result");
    describe_histogram!(CONNECT_SECONDS, Unit::Seconds, "From the CONNECT packet to its CONNACK");
    describe_counter!(DISCONNECTS, "Connections that ended, by reason");
    describe_counter!(PACKETS_RECEIVED, "MQTT packets read");
    describe_counter!(PACKETS_SENT, "MQTT packets written");
    describe_counter!(BYTES_RECEIVED, Unit::Bytes, "Bytes read from clients");
    describe_counter!(BYTES_SENT, Unit::Bytes, "Bytes written to clients");
    describe_counter!(MESSAGES_RECEIVED, "Messages published by this node's clients, by QoS");
    describe_counter!(MESSAGES_SENT, "Messages delivered to this node's clients, by QoS");
    describe_counter!(REFUSAL_EVENTS_DROPPED, "Refused connections without an event, as there were too many");
    describe_counter!(MESSAGES_DROPPED, "Messages dropped, by reason");
    describe_counter!(MESSAGES_FORWARDED, "Messages sent to other nodes");
    describe_counter!(
        MESSAGES_PASSED_ON,
        "Messages of shared subscriptions given to another member, as the first had left"
    );
    describe_histogram!(SUBACK_SECONDS, Unit::Seconds, "From a SUBSCRIBE packet to its SUBACK");
    describe_gauge!(SESSIONS, "Sessions in the cluster, online and offline");
    describe_gauge!(SESSIONS_ONLINE, "Connections in the cluster, as the limit counts them");
    describe_gauge!(EVENTS_SEQ, "seq of the last event this node has applied");
    describe_gauge!(EVENT_FOLLOWERS, "Event streams followed over HTTP on this node");
    describe_counter!(LOG_SYNCS, "Flushes of the write-ahead log to disk");
    describe_counter!(LOG_BYTES, Unit::Bytes, "Bytes written to the write-ahead log");
    describe_gauge!(LOG_SYNC_SECONDS, Unit::Seconds, "How long the last flush of the write-ahead log took");
    describe_gauge!(
        DISK_FAILED,
        "1 once the write-ahead log has failed: the node serves no more until it is restarted"
    );
    metrics::gauge!(DISK_FAILED).set(0.0);
    metrics::gauge!(BUILD_INFO, "version" => crate::version()).set(1.0);
}
