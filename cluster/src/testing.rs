//! What tests of several modules share.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::message::Message;
use rollcall_proto::schema::roster::Limits;
use rollcall_proto::schema::shard::InboxLimits;

use crate::config::Config;
use crate::replica::Observer;
use crate::roster::{Lost, Roster};

/// Messages that may wait in a link.
pub(crate) const WINDOW: usize = 4;

pub(crate) fn config(route_lease: Duration) -> Config {
    Config {
        cluster_name: "test".into(),
        node_name: "a".into(),
        data_dir: PathBuf::from("unused"),
        peers: Vec::new(),
        rpc_bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        rpc_advertise: "127.0.0.1:1".into(),
        tls: None,
        mqtt_address: "127.0.0.1:1883".into(),
        http_address: "127.0.0.1:8080".into(),
        version: "0".into(),
        limits: Limits::default(),
        shards: 2,
        replicas: 3,
        voters: 5,
        heartbeat: Duration::from_millis(100),
        election: Duration::from_millis(500),
        route_lease,
        lease: Duration::from_secs(7),
        node_timeout: Duration::from_secs(10),
        batch_interval: Duration::from_millis(1),
        batch_commands: 100,
        queue: 100,
        shard_queue: 100,
        shard_queue_bytes: 1 << 20,
        claim_timeout: Duration::from_secs(5),
        rpc_timeout: Duration::from_secs(1),
        link_window: WINDOW,
        link_window_bytes: 1 << 20,
        snapshot_after: 1 << 20,
        reap_batch: 100,
        event_retention: 100,
        event_memory: 100,
        inbox_limits: InboxLimits::default(),
        inbox_memory: 1 << 20,
    }
}

/// An observer without connections.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn lost(&self, _: &Lost) {}
    fn send_away(&self, _: Vec<(String, u64)>) {}

    fn fenced(&self) {}
    fn replaced(&self, _: &Roster) {}
    fn forwarded(&self, _: crate::forward::Parcel) {}
    fn will(&self, _: Arc<Message>) {}
}
