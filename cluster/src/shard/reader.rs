//! An inbox as the connection that owns it reads it: from this node's replica, or, where there is none, through a
//! windowed stream from another node's.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_proto::message::SubscriptionIds;
use rollcall_proto::packet::QoS;
use rollcall_proto::schema::node as wire;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Shards;
use super::read::{InboxMessage, InboxState};
use super::replica::{ShardReplica, Watch};
use crate::clock::boottime;
use crate::message;
use crate::raft::peers::Peers;

/// Messages that a stream may be ahead of its reader.
const AHEAD: u32 = 256;
/// Before another replica is tried.
const RETRY: Duration = Duration::from_millis(100);

/// Which inbox, and from when on.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub shard: u32,
    pub client_id: Arc<str>,
    pub incarnation: u64,
    /// The index at which it was opened.
    pub index: u64,
}

/// One connection's way into its session's inbox. Messages come in the order of their positions, each once.
pub struct InboxReader {
    address: Address,
    state: InboxState,
    source: Source,
    /// Knows where to go on when the shard moves off this node.
    elsewhere: Option<Arc<Shards>>,
    /// Of the last message that was read.
    position: u64,
}

enum Source {
    Local { replica: Arc<ShardReplica>, filled: Watch },
    Remote { stream: Arc<Incoming>, _task: AbortOnDrop },
}

impl Source {
    /// From other nodes, behind that position.
    fn follow(shards: Arc<Shards>, address: Address, after: u64, opened: oneshot::Sender<InboxState>) -> Source {
        let stream = Arc::new(Incoming::default());
        let task = tokio::spawn(Following { shards, address, incoming: stream.clone(), after }.run(opened));
        Source::Remote { stream, _task: AbortOnDrop(task.abort_handle()) }
    }
}

/// What a stream has brought and nobody has read.
#[derive(Default)]
struct Incoming {
    messages: Mutex<VecDeque<InboxMessage>>,
    filled: Notify,
    read: Notify,
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl InboxReader {
    /// The replica has applied the opening. `None` if the inbox has gone since. Without `elsewhere` it ends with the replica.
    pub(crate) fn local(replica: Arc<ShardReplica>, address: Address, elsewhere: Option<Arc<Shards>>) -> Option<Self> {
        // First: what comes from now on is noticed.
        let filled = replica.watch(&address.client_id);
        let state = replica.inbox_state(&address.client_id, address.incarnation)?;
        Some(InboxReader { address, state, source: Source::Local { replica, filled }, elsewhere, position: 0 })
    }

    /// From one of the nodes that have a replica; waits for the first answer of any.
    pub(crate) async fn remote(shards: Arc<Shards>, address: Address) -> Option<Self> {
        let (opened, state) = oneshot::channel();
        let source = Source::follow(shards, address.clone(), 0, opened);
        let state = state.await.ok()?;
        Some(InboxReader { address, state, source, elsewhere: None, position: 0 })
    }

    /// As it was when the inbox was opened.
    pub fn state(&self) -> &InboxState {
        &self.state
    }

    pub fn shard(&self) -> u32 {
        self.address.shard
    }

    pub fn incarnation(&self) -> u64 {
        self.address.incarnation
    }

    /// The next messages, at most `limit`.
    ///
    /// # Errors
    /// When the disk cannot give back a message.
    pub fn read(&mut self, limit: usize) -> io::Result<Vec<InboxMessage>> {
        if let Source::Local { replica, .. } = &self.source
            && replica.has_ended()
        {
            let Some(shards) = self.elsewhere.take() else {
                return Err(io::Error::other("the shard has moved off this node"));
            };
            // What it was when the inbox was opened is known.
            let (opened, _) = oneshot::channel();
            self.source = Source::follow(shards, self.address.clone(), self.position, opened);
        }
        let messages = match &self.source {
            Source::Local { replica, .. } => {
                replica.read_inbox(&self.address.client_id, self.address.incarnation, self.position, limit)?
            }
            Source::Remote { stream, .. } => {
                let mut waiting = stream.messages.lock();
                let count = waiting.len().min(limit);
                let taken = waiting.drain(..count).collect();
                drop(waiting);
                stream.read.notify_one();
                taken
            }
        };
        if let Some(last) = messages.last() {
            self.position = last.position;
        }
        Ok(messages)
    }

    /// The reader has what lies before.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.position = position;
    }

    /// Waits until there may be more.
    pub async fn changed(&self) {
        match &self.source {
            Source::Local { filled, .. } => filled.changed().await,
            Source::Remote { stream, .. } => stream.filled.notified().await,
        }
    }
}

/// The task behind a remote reader.
struct Following {
    shards: Arc<Shards>,
    address: Address,
    incoming: Arc<Incoming>,
    /// Of the last message that came.
    after: u64,
}

impl Following {
    async fn run(mut self, opened: oneshot::Sender<InboxState>) {
        let mut opened = Some(opened);
        for turn in 0.. {
            // Looked up each time: the shard may move on.
            let (peers, replicas) = self.shards.ways_to(self.address.shard);
            if let Some(replica) = replicas.get(turn % replicas.len().max(1))
                && let Err(error) = self.follow(&peers, replica, &mut opened).await
            {
                tracing::debug!(%error, %replica, client_id = %self.address.client_id, "an inbox cannot be followed there");
            }
            sleep(RETRY).await;
        }
    }

    /// Until the stream breaks.
    async fn follow(
        &mut self,
        peers: &Peers,
        replica: &str,
        opened: &mut Option<oneshot::Sender<InboxState>>,
    ) -> Result<(), tonic::Status> {
        let mut client = peers.client(replica).map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let (asks, asked) = mpsc::channel(4);
        let mut credit = AHEAD.saturating_sub(self.incoming.messages.lock().len() as u32);
        let open = wire::InboxOpen {
            shard: self.address.shard,
            client_id: self.address.client_id.to_string(),
            incarnation: self.address.incarnation,
            index: self.address.index,
            after: self.after,
        };
        let first = wire::ReadInbox { open: Some(open), credit };
        asks.send(first).await.map_err(|_| tonic::Status::unavailable("closed"))?;
        let chunks = timeout(self.shards.rpc_timeout(), client.inbox(ReceiverStream::new(asked))).await;
        let mut chunks: Streaming<wire::InboxChunk> =
            chunks.map_err(|_| tonic::Status::deadline_exceeded("no answer"))??.into_inner();
        loop {
            let more = tokio::select! {
                chunk = chunks.next() => {
                    let chunk = chunk.ok_or_else(|| tonic::Status::unavailable("the stream has ended"))??;
                    credit -= (chunk.messages.len() as u32).min(credit);
                    self.take(chunk, opened);
                    continue;
                }
                () = self.incoming.read.notified() => {
                    AHEAD.saturating_sub(self.incoming.messages.lock().len() as u32).saturating_sub(credit)
                }
            };
            if more >= AHEAD / 2 || (more > 0 && credit == 0) {
                credit += more;
                let ask = wire::ReadInbox { open: None, credit: more };
                asks.send(ask).await.map_err(|_| tonic::Status::unavailable("closed"))?;
            }
        }
    }

    fn take(&mut self, chunk: wire::InboxChunk, opened: &mut Option<oneshot::Sender<InboxState>>) {
        if let (Some(state), Some(opened)) = (chunk.state, opened.take()) {
            let held = state.held.iter().filter_map(|id| u16::try_from(*id).ok()).collect();
            // The reader may have gone already; then this task is about to be ended.
            let _ = opened.send(InboxState {
                sent: state.sent,
                held,
                events: state.events,
                events_sent: state.events_sent,
                unclean: state.unclean,
            });
        }
        let now = boottime().as_millis() as u64;
        let fresh = chunk.messages.into_iter().filter(|message| message.position > self.after);
        let fresh: Vec<InboxMessage> = fresh.filter_map(|message| from_wire(message, now)).collect();
        if let Some(last) = fresh.last() {
            self.after = last.position;
            self.incoming.messages.lock().extend(fresh);
            self.incoming.filled.notify_one();
        }
    }
}

pub(super) fn to_wire(message: InboxMessage, now: u64) -> wire::InboxMessage {
    wire::InboxMessage {
        position: message.position,
        qos: message.qos as u32,
        retain: message.retain,
        received: message.message.is_none(),
        subscription_ids: message.subscription_ids.as_slice().to_vec(),
        expires_in: message.message.as_ref().and_then(|m| m.expires_at).map(|at| at.saturating_sub(now)),
        message: message.message.as_deref().map(message::to_wire),
    }
}

fn from_wire(message: wire::InboxMessage, now: u64) -> Option<InboxMessage> {
    let body = match message.message {
        Some(body) => Some(Arc::new(message::from_wire(body, message.expires_in.map(|left| now + left))?)),
        None => None,
    };
    Some(InboxMessage {
        position: message.position,
        qos: QoS::from_bits(message.qos as u8)?,
        retain: message.retain,
        subscription_ids: SubscriptionIds::from(message.subscription_ids.as_slice()),
        message: body,
    })
}
