//! One lifecycle event as the broker tells it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Connected,
    Disconnected,
    Subscribed,
    Unsubscribed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub seq: u64,
    pub kind: Kind,
    pub client: String,
    /// 0 for a connection that was refused.
    pub epoch: u64,
    /// Why a connection ended.
    pub reason: String,
    /// The client's address.
    pub peer: String,
    /// A subscription's filter.
    pub topic: String,
}

impl Event {
    /// # Errors
    /// It lacks what every event of its kind has.
    pub fn read(value: &Value) -> Result<Self, String> {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| value[field].as_u64().ok_or_else(|| format!("{field} is no number in {value}"));
        let kind = match value["event"].as_str() {
            Some("client.connected") => Kind::Connected,
            Some("client.disconnected") => Kind::Disconnected,
            Some("client.subscribed") => Kind::Subscribed,
            Some("client.unsubscribed") => Kind::Unsubscribed,
            _ => return Err(format!("an event of no known kind: {value}")),
        };
        let peer = if value["peername"].is_string() { text("peername") } else { text("peerhost") };
        Ok(Self {
            seq: number("seq")?,
            kind,
            client: text("clientid"),
            epoch: number("epoch")?,
            reason: text("reason"),
            peer,
            topic: text("topic"),
        })
    }
}

/// The same for the same event, whoever tells it.
pub fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}
