//! QoS 2 messages of persistent publishers on their way from their own shard to the others: carried by the leader of the
//! publisher's shard, in order, again and again until all targets have taken them. Targets pass over what they have had.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::schema::shard::{Enqueue, HandedOn, command};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Answer, ShardReplica, Shards};
use crate::inbox::Handing;
use crate::propose::Unavailable;

/// Hand-ons that may be on their way at once.
const WINDOW: usize = 256;
/// Before everything is sent again after a failure.
const RETRY: Duration = Duration::from_millis(100);

pub(crate) struct HandOn {
    pub shards: Arc<Shards>,
    pub replica: Arc<ShardReplica>,
    /// 0 while this node does not lead the shard.
    pub leading: watch::Receiver<u64>,
}

/// Sent, in order: its number and what its targets answer.
type Sent = VecDeque<(u64, Vec<Answer>)>;

impl HandOn {
    /// Until the group stops.
    pub(crate) async fn run(mut self) {
        loop {
            if self.leading.wait_for(|term| *term != 0).await.is_err() {
                return;
            }
            let mut leading = self.leading.clone();
            leading.mark_unchanged();
            tokio::select! {
                carried = self.carry() => {
                    if let Err(error) = carried {
                        tracing::debug!(%error, shard = self.replica.number(), "handing on has to begin again");
                    }
                    sleep(RETRY).await;
                }
                changed = leading.changed() => if changed.is_err() { return },
            }
        }
    }

    /// As long as nothing fails.
    async fn carry(&self) -> Result<(), Unavailable> {
        let mut after = 0;
        let mut sent = Sent::new();
        loop {
            let changed = self.replica.hand_ons_changed();
            let fresh = self.replica.shard().hand_ons(after, WINDOW - sent.len());
            for handing in fresh {
                after = handing.hand_on.number;
                sent.push_back((after, self.send(handing).await?));
            }
            if sent.is_empty() {
                changed.await;
                continue;
            }
            self.settle(&mut sent).await?;
        }
    }

    /// To each of its target shards.
    async fn send(&self, handing: Handing) -> Result<Vec<Answer>, Unavailable> {
        let now = self.replica.log_now();
        let message = self.replica.body(handing.body).map_err(|error| {
            tracing::error!(%error, "a message to be handed on cannot be read");
            Unavailable::Timeout
        })?;
        // Expired ones go too: their number is taken, and who has an inbox there drops them.
        let expires_in = (handing.expires_at != 0).then(|| handing.expires_at.saturating_sub(now));
        let mut answers = Vec::with_capacity(handing.hand_on.targets.len());
        for targets in &handing.hand_on.targets {
            self.shards.room(targets.shard).await;
            let enqueue = Enqueue {
                message: message.clone(),
                targets: targets.targets.clone(),
                expires_in,
                origin: handing.hand_on.origin.clone(),
            };
            answers.push(self.shards.submit(targets.shard, command::Kind::Enqueue(enqueue)));
        }
        Ok(answers)
    }

    /// Waits for what was sent, and says in the shard how far that has come.
    async fn settle(&self, sent: &mut Sent) -> Result<(), Unavailable> {
        let mut up_to = 0;
        while let Some((number, answers)) = sent.pop_front() {
            for answer in answers {
                answer.await?;
            }
            up_to = number;
        }
        self.shards.submit(self.replica.number(), command::Kind::HandedOn(HandedOn { up_to })).await?;
        Ok(())
    }
}
