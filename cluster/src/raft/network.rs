//! openraft's calls to its peers over the node links.

use std::future::Future;
use std::io;

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _, future::BoxFuture};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkV2};
use rollcall_proto::schema::node::{self as wire, append_reply, node_client::NodeClient};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::machine::SnapshotFile;
use super::peers::Peers;
use super::trunk::Broken;
use super::wire::{from_entry, from_log_id, from_vote, to_log_id, to_vote};
use super::{Member, Snapshot, TypeConfig, Vote};
use crate::blocking::blocking;
use crate::roster::NodeId;

/// Bytes of one piece of a snapshot.
const CHUNK: usize = 256 << 10;
/// Pieces of a snapshot that may be on their way.
const CHUNKS_AHEAD: usize = 8;

/// Makes the connections of one group.
pub(crate) struct Network {
    pub(crate) group: u32,
    pub(crate) peers: Peers,
    /// Where a receiver of snapshots gets the events it lacks.
    pub(crate) rpc_address: String,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, true)
    }
}

impl Network {
    fn peer(&self, id: NodeId, node: &Member, heartbeats: bool) -> Peer {
        Peer {
            group: self.group,
            id,
            peers: self.peers.clone(),
            address: node.rpc_address.clone(),
            rpc_address: self.rpc_address.clone(),
            heartbeats,
        }
    }
}

/// One peer as one group sees it.
pub(crate) struct Peer {
    group: u32,
    id: NodeId,
    peers: Peers,
    address: String,
    rpc_address: String,
    /// What it sends are single requests, which go before all others.
    heartbeats: bool,
}

impl Peer {
    fn client(&self) -> Result<NodeClient<Channel>, RPCError<TypeConfig>> {
        self.peers.client(&self.address).map_err(|error| unreachable(&error))
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::VoteRequest {
            group: self.group,
            vote: Some(from_vote(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(from_log_id),
            pre_vote,
            leadership_transfer: rpc.leadership_transfer,
            to: self.id,
        };
        let mut client = self.client()?;
        let reply = within(option, client.vote(request)).await?;
        Ok(VoteResponse {
            vote: to_vote(reply.vote).map_err(|error| network(&error))?,
            vote_granted: reply.granted,
            last_log_id: reply.last.as_ref().map(to_log_id),
        })
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut replies = self.stream_append(stream::iter([rpc]), option).await?;
        let result = replies.next().await.ok_or_else(|| unreachable(&io::Error::other("no answer")))??;
        Ok(match result {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    /// Requests go out as they come; answers come back in their order.
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let (group, to) = (self.group, self.id);
            let trunk = self.peers.trunk(&self.address).map_err(|error| unreachable(&error))?;
            if !self.heartbeats {
                let replies = trunk.carry(group, input.map(move |request| to_wire(group, to, &request)));
                return Ok(replies.map(to_result).boxed());
            }
            let Some(request) = input.next().await else { return Ok(stream::empty().boxed()) };
            let reply = trunk.ask(to_wire(group, to, &request)).await;
            Ok(stream::once(async move { to_result(reply) }).boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let description =
            snapshot.snapshot.description().map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let head = wire::SnapshotHead {
            group: self.group,
            vote: Some(from_vote(&vote)),
            meta: Some(description),
            length: snapshot.snapshot.len(),
            events_from: self.rpc_address.clone(),
            to: self.id,
        };
        let mut client = self
            .peers
            .own_client(&self.address)
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        let (tx, rx) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
        let reading = tokio::spawn(send_chunks(snapshot.snapshot, head, tx));
        let sending = client.snapshot(ReceiverStream::new(rx));
        let reply = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = sending => reply.map_err(|status| StreamingError::Unreachable(Unreachable::new(&status)))?,
        };
        reading
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let vote =
            to_vote(reply.into_inner().vote).map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        Ok(SnapshotResponse { vote })
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::TransferLeaderRequest {
            group: self.group,
            from: Some(from_vote(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(from_log_id),
        };
        let mut client = self.client()?;
        let reply = within(option, client.transfer_leader(request)).await?;
        if reply.accepted {
            Ok(Ok(()))
        } else {
            Err(RPCError::Network(NetworkError::new(&AnyError::error("the peer did not accept leadership"))))
        }
    }
}

async fn send_chunks(
    file: SnapshotFile,
    head: wire::SnapshotHead,
    to: tokio::sync::mpsc::Sender<wire::SnapshotChunk>,
) -> io::Result<()> {
    let mut chunk = wire::SnapshotChunk { head: Some(head), data: bytes::Bytes::new() };
    let mut reader = blocking(move || file.open()).await??;
    loop {
        let reading = move || {
            let mut data = vec![0; CHUNK];
            let length = read_up_to(&mut reader, &mut data)?;
            data.truncate(length);
            Ok::<_, io::Error>((data, reader))
        };
        let (data, rest) = blocking(reading).await??;
        reader = rest;
        let last = data.is_empty();
        chunk.data = data.into();
        // The receiver hung up: the answer to the whole says why.
        if to.send(std::mem::take(&mut chunk)).await.is_err() || last {
            return Ok(());
        }
    }
}

fn read_up_to(reader: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

async fn within<T>(
    option: RPCOption,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RPCError<TypeConfig>> {
    match tokio::time::timeout(option.hard_ttl(), call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(unreachable(&status)),
        Err(elapsed) => Err(unreachable(&elapsed)),
    }
}

fn to_wire(group: u32, to: NodeId, request: &AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        group,
        vote: Some(from_vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(from_log_id),
        committed: request.leader_commit.as_ref().map(from_log_id),
        entries: request.entries.iter().map(from_entry).collect(),
        to,
        ..wire::AppendRequest::default()
    }
}

fn to_result(reply: Result<wire::AppendReply, Broken>) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
    use append_reply::Result as Reply;
    match reply.map_err(|broken| unreachable(&broken))?.result {
        Some(Reply::Success(matched)) => Ok(Ok(matched.log_id.as_ref().map(to_log_id))),
        Some(Reply::Conflict(matched)) => match &matched.log_id {
            Some(id) => Ok(Err(StreamAppendError::Conflict(to_log_id(id)))),
            None => Err(network(&io::Error::other("a conflict without its position"))),
        },
        Some(Reply::HigherVote(vote)) => {
            let vote = to_vote(Some(vote)).map_err(|error| network(&error))?;
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
        // The group does not run there, or cannot keep up: it is left alone for a while.
        Some(Reply::Failed(why)) => Err(unreachable(&io::Error::other(why))),
        None => Err(network(&io::Error::other("an empty answer"))),
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn network(error: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(error))
}
