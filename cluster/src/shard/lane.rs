//! One node's way to one shard: its commands in numbered batches, one in flight; and its questions, those of one moment
//! as one.

use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use rollcall_proto::schema::shard::{Batch, Command, Outcome};
use tokio::sync::{Notify, oneshot, watch};

use super::ShardAnswer;
use super::queue::{Asked, Queue};
use crate::courier::{Courier, Office, Pace};
use crate::desk::Logged;
use crate::pending::Flight;
use crate::propose::Unavailable;

/// Bytes of commands in one batch, but for a single larger one.
const BATCH_BYTES: usize = 4 << 20;

pub(crate) struct Lane {
    number: u32,
    office: Arc<Office>,
    queue: Queue,
    flight: Flight<oneshot::Sender<ShardAnswer>>,
    /// Who waits for the next question's answer.
    asking: Mutex<Vec<oneshot::Sender<u64>>>,
    asked: Notify,
}

impl Lane {
    pub(crate) fn open(office: Arc<Office>, number: u32) -> Arc<Self> {
        let queue = Queue::new(office.config.shard_queue, office.config.shard_queue_bytes);
        let lane = Arc::new(Lane {
            number,
            office: office.clone(),
            queue,
            flight: Flight::default(),
            asking: Mutex::default(),
            asked: Notify::new(),
        });
        let courier = Courier::new(office.clone(), number);
        let epoch = office.replica.epoch();
        let proposer =
            Proposer { lane: lane.clone(), courier: courier.clone(), epoch, of: 0, last: 0, pace: Pace::default() };
        tokio::spawn(proposer.run());
        tokio::spawn(lane.clone().ask(courier));
        lane
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Who waits for the answer; `None` while this node is not up.
    pub(super) fn submit(&self, command: Command) -> Option<oneshot::Receiver<ShardAnswer>> {
        if *self.office.replica.epoch().borrow() == 0 {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Asked::new(command, reply));
        Some(answer)
    }

    /// The batch of this node with that number has been applied.
    pub(super) fn answer(&self, epoch: u64, number: u64, index: u64, outcomes: &[Outcome]) {
        self.flight.settle(epoch, number, |replies| {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                let Some(outcome) = outcome.kind else { continue };
                // The caller may have gone.
                let _ = reply.send(ShardAnswer { outcome, index });
            }
        });
    }

    pub(super) async fn confirm(&self) -> Result<u64, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.asking.lock().push(reply);
        self.asked.notify_one();
        answer.await.map_err(|_| Unavailable::NotUp)
    }

    /// Whoever comes while a question is under way waits for the next: an answer counts only for those before it.
    async fn ask(self: Arc<Self>, mut courier: Courier) {
        loop {
            self.asked.notified().await;
            let waiting = std::mem::take(&mut *self.asking.lock());
            if waiting.is_empty() {
                continue;
            }
            let index = courier.confirm_patiently().await;
            for reply in waiting {
                // The caller may have gone.
                let _ = reply.send(index);
            }
        }
    }

    /// Whether this node's replica speaks for itself; one that still catches up would keep callers waiting.
    fn is_held_here(&self) -> bool {
        let group = self.office.groups.get(self.number);
        group.is_some_and(|group| group.voters().contains(&self.office.replica.me()))
    }
}

/// The task that empties the queue.
struct Proposer {
    lane: Arc<Lane>,
    courier: Courier,
    epoch: watch::Receiver<u64>,
    /// The epoch that is numbered.
    of: u64,
    /// Number of its last batch.
    last: u64,
    pace: Pace,
}

impl Proposer {
    async fn run(mut self) {
        let lane = self.lane.clone();
        loop {
            let epoch = *self.epoch.borrow_and_update();
            if epoch != self.of || epoch == 0 {
                // Nothing more is done in an ended epoch's name. What waits at the very first is of this one.
                if self.of != 0 || epoch == 0 {
                    lane.queue.clear();
                }
                (self.of, self.last) = (epoch, 0);
            }
            tokio::select! {
                () = lane.queue.filled() => {}
                closed = self.epoch.changed() => {
                    if closed.is_err() { return }
                    continue;
                }
            }
            if epoch == 0 {
                continue;
            }
            self.pace.keep(lane.office.config.batch_interval).await;
            let asked = lane.queue.take(lane.office.config.batch_commands, BATCH_BYTES);
            if !asked.is_empty() {
                self.pace.leaves(asked.len());
                self.carry(asked).await;
            }
        }
    }

    async fn carry(&mut self, asked: Vec<Asked>) {
        self.last += 1;
        let (epoch, number) = (self.of, self.last);
        metrics::histogram!("rollcall_shard_batch_commands").record(asked.len() as f64);
        let (commands, replies) = asked.into_iter().map(|asked| (asked.command, asked.reply)).unzip();
        let batch = Batch { node: self.lane.office.replica.me(), node_epoch: epoch, number, commands };
        let lane = &self.lane;
        lane.flight.put(epoch, number, replies);
        let logged = |said: Logged| {
            if !lane.is_held_here() {
                lane.answer(epoch, number, said.index, &said.outcomes);
            }
        };
        tokio::select! {
            () = self.courier.offer(batch.encode_to_vec().into(), &lane.flight, logged) => {}
            _ = self.epoch.wait_for(|now| *now != epoch) => lane.flight.abandon(),
        }
    }
}
