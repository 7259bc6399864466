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
        let release = Release { client_id, epoch, reason: Reason::TcpClosed.into(), ..Release::default() };
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

#[derive(Debug, Default)]
struct InFlight {
    epoch: u64,
    number: u64,
    replies: Vec<(Option<String>, oneshot::Sender<Answer>)>,
}

/// The batch in flight. There is one at a time.
#[derive(Debug)]
pub(crate) struct Pending {
    in_flight: Mutex<Option<InFlight>>,
    abandoned: Arc<Abandoned>,
    /// Number of batches settled or given up.
    settled: watch::Sender<u64>,
}

impl Default for Pending {
    fn default() -> Self {
        Pending { in_flight: Mutex::default(), abandoned: Arc::default(), settled: watch::Sender::new(0) }
    }
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
        *self.in_flight.lock() = Some(InFlight { epoch, number, replies });
    }

    /// Answers the callers if it is their batch; a repeated one finds nobody.
    pub(crate) fn settle(&self, epoch: u64, number: u64, index: u64, outcomes: &[Outcome]) {
        let settled = self.in_flight.lock().take_if(|batch| (batch.epoch, batch.number) == (epoch, number));
        let Some(batch) = settled else { return };
        for ((claimed, reply), outcome) in batch.replies.into_iter().zip(outcomes) {
            let Some(kind) = &outcome.kind else { continue };
            let answer = Answer { outcome: kind.clone(), index, ticket: self.ticket(claimed, kind) };
            // Where nobody waits any more, the ticket goes back with the answer.
            drop(reply.send(answer));
        }
        self.settled.send_modify(|count| *count += 1);
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
        if self.in_flight.lock().take().is_some() {
            self.settled.send_modify(|count| *count += 1);
        }
        self.abandoned.releases.lock().clear();
    }

    pub(crate) fn is_for(&self, epoch: u64, number: u64) -> bool {
        self.in_flight.lock().as_ref().is_some_and(|batch| (batch.epoch, batch.number) == (epoch, number))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.lock().is_none()
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

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }
}

#[cfg(test)]
mod tests;
