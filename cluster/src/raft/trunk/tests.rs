//! Both ends of one stream, without a network.

use std::time::Duration;

use rollcall_proto::schema::node::{Entry, Vote, append_reply};
use tokio::time::timeout;

use super::*;

/// The other node: what has come, and the way back.
struct Other {
    requests: Flow<AppendRequest>,
    replies: mpsc::Sender<AppendReply>,
}

impl Other {
    async fn next(&mut self) -> AppendRequest {
        timeout(Duration::from_secs(10), self.requests.next()).await.unwrap().unwrap()
    }

    /// Those that come without waiting for more than a moment.
    async fn all(&mut self) -> Vec<AppendRequest> {
        let mut all = Vec::new();
        while let Ok(Some(request)) = timeout(Duration::from_millis(50), self.requests.next()).await {
            all.push(request);
        }
        all
    }

    async fn answer(&self, lane: u64, why: &str) {
        let result = Some(append_reply::Result::Failed(why.into()));
        self.replies.send(AppendReply { lane, result }).await.unwrap();
    }
}

async fn connected() -> (Arc<Trunk>, Other) {
    let (ends, other) = oneshot::channel();
    let trunk = Trunk::open(|requests| async move {
        let (replies, answers) = mpsc::channel(1_000);
        ends.send(Other { requests, replies }).ok().unwrap();
        Some(Flow::of(ReceiverStream::new(answers)))
    });
    (trunk, other.await.unwrap())
}

fn request(term: u64) -> AppendRequest {
    AppendRequest { vote: Some(Vote { term, ..Vote::default() }), ..AppendRequest::default() }
}

fn endless() -> impl Stream<Item = AppendRequest> + Unpin + Send {
    stream::iter((1..).map(request))
}

fn term(request: &AppendRequest) -> u64 {
    request.vote.unwrap_or_default().term
}

fn why(reply: Result<AppendReply, Broken>) -> String {
    match reply.unwrap().result {
        Some(append_reply::Result::Failed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lane_without_answers_stops_at_its_bound_and_holds_up_no_other() {
    let (trunk, mut other) = connected().await;
    let mut slow = Box::pin(trunk.carry(1, endless()));
    let mut quick = Box::pin(trunk.carry(2, stream::iter([request(7)])));
    let came = other.all().await;
    let of = |group| came.iter().filter(|request| request.group == group).count();
    assert_eq!((of(1), of(2)), (IN_FLIGHT, 1));
    let lane = came.iter().find(|request| request.group == 2).unwrap().lane;
    other.answer(lane, "quick").await;
    assert_eq!(why(quick.next().await.unwrap()), "quick");
    assert!(quick.next().await.is_none(), "all was sent and answered");
    other.answer(came[0].lane, "slow").await;
    assert_eq!(why(slow.next().await.unwrap()), "slow");
    let more: Vec<u64> = other.all().await.iter().filter(|request| request.vote.is_some()).map(term).collect();
    assert_eq!(more, [IN_FLIGHT as u64 + 1]);
}

#[tokio::test]
async fn a_lane_is_bounded_by_bytes_too_but_one_request_may_always_go() {
    let (trunk, mut other) = connected().await;
    let large = |term| {
        let command = rollcall_proto::schema::node::Command { time: 0, batch: vec![0; 20 << 20].into() };
        let payload = Some(rollcall_proto::schema::node::entry::Payload::Command(command));
        AppendRequest { entries: vec![Entry { log_id: None, payload }], ..request(term) }
    };
    let _lane = Box::pin(trunk.carry(1, stream::iter([large(1), large(2)])));
    let came = other.all().await;
    assert_eq!(came.iter().map(term).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_heartbeat_goes_before_what_waits() {
    let (trunk, mut other) = connected().await;
    let _busy = Box::pin(trunk.carry(1, endless()));
    // The lane has filled the way to the other node by then.
    assert_eq!(term(&other.next().await), 1);
    let asking = tokio::spawn({
        let trunk = trunk.clone();
        async move { trunk.ask(request(1_000)).await }
    });
    let mut before = 0;
    let heartbeat = loop {
        let request = other.next().await;
        if request.last {
            break request;
        }
        before += 1;
    };
    assert!(before <= AHEAD, "{before} requests went before it");
    other.answer(heartbeat.lane, "heard").await;
    assert_eq!(why(asking.await.unwrap()), "heard");
}

#[tokio::test]
async fn a_broken_stream_ends_every_lane_with_an_error() {
    let (trunk, other) = connected().await;
    let mut lane = Box::pin(trunk.carry(1, endless()));
    assert!(trunk.is_open());
    drop(other);
    assert_eq!(lane.next().await, Some(Err(Broken)));
    assert!(lane.next().await.is_none());
    assert!(!trunk.is_open());
    assert_eq!(trunk.ask(request(1)).await, Err(Broken));
    assert_eq!(Box::pin(trunk.carry(1, endless())).next().await, Some(Err(Broken)));
}

#[tokio::test]
async fn the_other_side_is_told_of_a_lane_that_is_given_up() {
    let (trunk, mut other) = connected().await;
    let mut lane = Box::pin(trunk.carry(1, stream::iter([request(1)]).chain(stream::pending().boxed())));
    let first = other.next().await;
    assert!(timeout(Duration::from_millis(10), lane.next()).await.is_err());
    drop(lane);
    let end = other.next().await;
    assert_eq!((end.lane, end.last, end.vote), (first.lane, true, None));
    // An answer that comes too late finds nobody.
    other.answer(first.lane, "late").await;
    assert!(trunk.is_open());
}
