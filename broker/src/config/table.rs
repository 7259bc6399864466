//! Every configuration key, once: what is not in this table does not exist. Defaults, checks, suggestions, the printed
//! configuration and the reference in `docs/configuration.md` all come from here.

use super::kind::Kind;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The full name; `NAME` stands for the listener's.
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written after `--set name=`.
    pub default: &'static str,
    /// What it does, with its unit where the type does not say it.
    pub about: &'static str,
    pub change: Change,
}

/// When another value comes into force that a running node finds in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// With the next start.
    Restart,
    /// At once; what belongs to a connection, for those that come.
    Reload,
    /// Never: it was the cluster's first value, and is changed over HTTP.
    Seed,
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Change::Restart => "restart",
            Change::Reload => "reload",
            Change::Seed => "over HTTP",
        }
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, about, change: Change::Restart }
}

/// The same, of a key that a running node takes up.
const fn live(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { change: Change::Reload, ..key(name, kind, default, about) }
}

const fn seed(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { change: Change::Seed, ..key(name, kind, default, about) }
}

const fn ms(min: u64, max: u64) -> Kind {
    Kind::Duration { min, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The longest remaining length that MQTT can express is 268,435,455 bytes; the fixed header adds five.
const MQTT_LARGEST: u64 = 256 * MIB;
const KEEP_ALIVE_LONGEST: u64 = 65_535 * SECOND;

/// What a section is for, in the order in which the reference shows them.
pub const SECTIONS: [(&str, &str); 12] = [
    ("node", "This node."),
    ("http", "The HTTP interface for operators: health, metrics, REST."),
    (
        "listeners.NAME",
        "One section for each MQTT listener. With none given there is one, named `tcp`; as soon as any is named, only \
         the named ones exist. A name is made of `a-z 0-9 _ -`.",
    ),
    (
        "listeners.NAME.tls",
        "Of listeners of type `tls` and `wss`. TLS 1.2 and 1.3; the same certificate is shown whatever name a client asks \
         for.",
    ),
    ("cluster", "The nodes and how they agree."),
    (
        "cluster.tls",
        "Between nodes: TLS 1.3, where each shows a certificate of one private authority and sees the other's. Given together \
         or not at all; without them nodes speak plainly, which beyond loopback has to be asked for by `cluster.plaintext`.",
    ),
    ("session", "What each MQTT session may do and hold."),
    (
        "limits",
        "Limits of the whole cluster. These are the values at the moment the cluster is formed; from then on they are \
         in the replicated state and changed by `PUT /api/v1/limits`.",
    ),
    ("access", "Who may connect."),
    ("inbox", "What waits for one session."),
    ("events", "The log of lifecycle events."),
    ("drain", "How a node stops."),
];

/// The table, section by section.
pub const KEYS: &[Key] = &[
    key("node.name", Kind::Name, "node-0", "The node's name, unique in the cluster and kept over restarts."),
    key("node.data_dir", Kind::Path, "./rollcall-data", "Where the node keeps its state. One node per directory."),
    key(
        "node.advertise_mqtt",
        Kind::OptionalAddress,
        "",
        "The address under which clients reach this node: the `node` of events and the server reference of a drain. \
         Not set: the first listener's address, on a wildcard bind the first address that is not loopback.",
    ),
    key("http.bind", Kind::Bind, "127.0.0.1:8080", "Where HTTP is served."),
    live(
        "http.token",
        Kind::Secret,
        "",
        "When set, every request but `/healthz` and `/readyz` needs `Authorization: Bearer` with this token.",
    ),
    key(
        "http.max_followers",
        count(1, 100_000),
        "256",
        "How many event streams may be followed over HTTP at once; the next is answered 503.",
    ),
    key(
        "listeners.NAME.type",
        Kind::Choice(&["tcp", "tls", "ws", "wss"]),
        "tcp",
        "What is spoken on it: MQTT on plain TCP, on TLS, on WebSocket, on WebSocket over TLS.",
    ),
    key("listeners.NAME.bind", Kind::Bind, "127.0.0.1:1883", "Where it listens. No two listeners share an address."),
    live("listeners.NAME.path", Kind::UrlPath, "/mqtt", "Where WebSocket clients find it."),
    live(
        "listeners.NAME.proxy_protocol",
        Kind::Choice(&["off", "v1", "v2", "any"]),
        "off",
        "Which versions of the PROXY protocol a load balancer speaks before the client does: every connection must then \
         begin with its header, and events name the client's own address.",
    ),
    live(
        "listeners.NAME.trusted_proxies",
        Kind::Networks,
        "",
        "From where such a header is taken. A connection from elsewhere is closed.",
    ),
    key(
        "listeners.NAME.tls.cert",
        Kind::OptionalPath,
        "",
        "PEM file: the listener's certificate, and those it was issued by.",
    ),
    key("listeners.NAME.tls.key", Kind::OptionalPath, "", "PEM file: the private key of that certificate."),
    key(
        "listeners.NAME.tls.client_ca",
        Kind::OptionalPath,
        "",
        "PEM file: who issues the certificates that clients may show.",
    ),
    key(
        "listeners.NAME.tls.client_auth",
        Kind::Choice(&["none", "optional", "required"]),
        "none",
        "Whether clients are asked for a certificate. One that is shown must be good.",
    ),
    key(
        "listeners.NAME.tls.reload",
        ms(SECOND, 86_400 * SECOND),
        "10s",
        "How often the files of certificate and key are looked at; new ones are used from the next connection on.",
    ),
    live(
        "listeners.NAME.max_connections",
        count(1, 10_000_000),
        "1000000",
        "Sockets open on this listener at once, before and after CONNECT; the next is closed on accept.",
    ),
    live(
        "listeners.NAME.client_id_max_length",
        count(1, 65_535),
        "128",
        "The longest client id, in characters; a longer one is refused (`client_id_too_long`).",
    ),
    live(
        "listeners.NAME.client_id_policy",
        Kind::Choice(&["any", "alphanumeric"]),
        "any",
        "`any` takes all but control characters, `alphanumeric` takes `0-9 a-z A-Z` only (otherwise `client_id_invalid`).",
    ),
    live(
        "listeners.NAME.client_id_required",
        Kind::Bool,
        "false",
        "Whether a client must bring an id of its own (otherwise `client_id_required`). Where it need not, one is assigned to \
         clients of 5.0, and to those of 3.1.1 with a clean session.",
    ),
    live(
        "listeners.NAME.keep_alive_min",
        ms(0, KEEP_ALIVE_LONGEST),
        "0s",
        "The shortest keep alive. A client that asks for less is held to this one; 5.0 clients are told.",
    ),
    live(
        "listeners.NAME.keep_alive_max",
        ms(SECOND, KEEP_ALIVE_LONGEST),
        "65535s",
        "The longest keep alive. A 5.0 client that asks for more, or for none, is told this one; a 3.x client, which cannot be \
         told, keeps its own.",
    ),
    live(
        "listeners.NAME.keep_alive_grace",
        Kind::Grace,
        "1.5x",
        "How long a silent client is borne with: a factor of its keep alive, or an addition to it.",
    ),
    live(
        "listeners.NAME.max_packet",
        bytes(KIB, MQTT_LARGEST),
        "256KiB",
        "The largest packet that is read, fixed header included; judged by the header alone.",
    ),
    live(
        "listeners.NAME.oversize",
        Kind::Choice(&["drop", "disconnect"]),
        "disconnect",
        "What happens at a larger one: the client is disconnected, as MQTT has it; or, if it is a PUBLISH, it is dropped: a \
         5.0 client is answered 0x97 at QoS 1 and 2, to a 3.x client it counts as taken.",
    ),
    live("listeners.NAME.max_qos", count(0, 2), "2", "The highest QoS a client may publish with or be granted."),
    live(
        "listeners.NAME.retain",
        Kind::Bool,
        "true",
        "Whether clients may publish with RETAIN; 5.0 clients are told at CONNECT, 3.x clients that do it nevertheless are \
         disconnected.",
    ),
    live(
        "listeners.NAME.max_filters",
        count(1, 100_000),
        "1000",
        "Subscriptions one session may hold; a further one is answered 0x97 (v5) or 0x80.",
    ),
    live(
        "listeners.NAME.max_topic_levels",
        count(1, 65_535),
        "128",
        "Levels that a subscription's filter may have; one with more is answered 0x8F (v5) or 0x80.",
    ),
    key("cluster.name", Kind::Name, "rollcall", "Nodes of another cluster's name are refused."),
    key(
        "cluster.peers",
        Kind::Addresses,
        "",
        "The node-to-node addresses of the initial members, this node's own among them, the same list on each of them. A \
         node that comes later lists members that are there, and itself. Empty: a cluster of one, formed at once.",
    ),
    key("cluster.rpc_bind", Kind::Bind, "127.0.0.1:7400", "Where this node listens for other nodes."),
    key(
        "cluster.rpc_advertise",
        Kind::OptionalAddress,
        "",
        "Where other nodes reach this one. Not set: `cluster.rpc_bind`, which must then not be a wildcard.",
    ),
    key("cluster.tls.ca", Kind::OptionalPath, "", "PEM file: the authority that has issued all nodes' certificates."),
    key(
        "cluster.tls.cert",
        Kind::OptionalPath,
        "",
        "PEM file: this node's certificate with its chain, for the host of its `cluster.rpc_advertise`.",
    ),
    key("cluster.tls.key", Kind::OptionalPath, "", "PEM file: the private key of that certificate."),
    key(
        "cluster.tls.reload",
        ms(SECOND, 86_400 * SECOND),
        "10s",
        "How often these files are looked at; new ones are used from the next connection on.",
    ),
    key(
        "cluster.plaintext",
        Kind::Bool,
        "false",
        "Whether nodes may speak to each other without TLS beyond loopback: whoever reaches the port is then one of them.",
    ),
    key(
        "cluster.shards",
        count(1, 256),
        "8",
        "Raft groups among which the queues of persistent sessions and the retained messages are divided. Fixed when the \
         cluster is formed.",
    ),
    key(
        "cluster.replicas",
        count(1, 7),
        "3",
        "Nodes that hold each shard, an odd number. Fixed when the cluster is formed; with fewer nodes, all of them hold it.",
    ),
    key(
        "cluster.voters",
        count(1, 7),
        "5",
        "Members up to which later nodes get a vote in the roster, as long as that leaves an odd number; the rest follow it.",
    ),
    key(
        "cluster.heartbeat",
        ms(10, 10 * SECOND),
        "100ms",
        "How often a Raft leader is heard of. Below `cluster.election`.",
    ),
    key(
        "cluster.election",
        ms(50, 30 * SECOND),
        "300ms",
        "The shortest silence of a Raft leader after which another is elected.",
    ),
    key(
        "cluster.route_lease",
        ms(200, 60 * SECOND),
        "2s",
        "How long a node routes messages by its copy of the subscriptions without hearing from the leader; then its \
         publishers are held back. At least three times `cluster.election`, so that an election holds nobody back.",
    ),
    key(
        "cluster.lease",
        ms(300, 120 * SECOND),
        "7s",
        "How long a node that is cut off keeps its connections. Above `cluster.route_lease`.",
    ),
    key(
        "cluster.node_timeout",
        ms(500, 600 * SECOND),
        "10s",
        "How long a node may be silent before it is declared down and its sessions released. Above `cluster.lease`.",
    ),
    key(
        "cluster.batch_interval",
        ms(0, 100),
        "4ms",
        "The most that a node waits after one batch of commands for the log before it sends the next: nothing after a single command, all of it after nine or more.",
    ),
    key("cluster.batch_commands", count(1, 65_536), "4096", "Commands in one batch, at most."),
    key(
        "cluster.queue",
        count(1, 10_000_000),
        "65536",
        "Commands that may wait for a batch on one node; beyond, those who ask wait to enter.",
    ),
    key(
        "cluster.shard_queue",
        count(1, 10_000_000),
        "16384",
        "Commands that may wait for one shard's batch on one node; when full, publishers wait.",
    ),
    key("cluster.shard_queue_bytes", bytes(64 * KIB, 4 * GIB), "16MiB", "The same, in bytes."),
    key(
        "cluster.claim_timeout",
        ms(100, 60 * SECOND),
        "5s",
        "How long a CONNECT, SUBSCRIBE or UNSUBSCRIBE waits for the cluster's decision before it is refused.",
    ),
    key(
        "cluster.link_window",
        count(1, 1 << 20),
        "4096",
        "Messages sent to one other node and not yet acknowledged by it; when full, publishers wait.",
    ),
    key("cluster.link_window_bytes", bytes(64 * KIB, 4 * GIB), "16MiB", "The same, in bytes."),
    key("cluster.rpc_timeout", ms(50, 60 * SECOND), "1s", "How long one request to another node may take."),
    key("cluster.reap_batch", count(1, 65_536), "1000", "Sessions of a dead node that are released by one command."),
    key(
        "cluster.snapshot_after",
        bytes(64 * KIB, 64 * GIB),
        "64MiB",
        "How much log gathers after a snapshot before the next is taken.",
    ),
    live(
        "session.connect_timeout",
        ms(100, 10 * MINUTE),
        "10s",
        "How long a new connection may take to send its CONNECT.",
    ),
    live(
        "session.receive_maximum",
        count(1, 65_535),
        "256",
        "QoS 1 and 2 messages a client may have in flight to the broker.",
    ),
    live(
        "session.topic_alias_maximum",
        count(0, 65_535),
        "32",
        "Topic aliases a v5 client may set on one connection; 0 allows none.",
    ),
    live(
        "session.topic_aliases_sent",
        count(0, 65_535),
        "32",
        "Topics for which one v5 client is sent an alias, if it allows as many: the first ones of a connection.",
    ),
    key(
        "session.write_buffer",
        bytes(4 * KIB, 64 * MIB),
        "256KiB",
        "Encoded bytes waiting for one client's socket above which no further packet is encoded for it.",
    ),
    seed("limits.max_connections", Kind::Limit { min: 0 }, "unlimited", "Connections of the whole cluster, exactly."),
    seed("limits.max_connections_per_node", Kind::Limit { min: 0 }, "unlimited", "Connections of each node, exactly."),
    live("access.anonymous", Kind::Bool, "true", "Whether a client may connect without credentials."),
    key(
        "inbox.max_messages",
        count(1, 10_000_000),
        "1000",
        "Messages waiting for one session: in the inbox of a persistent one, online or not, or before the connection of \
         a clean one. When it is full, a QoS 0 message is dropped, and any other goes by `inbox.overflow`.",
    ),
    key("inbox.max_bytes", bytes(KIB, 16 * GIB), "1MiB", "The same, in bytes. At least every listener's `max_packet`."),
    key(
        "inbox.overflow",
        Kind::Choice(&["drop_oldest", "drop_newest", "end_session"]),
        "drop_oldest",
        "What gives way when a session's messages of QoS 1 and 2 are too many: the oldest, the newest, or the session, which \
         then ends as `too_many_connection` with the detail `session overflow`.",
    ),
    key(
        "inbox.memory",
        bytes(MIB, 1 << 40),
        "256MiB",
        "Bytes of waiting and retained messages that one node keeps in memory; beyond, the oldest are spilled to disk.",
    ),
    key(
        "events.retention",
        count(1_000, 1_000_000_000),
        "1000000",
        "Events kept on each node's disk; older ones can no longer be read.",
    ),
    key(
        "events.memory",
        count(1, 100_000_000),
        "10000",
        "The latest events kept in memory, so that those who follow them need no disk.",
    ),
    key(
        "events.node",
        Kind::Choice(&["address", "name"]),
        "address",
        "What an event's `node` is: the node's advertised MQTT address, or its name.",
    ),
    live(
        "events.refusal_burst",
        count(1, 1_000_000),
        "1000",
        "Events of connections refused before they claim a session (bad credentials, bad client id, …) that a node makes at \
         once, for one source address and in all; what is beyond is counted in `rollcall_refusal_events_dropped_total`.",
    ),
    live("events.refusal_rate", count(1, 1_000_000), "100", "How many more of them it makes each second."),
    live(
        "drain.rate",
        count(0, 1_000_000),
        "1000",
        "Clients told to go per second while the node drains; 0: all at once.",
    ),
    live(
        "drain.timeout",
        ms(SECOND, HOUR),
        "30s",
        "How long a drain may take; what is left then is closed without ceremony.",
    ),
];
