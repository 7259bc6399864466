//! The other end of a trunk: takes its lanes apart and gives each group its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult};
use rollcall_proto::schema::node::{AppendReply, AppendRequest, Matched, append_reply};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::trunk::IN_FLIGHT;
use super::wire::{WireError, from_log_id, from_vote, to_entry, to_log_id, to_vote};
use super::{LogId, Raft, TypeConfig};
use crate::groups::Groups;

/// Single requests that may be with their groups at once.
const SINGLE: usize = 1024;

type Append = AppendEntriesRequest<TypeConfig>;
type Answers = mpsc::Sender<Result<AppendReply, Status>>;

/// One stream of another node, until it ends. It never waits for a group.
pub(crate) struct Receiver {
    groups: Arc<Groups>,
    answers: Answers,
    lanes: BTreeMap<u64, mpsc::Sender<Append>>,
    single: Arc<Semaphore>,
}

impl Receiver {
    pub(crate) fn new(groups: Arc<Groups>, answers: Answers) -> Self {
        Receiver { groups, answers, lanes: BTreeMap::new(), single: Arc::new(Semaphore::new(SINGLE)) }
    }

    pub(crate) async fn run(mut self, mut requests: Streaming<AppendRequest>) {
        while let Ok(Some(request)) = requests.message().await {
            let lane = request.lane;
            if let Err(why) = self.take(request) {
                self.lanes.remove(&lane);
                let failed = AppendReply { lane, result: Some(append_reply::Result::Failed(why)) };
                if self.answers.send(Ok(failed)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// # Errors
    /// Why the lane has to end.
    fn take(&mut self, request: AppendRequest) -> Result<(), String> {
        let (number, lane, last) = (request.group, request.lane, request.last);
        if request.vote.is_none() {
            self.lanes.remove(&lane);
            return Ok(());
        }
        if request.to != self.groups.me() {
            return Err("this is another node".to_owned());
        }
        let append = to_append(request).map_err(|error| error.to_string())?;
        let group = self.groups.get(number).ok_or_else(|| format!("group {number} does not run here"))?;
        if last && !self.lanes.contains_key(&lane) {
            let permit = self.single.clone().try_acquire_owned().map_err(|_| "too many requests at once".to_owned())?;
            let answers = self.answers.clone();
            let raft = group.raft.clone();
            tokio::spawn(async move {
                let reply = answer_one(&raft, append).await;
                // Nobody is left to hear it when the stream has broken.
                let _ = answers.send(Ok(AppendReply { lane, ..reply })).await;
                drop(permit);
            });
            return Ok(());
        }
        let queue = self.lanes.entry(lane).or_insert_with(|| {
            // Room for all that may be without an answer: only a sender that does not keep to it meets the bound.
            let (queue, requests) = mpsc::channel(IN_FLIGHT);
            tokio::spawn(answer_all(group.raft.clone(), lane, requests, self.answers.clone()));
            queue
        });
        queue.try_send(append).map_err(|_| "this lane has ended, or more came than may be on its way".to_owned())?;
        if last {
            self.lanes.remove(&lane);
        }
        Ok(())
    }
}

async fn answer_all(raft: Raft, lane: u64, requests: mpsc::Receiver<Append>, answers: Answers) {
    let mut results = Box::pin(raft.stream_append(ReceiverStream::new(requests)));
    while let Some(result) = results.next().await {
        let result = match result {
            Ok(result) => to_reply(result),
            Err(fatal) => append_reply::Result::Failed(fatal.to_string()),
        };
        if answers.send(Ok(AppendReply { lane, result: Some(result) })).await.is_err() {
            return;
        }
    }
}

async fn answer_one(raft: &Raft, append: Append) -> AppendReply {
    // What a conflict is about: without a position there is none.
    let prev = append.prev_log_id;
    let result = match raft.append_entries(append).await {
        Ok(AppendEntriesResponse::Success) => to_reply(Ok(None)),
        Ok(AppendEntriesResponse::PartialSuccess(matched)) => to_reply(Ok(matched)),
        Ok(AppendEntriesResponse::Conflict) => {
            append_reply::Result::Conflict(Matched { log_id: prev.as_ref().map(from_log_id) })
        }
        Ok(AppendEntriesResponse::HigherVote(vote)) => to_reply(Err(StreamAppendError::HigherVote(vote))),
        Err(error) => append_reply::Result::Failed(error.to_string()),
    };
    AppendReply { lane: 0, result: Some(result) }
}

fn to_append(request: AppendRequest) -> Result<Append, WireError> {
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote)?,
        prev_log_id: request.prev.as_ref().map(to_log_id),
        entries: request.entries.into_iter().map(to_entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(to_log_id),
    })
}

fn to_reply(result: StreamAppendResult<TypeConfig>) -> append_reply::Result {
    let matched = |id: Option<&LogId>| Matched { log_id: id.map(from_log_id) };
    match result {
        Ok(id) => append_reply::Result::Success(matched(id.as_ref())),
        Err(StreamAppendError::Conflict(id)) => append_reply::Result::Conflict(matched(Some(&id))),
        Err(StreamAppendError::HigherVote(vote)) => append_reply::Result::HigherVote(from_vote(&vote)),
    }
}
