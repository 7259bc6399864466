//! What every node asks of the leader all the time: leases up to date, the barrier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::node::{FollowUp, LeaderSays};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::clock::boottime;
use crate::config::Config;
use crate::desk::Desk;
use crate::lease::Leases;
use crate::raft::peers::Peers;
use crate::reach::Reach;
use crate::replica::Replica;
use crate::roster::NodeId;

/// Before a leader that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Messages that may wait in the stream to the leader.
const AHEAD: usize = 64;
/// Leases asked for per route lease: several may be lost before it runs out.
const ASKS_PER_LEASE: u32 = 4;

pub(crate) struct Follower {
    pub config: Arc<Config>,
    pub replica: Arc<Replica>,
    pub desk: Arc<Desk>,
    pub peers: Peers,
    pub leases: Arc<Leases>,
    pub reach: Reach,
    /// The highest barrier any leader announced.
    pub barrier: watch::Sender<u64>,
}

/// Leases that were granted but do not count yet: when asked, and the index that must be applied first.
type Waiting = VecDeque<(Duration, u64)>;

impl Follower {
    pub(crate) async fn run(self) {
        loop {
            match self.desk.leader() {
                Some(leader) if leader == self.replica.me() => self.follow_self().await,
                Some(leader) => self.follow(leader).await,
                None => {}
            }
            sleep(RETRY).await;
        }
    }

    fn ask_interval(&self) -> tokio::time::Interval {
        let mut ticks = interval(self.config.route_lease / ASKS_PER_LEASE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    fn announce(&self, index: u64) {
        self.barrier.send_if_modified(|last| {
            let higher = index > *last;
            *last = index.max(*last);
            higher
        });
    }

    /// As long as this node leads.
    async fn follow_self(&self) {
        let mut ticks = self.ask_interval();
        let mut applied = self.replica.applied();
        let mut barrier = self.desk.barrier();
        let me = self.replica.me();
        let mut waiting = Waiting::new();
        while self.desk.leader() == Some(me) {
            tokio::select! {
                _ = ticks.tick() => {
                    let asked = boottime();
                    let epoch = *self.replica.epoch().borrow();
                    let (index, apart) = (*applied.borrow(), self.apart());
                    let asking = self.desk.ask(me, epoch, index, &apart);
                    if let Ok(Ok(index)) = timeout(self.config.route_lease, asking).await {
                        waiting.push_back((asked, index));
                    }
                }
                closed = applied.changed() => if closed.is_err() { return },
                closed = barrier.changed() => if closed.is_err() { return },
            }
            let index = *applied.borrow_and_update();
            self.count(&mut waiting, index);
            self.desk.report(me, index);
            self.announce(*barrier.borrow_and_update());
        }
    }

    /// As long as that node leads and can be reached.
    async fn follow(&self, leader: NodeId) {
        let Some(address) = self.desk.address_of(leader) else { return };
        let Ok(mut client) = self.peers.client(&address) else { return };
        let (up, ups) = mpsc::channel(AHEAD);
        let opening = client.follow(ReceiverStream::new(ups));
        let mut says = match timeout(self.config.rpc_timeout, opening).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return tracing::debug!(%status, %address, "the leader cannot be followed"),
            Err(_) => return,
        };
        let mut ticks = self.ask_interval();
        let mut applied = self.replica.applied();
        let mut reported = 0;
        let mut waiting = Waiting::new();
        let mut heard = boottime();
        while self.desk.leader() == Some(leader) {
            let said = tokio::select! {
                _ = ticks.tick() => {
                    if boottime() > heard + self.config.route_lease {
                        return tracing::debug!(%address, "the leader is silent");
                    }
                    if up.try_send(self.follow_up(true)).is_err() { return }
                    None
                }
                closed = applied.changed() => {
                    if closed.is_err() { return }
                    None
                }
                said = says.next() => match said {
                    Some(Ok(said)) => Some(said),
                    Some(Err(_)) | None => return,
                },
            };
            if let Some(said) = said {
                heard = boottime();
                self.listen(&said, &mut waiting);
            }
            let index = *applied.borrow_and_update();
            self.count(&mut waiting, index);
            // Only changed routes have anyone waiting for our progress. A change that is not applied to its end yet
            // is reported when it is.
            let routes = self.replica.route_index().min(index);
            if routes > reported && up.try_send(self.follow_up(false)).is_ok() {
                reported = routes;
            }
        }
    }

    fn follow_up(&self, ask: bool) -> FollowUp {
        FollowUp {
            node: self.replica.me(),
            node_epoch: *self.replica.epoch().borrow(),
            applied: *self.replica.applied().borrow(),
            ask: ask.then(|| boottime().as_nanos() as u64),
            apart: if ask { self.apart() } else { Vec::new() },
        }
    }

    fn apart(&self) -> Vec<NodeId> {
        self.reach.apart(self.config.route_lease)
    }

    fn listen(&self, said: &LeaderSays, waiting: &mut Waiting) {
        self.announce(said.barrier);
        if let Some(grant) = &said.grant {
            waiting.push_back((Duration::from_nanos(grant.ask), grant.index));
        }
    }

    fn count(&self, waiting: &mut Waiting, applied: u64) {
        while let Some((asked, index)) = waiting.front().copied() {
            if index > applied {
                return;
            }
            waiting.pop_front();
            // A node that is not up has nothing to keep.
            if *self.replica.epoch().borrow() != 0 {
                self.leases.granted(asked);
            }
        }
    }
}
