//! What this node answers to the others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest};
use prost::Message as _;
use rollcall_proto::schema::node::{self as wire, append_reply, node_server::Node, propose_reply};
use rollcall_storage::Snapshots;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::desk::{Desk, NotLeader};
use crate::feed::EventFeed;
use crate::forward::Received;
use crate::raft::machine::SnapshotFile;
use crate::raft::network::Peers;
use crate::raft::wire::{from_log_id, from_vote, to_entry, to_log_id, to_snapshot_meta, to_vote};
use crate::raft::{LogId, Raft, Snapshot, TypeConfig};
use crate::replica::Replica;

/// Of the messages between nodes; nodes of different ones do not talk.
pub(crate) const PROTOCOL: u32 = 1;
/// Messages that may wait in a stream of answers.
const AHEAD: usize = 64;
/// Events in one piece.
const EVENTS_CHUNK: usize = 1_000;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

pub(crate) struct Server {
    pub config: Arc<Config>,
    pub peers_hash: u64,
    pub raft: Raft,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub snapshots: Snapshots,
    pub received: Arc<Received>,
    pub peers: Peers,
}

#[tonic::async_trait]
impl Node for Server {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloReply>, Status> {
        let asked = request.into_inner();
        if asked.cluster != self.config.cluster_name {
            return Err(Status::failed_precondition(format!(
                "this node belongs to cluster {:?}, the caller ({}) to {:?}: correct cluster.name or cluster.peers",
                self.config.cluster_name, asked.name, asked.cluster
            )));
        }
        if asked.protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "this node speaks node protocol {PROTOCOL}, the caller ({}) {}: run compatible versions",
                asked.name, asked.protocol
            )));
        }
        let formed = self.raft.is_initialized().await.map_err(internal)?;
        Ok(Response::new(wire::HelloReply {
            cluster: self.config.cluster_name.clone(),
            node: self.replica.me(),
            name: self.config.node_name.clone(),
            protocol: PROTOCOL,
            formed,
            peers_hash: self.peers_hash,
            rpc_address: self.config.rpc_advertise.clone(),
        }))
    }

    type AppendStream = Replies<wire::AppendReply>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let requests = request.into_inner().filter_map(|request| async move {
            let request = request.ok()?;
            to_append(request).inspect_err(|error| tracing::error!(%error, "an append that cannot be read")).ok()
        });
        let replies = self.raft.stream_append(Box::pin(requests));
        Ok(Response::new(Box::pin(replies.map(|result| Ok(to_reply(result))))))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let asked = request.into_inner();
        let mut rpc: VoteRequest<TypeConfig> =
            VoteRequest::new(to_vote(asked.vote).map_err(invalid)?, asked.last.as_ref().map(to_log_id));
        rpc.leadership_transfer = asked.leadership_transfer;
        let voted = if asked.pre_vote { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
        let voted = voted.map_err(internal)?;
        Ok(Response::new(wire::VoteReply {
            vote: Some(from_vote(&voted.vote)),
            granted: voted.vote_granted,
            last: voted.last_log_id.as_ref().map(from_log_id),
        }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderReply>, Status> {
        let asked = request.into_inner();
        let from = to_vote(asked.from).map_err(invalid)?;
        let rpc = TransferLeaderRequest::new(from, asked.to, asked.last.as_ref().map(to_log_id));
        let accepted = self.raft.handle_transfer_leader(rpc).await.map_err(internal)?.is_ok();
        Ok(Response::new(wire::TransferLeaderReply { accepted }))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut chunks = request.into_inner();
        let mut first = chunks.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let head = first.head.take().ok_or_else(|| Status::invalid_argument("a snapshot without a head"))?;
        let described = head.meta.ok_or_else(|| Status::invalid_argument("a snapshot without a description"))?;
        let vote = to_vote(head.vote).map_err(invalid)?;
        let meta = to_snapshot_meta(&described).map_err(invalid)?;
        self.refuse_forged(meta.last_log_id.as_ref())?;
        // First: a snapshot on this disk means that every event before it is here too.
        self.fetch_events(&head.events_from, described.seq).await?;
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let (seq, length) = (described.seq, head.length);
        let file = self.receive(first, chunks, index, length, described.encode_to_vec()).await?;
        let installed = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: file }).await;
        tracing::info!(index, seq, "took over a snapshot of another node, and the events before it");
        Ok(Response::new(wire::SnapshotReply { vote: Some(from_vote(&installed.map_err(internal)?.vote)) }))
    }

    async fn propose(&self, request: Request<wire::ProposeRequest>) -> Result<Response<wire::ProposeReply>, Status> {
        let result = match self.desk.log(request.into_inner().batch).await {
            Ok(index) => propose_reply::Result::Applied(index),
            Err(NotLeader(leader)) => propose_reply::Result::NotLeader(wire::NotLeader { leader }),
        };
        Ok(Response::new(wire::ProposeReply { result: Some(result), outcomes: Vec::new() }))
    }

    type FollowStream = Replies<wire::LeaderSays>;

    async fn follow(
        &self,
        request: Request<Streaming<wire::FollowUp>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        if self.desk.leading().is_none() {
            return Err(Status::failed_precondition("this node does not lead"));
        }
        let (says, replies) = mpsc::channel(AHEAD);
        tokio::spawn(serve_follower(self.desk.clone(), request.into_inner(), says));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn confirm(&self, _: Request<wire::ConfirmRequest>) -> Result<Response<wire::ConfirmReply>, Status> {
        Err(Status::unimplemented("this node has no shards"))
    }

    type InboxStream = Replies<wire::InboxChunk>;

    async fn inbox(&self, _: Request<Streaming<wire::ReadInbox>>) -> Result<Response<Self::InboxStream>, Status> {
        Err(Status::unimplemented("this node has no shards"))
    }

    async fn retained(&self, _: Request<wire::ReadRetained>) -> Result<Response<wire::RetainedChunk>, Status> {
        Err(Status::unimplemented("this node has no shards"))
    }

    type EventsStream = Replies<wire::EventsChunk>;

    async fn events(&self, request: Request<wire::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let wire::EventsRequest { after, until } = request.into_inner();
        let replica = self.replica.clone();
        let chunks = futures_util::stream::try_unfold(after, move |after| {
            let replica = replica.clone();
            async move {
                if after >= until {
                    return Ok(None);
                }
                let read = tokio::task::spawn_blocking(move || replica.feed().read_raw(after, EVENTS_CHUNK)).await;
                let records = read.map_err(internal)?.map_err(internal)?;
                let Some((last, _)) = records.last() else { return Ok(None) };
                let last = *last;
                let (seqs, records) = records.into_iter().unzip();
                Ok(Some((wire::EventsChunk { records, seqs }, last)))
            }
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    type ForwardStream = Replies<wire::ForwardAck>;

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardFrame>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let mut frames = request.into_inner();
        let first = frames.message().await?.ok_or_else(|| Status::invalid_argument("a link without a beginning"))?;
        let open = first.open.ok_or_else(|| Status::invalid_argument("a link that does not say whose it is"))?;
        let (inbound, stream) = self.received.open(open);
        let replica = self.replica.clone();
        let acks = frames.map(move |frame| match inbound.lock().take(stream, frame?.messages, &replica) {
            Some(received) => Ok(wire::ForwardAck { received }),
            // Whoever still sends on this one must notice, and open another.
            None => Err(Status::aborted("a later stream of this node has taken over")),
        });
        Ok(Response::new(Box::pin(acks)))
    }
}

impl Server {
    /// Into a file of our own, finished only when every byte has come.
    async fn receive(
        &self,
        first: wire::SnapshotChunk,
        mut chunks: Streaming<wire::SnapshotChunk>,
        index: u64,
        expected: u64,
        described: Vec<u8>,
    ) -> Result<SnapshotFile, Status> {
        let mut writer = self.snapshots.begin().map_err(internal)?;
        let mut length = 0;
        let mut next = Some(first);
        while let Some(chunk) = next {
            length += chunk.data.len() as u64;
            io::Write::write_all(&mut writer, &chunk.data).map_err(internal)?;
            next = chunks.message().await?;
        }
        if length != expected {
            return Err(Status::data_loss(format!("{length} of {expected} bytes of a snapshot came")));
        }
        let finished = tokio::task::spawn_blocking(move || writer.finish(index, &described)).await;
        Ok(SnapshotFile::new(finished.map_err(internal)?.map_err(internal)?))
    }

    /// openraft takes such a snapshot for a broken invariant and panics.
    fn refuse_forged(&self, last: Option<&LogId>) -> Result<(), Status> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        match (metrics.last_applied, last) {
            (Some(applied), Some(last)) if last.index <= applied.index && *last > applied => {
                Err(Status::invalid_argument("a snapshot that contradicts what is committed here"))
            }
            _ => Ok(()),
        }
    }

    /// The snapshot replaces entries whose events were never made here: they come from who sent it. They are durable
    /// before the snapshot counts, since no log is left to make them from again.
    async fn fetch_events(&self, from: &str, until: u64) -> Result<(), Status> {
        let after = self.replica.feed().last();
        if after < until {
            let mut client = self.peers.own_client(from).map_err(internal)?;
            let mut chunks = client.events(wire::EventsRequest { after, until }).await?.into_inner();
            while let Some(chunk) = chunks.message().await? {
                let records: Vec<_> = chunk.seqs.into_iter().zip(chunk.records).collect();
                self.on_feed(move |feed| feed.adopt(&records)).await?;
            }
            if self.replica.feed().last() < until {
                return Err(Status::unavailable("the events before the snapshot did not all come"));
            }
        }
        self.on_feed(EventFeed::sync).await
    }

    async fn on_feed(&self, change: impl FnOnce(&EventFeed) -> io::Result<()> + Send + 'static) -> Result<(), Status> {
        let replica = self.replica.clone();
        tokio::task::spawn_blocking(move || change(replica.feed())).await.map_err(internal)?.map_err(internal)
    }
}

/// Until the follower goes or this node no longer leads.
async fn serve_follower(
    desk: Arc<Desk>,
    mut ups: Streaming<wire::FollowUp>,
    says: mpsc::Sender<Result<wire::LeaderSays, Status>>,
) {
    let mut barrier = desk.barrier();
    loop {
        let grant = tokio::select! {
            up = ups.message() => match up {
                Ok(Some(up)) => match up.ask {
                    Some(ask) => match desk.ask(up.node, up.node_epoch, up.applied).await {
                        Ok(index) => Some(wire::LeaseGrant { ask, index }),
                        Err(_) if desk.leading().is_none() => return,
                        Err(_) => continue,
                    },
                    None => {
                        desk.report(up.node, up.applied);
                        continue;
                    }
                },
                Ok(None) | Err(_) => return,
            },
            closed = barrier.changed() => {
                if closed.is_err() { return }
                None
            }
        };
        let said = wire::LeaderSays { barrier: *barrier.borrow_and_update(), grant };
        if says.send(Ok(said)).await.is_err() {
            return;
        }
    }
}

fn to_append(request: wire::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, crate::raft::wire::WireError> {
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote)?,
        prev_log_id: request.prev.as_ref().map(to_log_id),
        entries: request.entries.into_iter().map(to_entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(to_log_id),
    })
}

fn to_reply(result: Result<StreamAppendResult<TypeConfig>, openraft::errors::Fatal<TypeConfig>>) -> wire::AppendReply {
    use append_reply::Result as Reply;
    let matched = |id: Option<&LogId>| wire::Matched { log_id: id.map(from_log_id) };
    let result = match result {
        Ok(Ok(id)) => Reply::Success(matched(id.as_ref())),
        Ok(Err(StreamAppendError::Conflict(id))) => Reply::Conflict(matched(Some(&id))),
        Ok(Err(StreamAppendError::HigherVote(vote))) => Reply::HigherVote(from_vote(&vote)),
        Err(fatal) => Reply::Failed(fatal.to_string()),
    };
    wire::AppendReply { result: Some(result) }
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}
