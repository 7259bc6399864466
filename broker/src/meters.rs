//! Counters that are touched for every packet, looked up once.

use metrics::{Counter, Histogram, counter, histogram};

use crate::telemetry;

#[derive(Clone)]
pub struct Meters {
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub packets_received: Counter,
    pub packets_sent: Counter,
    pub messages_received: [Counter; 3],
    pub messages_sent: [Counter; 3],
    pub forwarded: Counter,
    pub passed_on: Counter,
    pub dropped_link_full: Counter,
    pub dropped_mailbox_full: Counter,
    pub dropped_congested: Counter,
    pub dropped_queue_full: Counter,
    pub dropped_other: Counter,
    pub connect_seconds: Histogram,
    pub suback_seconds: Histogram,
}

impl Meters {
    /// After the recorder is installed: what is looked up before counts nowhere.
    pub fn new() -> Self {
        let by_qos = |name: &'static str| ["0", "1", "2"].map(|qos| counter!(name, "qos" => qos));
        let dropped = |reason: &'static str| counter!(telemetry::MESSAGES_DROPPED, "reason" => reason);
        Meters {
            bytes_received: counter!(telemetry::BYTES_RECEIVED),
            bytes_sent: counter!(telemetry::BYTES_SENT),
            packets_received: counter!(telemetry::PACKETS_RECEIVED),
            packets_sent: counter!(telemetry::PACKETS_SENT),
            messages_received: by_qos(telemetry::MESSAGES_RECEIVED),
            messages_sent: by_qos(telemetry::MESSAGES_SENT),
            forwarded: counter!(telemetry::MESSAGES_FORWARDED),
            passed_on: counter!(telemetry::MESSAGES_PASSED_ON),
            dropped_link_full: dropped("link_full"),
            dropped_mailbox_full: dropped("mailbox_full"),
            dropped_congested: dropped("client_slow"),
            dropped_queue_full: dropped("queue_full"),
            dropped_other: dropped("other"),
            connect_seconds: histogram!(telemetry::CONNECT_SECONDS),
            suback_seconds: histogram!(telemetry::SUBACK_SECONDS),
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        Meters::new()
    }
}
