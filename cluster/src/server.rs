//! What this node answers to the others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use prost::Message as _;
use rollcall_proto::schema::node::{self as wire, confirm_reply, node_server::Node, propose_reply};
use rollcall_storage::Snapshots;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::blocking::blocking;
use crate::config::Config;
use crate::desk::Desk;
use crate::feed::EventFeed;
use crate::forward::Received;
use crate::groups::{Group, Groups};
use crate::join::Admission;
use crate::lease::Leases;
use crate::placement::placement_of;
use crate::raft::machine::SnapshotFile;
use crate::raft::peers::Peers;
use crate::raft::receive::Receiver;
use crate::raft::wire::{from_log_id, from_vote, to_log_id, to_snapshot_meta, to_vote};
use crate::raft::{LogId, ROSTER, Snapshot, TypeConfig};
use crate::replica::Replica;
use crate::roster::NodeId;
use crate::roster::level::LEVEL;
use crate::scribe::NotLeader;
use crate::shard::ShardReplica;
use crate::shard::serve::{serve_inbox, serve_retained};
use crate::told::Told;

/// Of the messages between nodes; nodes of different ones do not talk.
pub(crate) const PROTOCOL: u32 = 2;
/// Messages that may wait in a stream of answers.
const AHEAD: usize = 64;
/// Events in one piece.
const EVENTS_CHUNK: usize = 1_000;

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

pub(crate) struct Server {
    pub config: Arc<Config>,
    pub peers_hash: u64,
    pub groups: Arc<Groups>,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub admission: Admission,
    pub received: Arc<Received>,
    pub leases: Arc<Leases>,
    pub peers: Peers,
    pub drain_asked: watch::Sender<bool>,
    pub told: Told,
}

#[tonic::async_trait]
impl Node for Server {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Result<Response<wire::HelloReply>, Status> {
        let asked = request.into_inner();
        if let Err(why) = self.is_of_us(&asked) {
            if self.told.is_new(&asked.name, &why) {
                tracing::warn!(node = asked.name, why, "another node was refused");
            }
            return Err(Status::failed_precondition(why));
        }
        let roster = self.group(ROSTER)?;
        let formed = roster.raft.is_initialized().await.map_err(internal)?;
        Ok(Response::new(wire::HelloReply {
            cluster: self.config.cluster_name.clone(),
            node: self.replica.me(),
            name: self.config.node_name.clone(),
            protocol: PROTOCOL,
            formed,
            peers_hash: self.peers_hash,
            rpc_address: self.config.rpc_advertise.clone(),
            member: roster.member(asked.node).is_some(),
            removed: self.replica.roster().was_removed(asked.node),
        }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        self.admission.join(request.into_inner()).await.map(Response::new)
    }

    async fn ping(&self, request: Request<wire::PingRequest>) -> Result<Response<wire::PingReply>, Status> {
        self.is_for_me(request.into_inner().to)?;
        Ok(Response::new(wire::PingReply { level: LEVEL }))
    }

    async fn send_away(
        &self,
        request: Request<wire::SendAwayRequest>,
    ) -> Result<Response<wire::SendAwayReply>, Status> {
        let wire::SendAwayRequest { node, destinations } = request.into_inner();
        self.is_for_me(node)?;
        let destinations = destinations.into_iter().map(|to| (to.address, to.count)).collect();
        self.replica.observer().send_away(destinations);
        Ok(Response::new(wire::SendAwayReply {}))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainReply>, Status> {
        self.is_for_me(request.into_inner().node)?;
        self.drain_asked.send_replace(true);
        Ok(Response::new(wire::DrainReply {}))
    }

    type AppendStream = Replies<wire::AppendReply>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (answers, replies) = mpsc::channel(AHEAD);
        tokio::spawn(Receiver::new(self.groups.clone(), answers).run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        let asked = request.into_inner();
        self.is_for_me(asked.to)?;
        let group = self.group(asked.group)?;
        self.refuse_empty_vote(&group).await?;
        let mut rpc: VoteRequest<TypeConfig> =
            VoteRequest::new(to_vote(asked.vote).map_err(invalid)?, asked.last.as_ref().map(to_log_id));
        rpc.leadership_transfer = asked.leadership_transfer;
        let voted = if asked.pre_vote { group.raft.pre_vote(rpc).await } else { group.raft.vote(rpc).await };
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
        self.is_for_me(asked.to)?;
        if !self.leases.may_keep_connections() {
            return Ok(Response::new(wire::TransferLeaderReply { accepted: false }));
        }
        let from = to_vote(asked.from).map_err(invalid)?;
        let rpc = TransferLeaderRequest::new(from, asked.to, asked.last.as_ref().map(to_log_id));
        let raft = &self.group(asked.group)?.raft;
        let accepted = raft.handle_transfer_leader(rpc).await.map_err(internal)?.is_ok();
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
        self.is_for_me(head.to)?;
        let vote = to_vote(head.vote).map_err(invalid)?;
        let meta = to_snapshot_meta(&described).map_err(invalid)?;
        let group = self.group(head.group)?;
        refuse_forged(&group, meta.last_log_id.as_ref())?;
        if group.number == ROSTER {
            // First: a snapshot on this disk means that every event before it is here too.
            self.fetch_events(&head.events_from, described.seq).await?;
        }
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let (seq, length) = (described.seq, head.length);
        let file = receive(&group.snapshots, first, chunks, index, length, described.encode_to_vec()).await?;
        let installed = group.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: file }).await;
        tracing::info!(group = group.number, index, seq, "took over a snapshot of another node");
        Ok(Response::new(wire::SnapshotReply { vote: Some(from_vote(&installed.map_err(internal)?.vote)) }))
    }

    async fn propose(&self, request: Request<wire::ProposeRequest>) -> Result<Response<wire::ProposeReply>, Status> {
        let asked = request.into_inner();
        let (result, outcomes) = match self.desk.log(asked.group, asked.batch).await {
            Ok(logged) => (propose_reply::Result::Applied(logged.index), logged.outcomes),
            Err(NotLeader(leader)) => (propose_reply::Result::NotLeader(wire::NotLeader { leader }), Vec::new()),
        };
        Ok(Response::new(wire::ProposeReply { result: Some(result), outcomes }))
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

    async fn confirm(&self, request: Request<wire::ConfirmRequest>) -> Result<Response<wire::ConfirmReply>, Status> {
        let (result, members) = match self.desk.confirm(request.into_inner().group).await {
            Ok((index, members)) => (confirm_reply::Result::Index(index), members),
            Err(NotLeader(leader)) => (confirm_reply::Result::NotLeader(wire::NotLeader { leader }), Vec::new()),
        };
        Ok(Response::new(wire::ConfirmReply { result: Some(result), members }))
    }

    type InboxStream = Replies<wire::InboxChunk>;

    async fn inbox(&self, request: Request<Streaming<wire::ReadInbox>>) -> Result<Response<Self::InboxStream>, Status> {
        let mut asks = request.into_inner();
        let first = asks.message().await?.ok_or_else(|| Status::invalid_argument("a reader that asks for nothing"))?;
        let open = first.open.ok_or_else(|| Status::invalid_argument("a reader that does not say of which inbox"))?;
        let replica = self.shard(open.shard)?;
        let (chunks, replies) = mpsc::channel(AHEAD);
        tokio::spawn(serve_inbox(replica, open, asks, first.credit, chunks));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn retained(&self, request: Request<wire::ReadRetained>) -> Result<Response<wire::RetainedChunk>, Status> {
        let asked = request.into_inner();
        let replica = self.shard(asked.shard)?;
        serve_retained(replica, asked).await.map(Response::new)
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
                let read = blocking(move || replica.feed().read_raw(after, EVENTS_CHUNK)).await;
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
    fn is_of_us(&self, asked: &wire::HelloRequest) -> Result<(), String> {
        let ours = &self.config.cluster_name;
        if asked.cluster != *ours {
            return Err(format!(
                "this node belongs to cluster {ours:?}, the caller ({}) to {:?}: correct cluster.name or cluster.peers",
                asked.name, asked.cluster
            ));
        }
        if asked.protocol != PROTOCOL {
            return Err(format!(
                "this node speaks node protocol {PROTOCOL}, the caller ({}) {}: run compatible versions",
                asked.name, asked.protocol
            ));
        }
        Ok(())
    }

    /// Whoever has lost its disk comes back as another at the same address, and must not speak for what it was.
    fn is_for_me(&self, node: NodeId) -> Result<(), Status> {
        let other = "this is another node than the one that is meant";
        if node == self.replica.me() { Ok(()) } else { Err(Status::failed_precondition(other)) }
    }

    fn group(&self, number: u32) -> Result<Arc<Group>, Status> {
        self.groups.get(number).ok_or_else(|| Status::unavailable(format!("group {number} does not run on this node")))
    }

    fn shard(&self, number: u32) -> Result<Arc<ShardReplica>, Status> {
        self.groups.shard(number).ok_or_else(|| Status::unavailable(format!("shard {number} is not on this node")))
    }

    /// A replica that is new to a formed shard has forgotten what it may have acknowledged when it was one before: until
    /// its leader has reached it, it elects nobody.
    async fn refuse_empty_vote(&self, group: &Group) -> Result<(), Status> {
        let formed = placement_of(&self.replica.roster(), group.number).is_some_and(|placement| placement.formed);
        if formed && !group.is_formed_here().await {
            return Err(Status::failed_precondition("this replica is new and has nothing to vote by"));
        }
        Ok(())
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
        blocking(move || change(replica.feed())).await.map_err(internal)?.map_err(internal)
    }
}

/// Into a file of our own, finished only when every byte has come.
async fn receive(
    snapshots: &Snapshots,
    first: wire::SnapshotChunk,
    mut chunks: Streaming<wire::SnapshotChunk>,
    index: u64,
    expected: u64,
    described: Vec<u8>,
) -> Result<SnapshotFile, Status> {
    let mut writer = snapshots.begin().map_err(internal)?;
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
    let finished = blocking(move || writer.finish(index, &described)).await;
    Ok(SnapshotFile::new(finished.map_err(internal)?.map_err(internal)?))
}

/// openraft takes such a snapshot for a broken invariant and panics.
fn refuse_forged(group: &Group, last: Option<&LogId>) -> Result<(), Status> {
    match (group.metrics().last_applied, last) {
        (Some(applied), Some(last)) if last.index <= applied.index && *last > applied => {
            Err(Status::invalid_argument("a snapshot that contradicts what is committed here"))
        }
        _ => Ok(()),
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
                    Some(ask) => match desk.ask(up.node, up.node_epoch, up.applied, &up.apart).await {
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

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}
