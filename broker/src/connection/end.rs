//! The end of a connection: the last bytes, and giving the session back.

use std::time::Duration;

use futures_util::StreamExt as _;
use rollcall_cluster::Claimed;
use rollcall_proto::reason::DisconnectReason;
use rollcall_proto::schema::roster::{Release, TurnedAway};
use rollcall_proto::session::{Close, CloseStage};
use tokio::time::timeout;

use super::Connection;
use super::request::Done;
use super::retained::Absentee;
use crate::transport::Transport;

/// How long the last packets may take to leave.
const LINGER: Duration = Duration::from_secs(1);
/// How long the last record of an inbox may take before the session is given back without it.
const RECORDING: Duration = Duration::from_secs(2);
/// How long a client that is to go waits for its session to be given back before it is told.
const RELEASING: Duration = Duration::from_secs(2);
/// How long a connection that has ended goes on looking for the retained messages that its session is owed.
const SEEKING: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) async fn end(mut self, close: Box<Close>) {
        metrics::counter!(crate::telemetry::DISCONNECTS, "reason" => close.reason.as_str()).increment(1);
        tracing::debug!(peername = %self.peername, reason = close.reason.as_str(), detail = close.detail, "ended");
        let client_id = self.session.client_id().clone();
        // The session may have been taken away after the last look.
        self.collect();
        let released = self.told.as_ref().is_some_and(|told| told.released);
        let owned = close.stage == CloseStage::Online && !released;
        let release = Release {
            client_id: client_id.to_string(),
            epoch: self.epoch,
            reason: rollcall_proto::schema::roster::Reason::from(close.reason).into(),
            detail: detail_of(&close),
            session_expiry: close.session_expiry,
            // A will exists from the CONNACK on, until the client takes it back [MQTT-3.1.2-7], [MQTT-3.14.4-3].
            without_will: close.will.is_none(),
        };
        let inbox = self.inbox.as_ref().map(|inbox| (inbox.shard(), inbox.incarnation()));
        let last_record = self.inbox.take().map(|inbox| (inbox.shard(), inbox.last_record(&client_id, self.epoch)));
        let turned_away = self.turned_away(&close);
        let (peer, undelivered) = (self.peername.ip(), self.session.take_shared());
        let Connection { stream, output, shared, mut requests, mailbox, quests, .. } = self;
        let releasing = async {
            // First, so that the next connection finds it: what is not recorded is sent again.
            if let Some((shard, record)) = last_record
                && timeout(RECORDING, shared.cluster.acknowledge(shard, record)).await.is_err()
            {
                tracing::debug!(client_id = %client_id, "the last acknowledgements may not be recorded");
            }
            if owned {
                shared.cluster.release(release).await;
            } else if let Some(who) = turned_away {
                shared.refusals.report(&shared.cluster, peer, who).await;
            } else if close.stage == CloseStage::Claiming {
                // What may still be granted is given back.
                while let Some(done) = requests.next().await {
                    if let Done::Claimed(Ok(Claimed::Granted { epoch, .. })) = done {
                        shared.cluster.release(Release { epoch, ..release.clone() }).await;
                    }
                }
            }
        };
        tokio::pin!(releasing);
        // Who waits for the end of the stream, or for being told to go, before it connects again anywhere is not taken for
        // a second device.
        let released = if close.reason == DisconnectReason::Normal {
            releasing.as_mut().await;
            true
        } else if close.reason == DisconnectReason::GoAway {
            // Without a quorum it is told all the same.
            timeout(RELEASING, releasing.as_mut()).await.is_ok()
        } else {
            false
        };
        if released {
            say_goodbye(stream, &output).await;
        } else {
            tokio::join!(say_goodbye(stream, &output), releasing);
        }
        // Now that it is a member no more; what still comes for it goes the same way.
        shared.router.pass_on(undelivered.into_iter().chain(mailbox.close()).collect());
        if let Some((shard, incarnation)) = inbox {
            let session = Absentee { client_id: &client_id, shard, incarnation };
            if timeout(SEEKING, quests.go_on_without(&shared.cluster, session)).await.is_err() {
                tracing::warn!(client_id = %client_id, "a session that is offline may lack retained messages");
            }
        }
    }
}

impl Connection {
    /// What the event of a connection says that was refused without a claim; who never said a word makes none.
    fn turned_away(&self, close: &Close) -> Option<TurnedAway> {
        let is_told = match close.stage {
            CloseStage::BeforeClaim => {
                self.heard && (close.reason != DisconnectReason::TcpClosed || close.detail.is_some())
            }
            // Any other refusal is the roster's, and its event as well, or comes of not reaching it.
            CloseStage::Refused => close.reason == DisconnectReason::NotAuthenticated,
            CloseStage::Claiming | CloseStage::Online => false,
        };
        is_told.then(|| TurnedAway {
            client_id: self.session.client_id().to_string(),
            username: self.session.username().map(ToString::to_string),
            peername: self.peername.to_string(),
            sockname: self.sockname.to_string(),
            reason: rollcall_proto::schema::roster::Reason::from(close.reason).into(),
            detail: detail_of(close),
        })
    }
}

/// Only where the reason does not say it.
fn detail_of(close: &Close) -> String {
    close.detail.filter(|_| close.reason == DisconnectReason::TcpClosed).unwrap_or_default().into()
}

/// What does not leave in time is lost, as it would be with a client that has gone.
async fn say_goodbye(mut stream: Transport, output: &[u8]) {
    match timeout(LINGER, stream.close(output)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the client had gone"),
        Err(_) => tracing::trace!("the client did not read to the end"),
    }
}
