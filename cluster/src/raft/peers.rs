//! The ways to the other nodes: a connection each, and on it one stream of appends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rollcall_proto::schema::node::{AppendReply, AppendRequest, node_client::NodeClient};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::trunk::{Flow, Trunk};
use super::wiring::connect;
use crate::tls::Tls;

/// The largest message between nodes: a full append of large batches.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// One connection per peer, made at first use and again whenever it breaks.
#[derive(Clone)]
pub(crate) struct Peers {
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
    trunks: Arc<Mutex<BTreeMap<String, Arc<Trunk>>>>,
    timeout: Duration,
    tls: Option<Arc<Tls>>,
}

impl Peers {
    /// `timeout` bounds the connecting.
    pub(crate) fn new(timeout: Duration, tls: Option<Arc<Tls>>) -> Self {
        Peers { channels: Arc::default(), trunks: Arc::default(), timeout, tls }
    }

    /// # Errors
    /// When the address is none.
    pub(crate) fn client(&self, address: &str) -> Result<NodeClient<Channel>, tonic::transport::Error> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.channel(address)?;
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(NodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// The stream of all groups' appends to that node; another one once it has broken.
    ///
    /// # Errors
    /// When the address is none.
    pub(super) fn trunk(&self, address: &str) -> Result<Arc<Trunk>, tonic::transport::Error> {
        let mut trunks = self.trunks.lock();
        if let Some(trunk) = trunks.get(address).filter(|trunk| trunk.is_open()) {
            return Ok(trunk.clone());
        }
        let (client, within) = (self.client(address)?, self.timeout);
        let trunk = Trunk::open(|requests| append(client, requests, within));
        trunks.insert(address.to_owned(), trunk.clone());
        Ok(trunk)
    }

    /// A connection of its own, so that a long transfer does not hold up what is urgent.
    pub(crate) fn own_client(&self, address: &str) -> Result<NodeClient<Channel>, tonic::transport::Error> {
        let channel = self.channel(address)?;
        Ok(NodeClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    fn channel(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        // Whatever the scheme says: how it is encrypted is up to the connector.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let (tls, address) = (self.tls.clone(), address.to_owned());
        let connector = service_fn(move |_| {
            let connecting = connect(address.clone(), tls.clone());
            async move { connecting.await.map(TokioIo::new) }
        });
        let endpoint = endpoint
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}

async fn append(
    mut client: NodeClient<Channel>,
    requests: Flow<AppendRequest>,
    within: Duration,
) -> Option<Flow<AppendReply>> {
    let opened = timeout(within, client.append(requests)).await.ok()?.ok()?;
    // An error ends it as the end does.
    Some(Flow::of(stream::unfold(opened.into_inner(), |mut replies| async move {
        let reply = replies.message().await.ok().flatten()?;
        Some((reply, replies))
    })))
}
