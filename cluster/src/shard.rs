//! The shards as this node uses them: commands and questions go to whoever leads, answers come back, wherever the
//! replicas are.

pub(crate) mod hand_on;
pub(crate) mod janitor;
mod lane;
mod queue;
pub(crate) mod read;
pub(crate) mod reader;
mod replica;
pub(crate) mod serve;
pub(crate) mod spill;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::RwLock;
use rollcall_proto::schema::shard::{Command, command, outcome};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::courier::Office;
use crate::groups::Groups;
use crate::placement::placement_of;
use crate::propose::Unavailable;
use crate::raft::peers::Peers;

/// Before a shard that the roster does not know yet is asked for again.
const UNKNOWN: std::time::Duration = std::time::Duration::from_millis(50);

pub(crate) use lane::Lane;
pub use read::{InboxMessage, InboxState, RetainedMessages};
pub use reader::InboxReader;
pub use replica::ShardReplica;

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardAnswer {
    pub outcome: outcome::Kind,
    /// Of its entry in the shard's log.
    pub index: u64,
}

/// The answer to a command that is on its way; dropping it leaves the command on its way.
///
/// It comes to [`Unavailable::NotUp`] when the command was refused as stale, its node's epoch or its session's having
/// ended, and when this node's epoch ends before an answer: then it may have been carried out.
#[derive(Debug)]
pub struct Answer(Option<oneshot::Receiver<ShardAnswer>>);

impl Future for Answer {
    type Output = Result<ShardAnswer, Unavailable>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receiver) = &mut self.0 else { return Poll::Ready(Err(Unavailable::NotUp)) };
        Poll::Ready(match ready!(Pin::new(receiver).poll(cx)) {
            Ok(ShardAnswer { outcome: outcome::Kind::Stale(_), .. }) | Err(_) => Err(Unavailable::NotUp),
            Ok(answer) => Ok(answer),
        })
    }
}

pub struct Shards {
    office: Arc<Office>,
    /// Made at first use, for shards that the roster knows.
    lanes: RwLock<BTreeMap<u32, Arc<Lane>>>,
}

impl Shards {
    pub(crate) fn new(office: Arc<Office>) -> Arc<Self> {
        Arc::new(Shards { office, lanes: RwLock::default() })
    }

    fn groups(&self) -> &Groups {
        &self.office.groups
    }

    /// The way to that shard, whether or not the roster knows it.
    pub(crate) fn lane(&self, shard: u32) -> Arc<Lane> {
        if let Some(lane) = self.lanes.read().get(&shard) {
            return lane.clone();
        }
        self.lanes.write().entry(shard).or_insert_with(|| Lane::open(self.office.clone(), shard)).clone()
    }

    fn known(&self, shard: u32) -> Result<Arc<Lane>, Unavailable> {
        let count = self.office.replica.roster().shard_count();
        if (1..=count).contains(&shard) { Ok(self.lane(shard)) } else { Err(Unavailable::NotUp) }
    }

    /// Puts a command on its way; it is answered once this node's replica has applied it or, without one, the leader has.
    /// Commands are carried out in the order in which they are submitted here. Who can wait asks [`Self::has_room`]
    /// before: what comes nevertheless goes beyond the queue's bound.
    pub fn submit(&self, shard: u32, kind: command::Kind) -> Answer {
        Answer(self.known(shard).ok().and_then(|lane| lane.submit(Command { kind: Some(kind) })))
    }

    /// Whether a command would enter the shard's queue at once. Who holds a publisher waits for [`Self::room`].
    pub fn has_room(&self, shard: u32) -> bool {
        self.known(shard).is_ok_and(|lane| lane.queue().has_room())
    }

    /// Waits until a command would enter the shard's queue at once. Where the roster knows no such shard, only a
    /// moment.
    pub async fn room(&self, shard: u32) {
        match self.known(shard) {
            Ok(lane) => lane.queue().room().await,
            Err(_) => sleep(UNKNOWN).await,
        }
    }

    pub(crate) fn rpc_timeout(&self) -> Duration {
        self.office.config.rpc_timeout
    }

    /// How the nodes are reached that have a replica of the shard; this one is not among them.
    pub(crate) fn ways_to(&self, shard: u32) -> (Peers, Vec<String>) {
        let roster = self.office.replica.roster();
        let me = self.office.replica.me();
        let members = placement_of(&roster, shard).map(|placement| placement.members.clone()).unwrap_or_default();
        let others = members.iter().filter(|member| **member != me).filter_map(|member| roster.node(*member));
        let (up, down): (Vec<_>, Vec<_>) = others.partition(|node| roster.is_current(node.id, node.epoch));
        let addresses = up.into_iter().chain(down).map(|node| node.rpc_address.clone());
        (self.office.peers.clone(), addresses.collect())
    }

    /// An index at or above that of everything committed in the shard when it was asked. Those who ask at one moment
    /// share one question.
    ///
    /// # Errors
    /// [`Unavailable::Timeout`] when the shard's leader does not answer within `cluster.claim_timeout`.
    pub async fn confirm(&self, shard: u32) -> Result<u64, Unavailable> {
        let lane = self.known(shard)?;
        timeout(self.office.config.claim_timeout, lane.confirm()).await.map_err(|_| Unavailable::Timeout)?
    }

    /// This node's replica of the shard; it may still be catching up.
    pub fn replica(&self, shard: u32) -> Option<Arc<ShardReplica>> {
        self.groups().shard(shard)
    }

    pub fn leading(&self, shard: u32) -> bool {
        self.groups().get(shard).is_some_and(|group| group.leading().is_some())
    }

    /// The term this node leads the shard in, 0 while it does not; `None` where there is no replica. Ends with the
    /// replica.
    pub fn watch_leading(&self, shard: u32) -> Option<watch::Receiver<u64>> {
        self.groups().get(shard).map(|group| group.watch_leading())
    }
}
