//! The one stream of appends to another node. Every group's replication has a lane on it: a bounded number of requests
//! without an answer each, so that no group's slowness holds up another's. Heartbeats go before everything else.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, PollNext};
use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use prost::Message as _;
use rollcall_proto::schema::node::{AppendReply, AppendRequest};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// Requests of one lane that may be without an answer; a receiver has room for as many.
pub(crate) const IN_FLIGHT: usize = 64;
/// The same in KiB, of all but the largest: one request may always be on its way.
const IN_FLIGHT_KIB: usize = 16 << 10;
/// Requests that wait for the connection to take them.
const AHEAD: usize = 16;
/// Heartbeats that wait: far more than groups.
const HEARTBEATS_AHEAD: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream of appends to the other node has broken")]
pub(crate) struct Broken;

/// One direction of the stream. A type of its own, since the compiler loses sight of a boxed stream's lifetime within a
/// task.
pub(super) struct Flow<T>(BoxStream<'static, T>);

impl<T> Flow<T> {
    pub(super) fn of(items: impl Stream<Item = T> + Send + 'static) -> Self {
        Flow(items.boxed())
    }
}

impl<T> Stream for Flow<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(context)
    }
}

/// Where the answers of a lane go.
enum Replies {
    Many(mpsc::Sender<AppendReply>),
    One(oneshot::Sender<AppendReply>),
}

#[derive(Default)]
struct Lanes {
    broken: bool,
    last: u64,
    open: BTreeMap<u64, Replies>,
}

pub(crate) struct Trunk {
    urgent: mpsc::Sender<AppendRequest>,
    requests: mpsc::Sender<AppendRequest>,
    lanes: Mutex<Lanes>,
}

impl Trunk {
    /// `connect` brings the requests to the other node and its answers back.
    pub(super) fn open<F>(connect: impl FnOnce(Flow<AppendRequest>) -> F) -> Arc<Trunk>
    where
        F: Future<Output = Option<Flow<AppendReply>>> + Send + 'static,
    {
        let (urgent, first) = mpsc::channel(HEARTBEATS_AHEAD);
        let (requests, second) = mpsc::channel(AHEAD);
        let trunk = Arc::new(Trunk { urgent, requests, lanes: Mutex::default() });
        let outgoing =
            stream::select_with_strategy(ReceiverStream::new(first), ReceiverStream::new(second), |(): &mut ()| {
                PollNext::Left
            });
        tokio::spawn(trunk.clone().listen(connect(Flow::of(outgoing))));
        trunk
    }

    pub(super) fn is_open(&self) -> bool {
        !self.lanes.lock().broken
    }

    async fn listen(self: Arc<Self>, connecting: impl Future<Output = Option<Flow<AppendReply>>>) {
        if let Some(mut replies) = connecting.await {
            while let Some(reply) = replies.next().await {
                self.hand_over(reply);
            }
        }
        // Whoever waits for an answer learns it by its lane's end.
        let mut lanes = self.lanes.lock();
        lanes.broken = true;
        lanes.open.clear();
    }

    /// A lane that is gone has no interest in the answer; one that has no room for it has broken the rule.
    fn hand_over(&self, reply: AppendReply) {
        let mut lanes = self.lanes.lock();
        let number = reply.lane;
        let goes_on = match lanes.open.remove(&number) {
            Some(Replies::Many(replies)) => replies.try_send(reply).is_ok().then_some(replies),
            Some(Replies::One(asked)) => {
                // Nobody waits any more when the asker has run out of time.
                drop(asked.send(reply));
                None
            }
            None => None,
        };
        if let Some(replies) = goes_on {
            lanes.open.insert(number, Replies::Many(replies));
        }
    }

    fn add_lane(&self, replies: Replies) -> Result<u64, Broken> {
        let mut lanes = self.lanes.lock();
        if lanes.broken {
            return Err(Broken);
        }
        lanes.last += 1;
        let number = lanes.last;
        lanes.open.insert(number, replies);
        Ok(number)
    }

    /// One request by itself, ahead of what waits.
    pub(super) async fn ask(self: &Arc<Self>, mut request: AppendRequest) -> Result<AppendReply, Broken> {
        let (replies, reply) = oneshot::channel();
        request.lane = self.add_lane(Replies::One(replies))?;
        request.last = true;
        let lane = Lane { trunk: self.clone(), number: request.lane, ended: true };
        lane.trunk.urgent.try_send(request).map_err(|_| Broken)?;
        reply.await.map_err(|_| Broken)
    }

    /// A stream of one group: as many answers as requests, in their order, unless it breaks.
    pub(super) fn carry(
        self: &Arc<Self>,
        group: u32,
        requests: impl Stream<Item = AppendRequest> + Unpin + Send + 'static,
    ) -> impl Stream<Item = Result<AppendReply, Broken>> + Send + 'static {
        let (replies, incoming) = mpsc::channel(IN_FLIGHT);
        let opened = self.add_lane(Replies::Many(replies)).map(|number| {
            let lane = Lane { trunk: self.clone(), number, ended: false };
            let window = Arc::new(Window::default());
            let sending = tokio::spawn(send(self.requests.clone(), number, group, requests, window.clone()));
            Carried { lane, incoming, window, sending, sent_all: false }
        });
        stream::unfold(Some(opened), |carried| async move {
            let mut carried = match carried? {
                Ok(carried) => carried,
                Err(broken) => return Some((Err(broken), None)),
            };
            let next = carried.next().await?;
            let going_on = next.is_ok().then_some(Ok(carried));
            Some((next, going_on))
        })
    }
}

/// Forgotten when it is dropped, on the other side too.
struct Lane {
    trunk: Arc<Trunk>,
    number: u64,
    /// The other side knows.
    ended: bool,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.trunk.lanes.lock().open.remove(&self.number);
        if self.ended {
            return;
        }
        let end = AppendRequest { lane: self.number, last: true, ..AppendRequest::default() };
        // Behind the lane's requests: an end that comes first would be undone by them.
        if let Err(mpsc::error::TrySendError::Full(end)) = self.trunk.requests.try_send(end)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let requests = self.trunk.requests.clone();
            runtime.spawn(async move { requests.send(end).await });
        }
    }
}

/// What one lane has on its way.
struct Window {
    requests: Semaphore,
    kib: Semaphore,
    /// Of the requests without an answer, in their order.
    sizes: Mutex<VecDeque<u32>>,
}

impl Default for Window {
    fn default() -> Self {
        Window { requests: Semaphore::new(IN_FLIGHT), kib: Semaphore::new(IN_FLIGHT_KIB), sizes: Mutex::default() }
    }
}

impl Window {
    async fn enter(&self, bytes: usize) {
        let kib = (bytes >> 10).clamp(1, IN_FLIGHT_KIB) as u32;
        // Never closed: the window is dropped first.
        if let (Ok(one), Ok(size)) = (self.requests.acquire().await, self.kib.acquire_many(kib).await) {
            one.forget();
            size.forget();
        }
        self.sizes.lock().push_back(kib);
    }

    fn leave(&self) {
        if let Some(kib) = self.sizes.lock().pop_front() {
            self.requests.add_permits(1);
            self.kib.add_permits(kib as usize);
        }
    }

    fn is_empty(&self) -> bool {
        self.sizes.lock().is_empty()
    }
}

async fn send(
    to: mpsc::Sender<AppendRequest>,
    lane: u64,
    group: u32,
    mut requests: impl Stream<Item = AppendRequest> + Unpin,
    window: Arc<Window>,
) {
    while let Some(request) = requests.next().await {
        window.enter(request.encoded_len()).await;
        if to.send(AppendRequest { lane, group, ..request }).await.is_err() {
            return;
        }
    }
}

/// The receiving end of a lane.
struct Carried {
    lane: Lane,
    incoming: mpsc::Receiver<AppendReply>,
    window: Arc<Window>,
    sending: JoinHandle<()>,
    sent_all: bool,
}

impl Carried {
    /// `None` when all requests have gone and been answered.
    async fn next(&mut self) -> Option<Result<AppendReply, Broken>> {
        loop {
            if self.sent_all && self.window.is_empty() {
                return None;
            }
            tokio::select! {
                reply = self.incoming.recv() => {
                    self.window.leave();
                    return Some(reply.ok_or(Broken));
                }
                _ = &mut self.sending, if !self.sent_all => self.sent_all = true,
            }
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.sending.abort();
        tracing::trace!(lane = self.lane.number, "a lane has ended");
    }
}

#[cfg(test)]
mod tests;
