//! Who waits for what: the callers of the batch in flight.

use std::sync::Arc;

use parking_lot::Mutex;
use rollcall_proto::schema::roster::{Command, Outcome, Reason, Release, command, outcome};
use tokio::sync::{Notify, oneshot, watch};

/// What a caller is told once its own node has applied its command.
#[derive(Debug)]
pub(crate) struct Answer {
    pub outcome: outcome::Kind,
    /// Index of the entry.
    pub index: u64,
    /// With a granted claim.
    pub ticket: Option<Ticket>,
}

/// A granted claim on its way to its caller: dropped before it is taken, wherever that happens, the session is given
/// back.
#[derive(Debug)]
pub(crate) struct Ticket {
    granted: Option<(String, u64)>,
    abandoned: Arc<Abandoned>,
}

impl Ticket {
    /// There is a connection for it.
    pub(crate) fn take(mut self) {
        self.granted = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some((client_id, epoch)) = self.granted.take() else { return };
        // No CONNACK was sent, so there is no will yet [MQTT-3.1.2-7].
        let reason = Reason::TcpClosed.into();
        let release = Release { client_id, epoch, reason, without_will: true, ..Release::default() };
        self.abandoned.releases.lock().push(Command { kind: Some(command::Kind::Release(release)) });
        self.abandoned.left.notify_one();
    }
}

/// Claims that were granted to callers who had gone: to be released with the next batch.
#[derive(Debug, Default)]
struct Abandoned {
    releases: Mutex<Vec<Command>>,
    left: Notify,
}

/// One command on its way, and who waits for it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub command: Command,
    pub reply: oneshot::Sender<Answer>,
}

/// The batch of one group that is on its way. There is one at a time.
#[derive(Debug)]
pub(crate) struct Flight<R> {
    batch: Mutex<Option<(u64, u64, Vec<R>)>>,
    /// Number of batches settled or given up.
    settled: watch::Sender<u64>,
}

impl<R> Default for Flight<R> {
    fn default() -> Self {
        Flight { batch: Mutex::default(), settled: watch::Sender::new(0) }
    }
}

impl<R> Flight<R> {
    pub(crate) fn put(&self, epoch: u64, number: u64, replies: Vec<R>) {
        *self.batch.lock() = Some((epoch, number, replies));
    }

    /// Lets `answer` have the callers if it is their batch; a repeated one finds nobody.
    pub(crate) fn settle(&self, epoch: u64, number: u64, answer: impl FnOnce(Vec<R>)) {
        let settled = self.batch.lock().take_if(|batch| (batch.0, batch.1) == (epoch, number));
        if let Some((_, _, replies)) = settled {
            answer(replies);
            self.settled.send_modify(|count| *count += 1);
        }
    }

    /// The batch will never be answered: its callers learn it by their reply's end.
    pub(crate) fn abandon(&self) {
        if self.batch.lock().take().is_some() {
            self.settled.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn is_for(&self, epoch: u64, number: u64) -> bool {
        self.batch.lock().as_ref().is_some_and(|batch| (batch.0, batch.1) == (epoch, number))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.lock().is_none()
    }

    /// Changes with each batch that is settled or given up.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }
}

/// The roster's batch on its way.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Who waits, and for a claim, of which client id.
    flight: Flight<(Option<String>, oneshot::Sender<Answer>)>,
    abandoned: Arc<Abandoned>,
}

impl Pending {
    pub(crate) fn put(&self, epoch: u64, number: u64, asked: Vec<Asked>) {
        let replies = asked
            .into_iter()
            .map(|asked| {
                let claimed = match asked.command.kind {
                    Some(command::Kind::Claim(claim)) => Some(claim.client_id),
                    Some(_) | None => None,
                };
                (claimed, asked.reply)
            })
            .collect();
        self.flight.put(epoch, number, replies);
    }

    /// Answers the callers if it is their batch; a repeated one finds nobody.
    pub(crate) fn settle(&self, epoch: u64, number: u64, index: u64, outcomes: &[Outcome]) {
        self.flight.settle(epoch, number, |replies| {
            for ((claimed, reply), outcome) in replies.into_iter().zip(outcomes) {
                let Some(kind) = &outcome.kind else { continue };
                let answer = Answer { outcome: kind.clone(), index, ticket: self.ticket(claimed, kind) };
                // Where nobody waits any more, the ticket goes back with the answer.
                drop(reply.send(answer));
            }
        });
    }

    fn ticket(&self, claimed: Option<String>, outcome: &outcome::Kind) -> Option<Ticket> {
        match (claimed, outcome) {
            (Some(client_id), outcome::Kind::Granted(granted)) => {
                Some(Ticket { granted: Some((client_id, granted.epoch)), abandoned: self.abandoned.clone() })
            }
            (Some(_) | None, _) => None,
        }
    }

    /// The batch will never be answered: its callers learn it by their reply's end.
    pub(crate) fn abandon(&self) {
        self.flight.abandon();
        self.abandoned.releases.lock().clear();
    }

    pub(crate) fn is_for(&self, epoch: u64, number: u64) -> bool {
        self.flight.is_for(epoch, number)
    }

    pub(crate) fn flight(&self) -> &Flight<(Option<String>, oneshot::Sender<Answer>)> {
        &self.flight
    }

    pub(crate) fn take_abandoned(&self) -> Vec<Command> {
        std::mem::take(&mut self.abandoned.releases.lock())
    }

    pub(crate) fn has_abandoned(&self) -> bool {
        !self.abandoned.releases.lock().is_empty()
    }

    /// Waits until a granted claim may have been abandoned.
    pub(crate) async fn left_behind(&self) {
        self.abandoned.left.notified().await;
    }
}

#[cfg(test)]
mod tests;
