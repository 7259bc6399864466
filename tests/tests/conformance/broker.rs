//! The cluster under test, as one case sees it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytestring::ByteString;
use rollcall_proto::packet::{ConnAck, Connect, Packet, Version};
use rollcall_tests::client::{Options, RawClient, Received, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::ports;

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
/// Those that are told apart from 3.1 by being strict.
pub const STRICT: [Version; 2] = [Version::V311, Version::V5];

/// What one case is, and what it is called.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(Broker) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The cases of a module, in the order they are to be listed.
#[macro_export]
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub fn cases() -> Vec<$crate::broker::Case> {
            vec![$($crate::broker::Case { name: stringify!($name), run: |broker| Box::pin($name(broker)) }),+]
        }
    };
}

/// What listeners there are on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Everything at its default.
    Open,
    /// QoS 1 at most, nothing retained, keep alives of a minute at most.
    Narrow,
    /// Packets of 1 KiB, client ids of 23 digits and letters.
    Small,
}

const LISTENERS: [Listener; 3] = [Listener::Open, Listener::Narrow, Listener::Small];

const NARROW: [&str; 3] = ["max_qos=1", "retain=false", "keep_alive_max=60s"];
const SMALL: [&str; 3] = ["max_packet=1KiB", "client_id_policy=alphanumeric", "client_id_max_length=23"];

/// The one cluster.
pub struct Stage {
    cluster: TestCluster,
    /// Of each node, by listener.
    addresses: Arc<Vec<[SocketAddr; LISTENERS.len()]>>,
}

impl Stage {
    pub async fn start() -> Self {
        let count: u16 =
            std::env::var("CONFORMANCE_NODES").map_or(1, |nodes| nodes.parse().expect("a number of nodes"));
        let first = ports::consecutive(count * 2);
        let port = |node: u16, listener: u16| first + 2 * node + listener;
        let cluster = TestCluster::start_changed(count, &[], |spec| {
            let node = spec.name.trim_start_matches("node-").parse().expect("a node's number");
            for (listener, (name, settings)) in [("narrow", NARROW), ("small", SMALL)].into_iter().enumerate() {
                let bind = format!("bind=127.0.0.1:{}", port(node, listener as u16));
                let settings = settings.into_iter().chain([&*bind]);
                spec.settings.extend(settings.map(|setting| format!("listeners.{name}.{setting}")));
            }
        })
        .await;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let of_node = |node: u16| {
            let open = cluster.nodes[usize::from(node)].mqtt();
            [open, local(port(node, 0)), local(port(node, 1))]
        };
        let addresses = Arc::new((0..count).map(of_node).collect());
        Self { cluster, addresses }
    }

    /// For the case with this number.
    pub fn broker(&self, case: usize) -> Broker {
        let next = Arc::new(AtomicUsize::new(case));
        Broker { addresses: self.addresses.clone(), listener: Listener::Open, case, next }
    }

    pub fn print_logs(&self) {
        for node in &self.cluster.nodes {
            eprintln!("--- the end of {}'s log ---\n{}", node.spec.name, node.log_tail(20));
        }
    }
}

/// The way of one case into the cluster. Its client ids and topics are its own.
#[derive(Clone)]
pub struct Broker {
    addresses: Arc<Vec<[SocketAddr; LISTENERS.len()]>>,
    listener: Listener,
    case: usize,
    next: Arc<AtomicUsize>,
}

impl Broker {
    /// The same nodes by another listener.
    pub fn by(&self, listener: Listener) -> Self {
        Self { listener, ..self.clone() }
    }

    /// The next connection's address: that of the node behind the last one's.
    pub fn address(&self) -> SocketAddr {
        let node = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        self.addresses[node][self.listener as usize]
    }

    /// A client id of this case, of digits and letters.
    pub fn id(&self, name: &str) -> String {
        format!("c{}{name}", self.case)
    }

    /// A topic of this case.
    pub fn topic(&self, rest: &str) -> ByteString {
        format!("t{}/{rest}", self.case).into()
    }

    /// The CONNECT of a clean session of this case.
    pub fn who(&self, version: Version, name: &str) -> Connect {
        Options::new(version, self.id(name)).packet()
    }

    /// The CONNECT of a session of this case that is resumed if there is one, and outlives its connections.
    pub fn stays(&self, version: Version, name: &str) -> Connect {
        Options::new(version, self.id(name)).persistent().packet()
    }

    pub fn v5(&self, name: &str) -> Connect {
        self.who(Version::V5, name)
    }

    /// A TCP connection on which nothing has been sent.
    pub async fn tcp(&self, version: Version) -> RawClient {
        RawClient::tcp(self.address(), version).await.expect("a TCP connection")
    }

    /// Connects, and panics unless that is granted.
    pub async fn connect(&self, connect: impl Into<Connect>) -> RawClient {
        RawClient::connect(self.address(), connect).await
    }

    /// Connects, whatever the answer.
    pub async fn open(&self, connect: impl Into<Connect>) -> (RawClient, ConnAck) {
        RawClient::try_connect(self.address(), connect).await.expect("a CONNACK")
    }

    /// Sends the bytes as the first of a connection, and waits for its end; the CONNACK that came before, if one did.
    /// Panics if any other packet came, or a CONNACK that accepts.
    pub async fn refused(&self, version: Version, bytes: &[u8]) -> Option<ConnAck> {
        let mut client = self.tcp(version).await;
        client.send_raw(bytes).await.expect("bytes are sent");
        let told = match client.receive(SOON).await {
            Received::Closed => return None,
            Received::Packet(Packet::ConnAck(told)) => *told,
            other => panic!("{other:?} instead of a refusal of {bytes:02X?}"),
        };
        assert!(told.reason.is_error(), "accepted: {bytes:02X?}");
        match client.receive(SOON).await {
            Received::Closed => Some(told),
            other => panic!("{other:?} behind a refusal of {bytes:02X?}"),
        }
    }
}
