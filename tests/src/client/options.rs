//! What a test client says in its CONNECT.

use bytes::Bytes;
use bytestring::ByteString;
use rollcall_proto::packet::{Connect, QoS, Version, Will};
use rollcall_proto::properties::{ConnectProperties, WillProperties};

/// A clean session without keep alive, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    pub version: Version,
    pub client_id: String,
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// Seconds; 5.0 only.
    pub session_expiry: Option<u32>,
    pub username: Option<String>,
    pub will: Option<(String, Vec<u8>)>,
    /// Seconds; 5.0 only.
    pub will_delay: u32,
}

impl Options {
    pub fn new(version: Version, client_id: impl Into<String>) -> Self {
        let client_id = client_id.into();
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive: 0,
            session_expiry: None,
            username: None,
            will: None,
            will_delay: 0,
        }
    }

    pub fn v5(client_id: impl Into<String>) -> Self {
        Self::new(Version::V5, client_id)
    }

    pub fn v311(client_id: impl Into<String>) -> Self {
        Self::new(Version::V311, client_id)
    }

    pub fn v31(client_id: impl Into<String>) -> Self {
        Self::new(Version::V31, client_id)
    }

    /// A session that is resumed if there is one and outlives its connection.
    pub fn persistent(mut self) -> Self {
        self.clean_start = false;
        self.session_expiry = (self.version == Version::V5).then_some(3600);
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub fn username(mut self, name: &str) -> Self {
        self.username = Some(name.to_owned());
        self
    }

    pub fn will(mut self, topic: &str, payload: &[u8]) -> Self {
        self.will = Some((topic.to_owned(), payload.to_vec()));
        self
    }

    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.will_delay = seconds;
        self
    }

    /// The CONNECT that says all this; for what there is no option for, change it.
    pub fn packet(&self) -> Connect {
        let will = self.will.as_ref().map(|(topic, payload)| Will {
            topic: ByteString::from(topic.as_str()),
            payload: Bytes::copy_from_slice(payload),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties {
                delay_interval: (self.will_delay > 0).then_some(self.will_delay),
                ..WillProperties::default()
            },
        });
        Connect {
            version: self.version,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: ByteString::from(self.client_id.as_str()),
            username: self.username.as_deref().map(ByteString::from),
            password: None,
            will,
            properties: ConnectProperties { session_expiry: self.session_expiry, ..Default::default() },
        }
    }
}

impl From<&Options> for Connect {
    fn from(options: &Options) -> Self {
        options.packet()
    }
}
