//! The configuration as the program uses it. The meaning, unit and range of each field are in the key table.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    grace::KeepAliveGrace,
    units::{duration, size},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: Node,
    pub http: Http,
    pub listeners: BTreeMap<String, Listener>,
    pub cluster: Cluster,
    pub session: Session,
    pub limits: Limits,
    pub access: Access,
    pub inbox: Inbox,
    pub events: Events,
    pub drain: Drain,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub name: String,
    pub data_dir: PathBuf,
    pub advertise_mqtt: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub bind: SocketAddr,
    pub token: Option<String>,
    pub max_followers: usize,
}

/// Leaves the token out, so that a configuration may be logged.
impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http")
            .field("bind", &self.bind)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("max_followers", &self.max_followers)
            .finish()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub r#type: ListenerType,
    pub bind: SocketAddr,
    /// Of WebSockets.
    pub path: String,
    pub proxy_protocol: ProxyProtocol,
    pub trusted_proxies: Vec<String>,
    pub tls: ListenerTls,
    pub max_connections: usize,
    pub client_id_max_length: usize,
    pub client_id_policy: ClientIdPolicy,
    pub client_id_required: bool,
    #[serde(deserialize_with = "duration")]
    pub keep_alive_min: Duration,
    #[serde(deserialize_with = "duration")]
    pub keep_alive_max: Duration,
    pub keep_alive_grace: KeepAliveGrace,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub max_packet: u64,
    pub oversize: Oversize,
    pub max_qos: u8,
    pub retain: bool,
    pub max_filters: usize,
    pub max_topic_levels: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerType {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl ListenerType {
    pub fn is_encrypted(self) -> bool {
        matches!(self, ListenerType::Tls | ListenerType::Wss)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    Off,
    V1,
    V2,
    Any,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub client_ca: Option<PathBuf>,
    pub client_auth: ClientAuth,
    #[serde(deserialize_with = "duration")]
    pub reload: Duration,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    None,
    Optional,
    Required,
}

/// What happens at a packet that is larger than `max_packet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    Drop,
    Disconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientIdPolicy {
    Any,
    Alphanumeric,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    pub reload: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    pub peers: Vec<String>,
    pub rpc_bind: SocketAddr,
    pub rpc_advertise: Option<String>,
    pub tls: ClusterTls,
    pub plaintext: bool,
    pub shards: u32,
    pub replicas: u32,
    pub voters: usize,
    #[serde(deserialize_with = "duration")]
    pub heartbeat: Duration,
    #[serde(deserialize_with = "duration")]
    pub election: Duration,
    #[serde(deserialize_with = "duration")]
    pub route_lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub node_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub batch_interval: Duration,
    pub batch_commands: usize,
    pub queue: usize,
    pub shard_queue: usize,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub shard_queue_bytes: u64,
    #[serde(deserialize_with = "duration")]
    pub claim_timeout: Duration,
    pub link_window: usize,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub link_window_bytes: u64,
    #[serde(deserialize_with = "duration")]
    pub rpc_timeout: Duration,
    pub reap_batch: u32,
    /// In bytes of log.
    #[serde(deserialize_with = "size")]
    pub snapshot_after: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub topic_aliases_sent: u16,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub write_buffer: u64,
}

/// What the cluster is formed with; `None` is no limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_connections: Option<u64>,
    pub max_connections_per_node: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    pub anonymous: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    pub max_messages: usize,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
    pub overflow: Overflow,
    /// In bytes.
    #[serde(deserialize_with = "size")]
    pub memory: u64,
}

/// What gives way when a session has too many messages waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    DropOldest,
    DropNewest,
    EndSession,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    pub retention: u64,
    pub memory: usize,
    pub node: EventNode,
    pub refusal_burst: u64,
    /// Per second.
    pub refusal_rate: u64,
}

/// What an event's `node` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventNode {
    Address,
    Name,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Clients per second.
    pub rate: u32,
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

impl Cluster {
    /// Where other nodes reach this one.
    pub fn advertised_rpc(&self) -> String {
        self.rpc_advertise.clone().unwrap_or_else(|| self.rpc_bind.to_string())
    }
}
