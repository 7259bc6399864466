//! What a node's part in the cluster needs to know. Every bound and timeout here is a key of the same name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rollcall_proto::schema::roster::Limits;
use rollcall_proto::schema::shard::InboxLimits;

use crate::tls::NodeTls;

#[derive(Debug, Clone)]
pub struct Config {
    /// `cluster.name`: two clusters of different names never mix.
    pub cluster_name: String,
    /// `node.name`
    pub node_name: String,
    /// `node.data_dir`
    pub data_dir: PathBuf,
    /// `cluster.peers`: the node-to-node addresses of the initial members, this node's included; empty for a single node.
    pub peers: Vec<String>,
    /// `cluster.rpc_bind`
    pub rpc_bind: SocketAddr,
    /// `cluster.rpc_advertise`: as the other nodes list this one in their peers.
    pub rpc_advertise: String,
    /// `cluster.tls`: without it nodes speak plain gRPC.
    pub tls: Option<NodeTls>,
    /// `node.advertise_mqtt`: `ip:port`, the `node` of events.
    pub mqtt_address: String,
    /// Where this node's HTTP can be reached, for the node list.
    pub http_address: String,
    /// The program's version, for the node list.
    pub version: String,
    /// `limits.*` as they are at the cluster's formation.
    pub limits: Limits,
    /// `cluster.shards`: groups of inboxes and retained messages, as they are at the cluster's formation.
    pub shards: u32,
    /// `cluster.replicas`: members of each of them, likewise.
    pub replicas: u32,
    /// `cluster.voters`: the most members that vote in the roster.
    pub voters: usize,
    /// `cluster.heartbeat` of Raft leaders.
    pub heartbeat: Duration,
    /// `cluster.election`: the shortest time without a leader before an election; at most a third more.
    pub election: Duration,
    /// `cluster.route_lease`
    pub route_lease: Duration,
    /// `cluster.lease`
    pub lease: Duration,
    /// `cluster.node_timeout`
    pub node_timeout: Duration,
    /// `cluster.batch_interval`: the time between two batches of a busy node.
    pub batch_interval: Duration,
    /// `cluster.batch_commands`: the most commands in one batch.
    pub batch_commands: usize,
    /// `cluster.queue`: commands that may wait for a batch; beyond, callers wait to enter.
    pub queue: usize,
    /// `cluster.shard_queue`: commands that may wait for one shard's batch.
    pub shard_queue: usize,
    /// `cluster.shard_queue_bytes`: the same in bytes.
    pub shard_queue_bytes: usize,
    /// `cluster.claim_timeout`: how long a caller waits for its command to be applied.
    pub claim_timeout: Duration,
    /// `cluster.rpc_timeout` of one request between nodes.
    pub rpc_timeout: Duration,
    /// `cluster.link_window`: messages that may wait for one node to acknowledge them.
    pub link_window: usize,
    /// `cluster.link_window_bytes`: their payloads and topics.
    pub link_window_bytes: usize,
    /// `cluster.snapshot_after`: bytes of log that are kept before a snapshot replaces them.
    pub snapshot_after: u64,
    /// `cluster.reap_batch`: sessions of a dead node released by one command.
    pub reap_batch: u32,
    /// `events.retention`: events kept on disk.
    pub event_retention: u64,
    /// `events.memory`: the latest events kept in memory for readers.
    pub event_memory: usize,
    /// `inbox.max_messages`, `inbox.max_bytes` and `inbox.overflow`, for inboxes that are opened through this node.
    pub inbox_limits: InboxLimits,
    /// `inbox.memory`: bytes of message bodies in memory beyond which they are spilled.
    pub inbox_memory: u64,
}
