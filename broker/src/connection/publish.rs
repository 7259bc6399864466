//! What the client publishes, on its way to the router: in order, and held back where it has to be.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use rollcall_cluster::{Answer, Cluster, Unavailable};
use rollcall_proto::message::Message;
use rollcall_proto::packet::{PacketId, QoS};
use rollcall_proto::reason::ReasonCode;
use rollcall_proto::session::PublishToken;

use super::{Connection, now_ms};
use crate::router::{Receipt, Routed};

/// Publishes that may wait behind a retained one before no more is read.
const MOST_STAGED: usize = 256;

/// One PUBLISH.
pub(super) struct Publication {
    pub token: Option<PublishToken>,
    pub packet_id: Option<PacketId>,
    pub message: Arc<Message>,
}

/// A publish that has to wait.
pub(super) struct Held {
    publication: Publication,
    pub(super) over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Publishes behind a retained one that its shard has not committed yet: a retained message is matched only after that,
/// and none overtakes it.
#[derive(Default)]
pub(super) struct Stage(VecDeque<(Publication, Kept)>);

/// How far the shard of a retained message is.
enum Kept {
    /// It is not retained: it only waits for its turn.
    Not,
    /// This node had no route lease. What a node that was stopped or cut off had read meanwhile must not take the place
    /// of what the same client has published elsewhere since: with the lease it knows whether the session is still here.
    Later,
    Submitted(Answer),
}

impl Stage {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST_STAGED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for the front one's shard; for ever while there is none. May be dropped and called again.
    pub(super) async fn committed(&mut self, cluster: &Cluster) -> Result<(), Unavailable> {
        loop {
            match self.0.front_mut() {
                Some((_, Kept::Submitted(answer))) => return answer.await.map(|_| ()),
                Some((publication, kept @ Kept::Later)) => {
                    cluster.leases().route().await;
                    *kept = Kept::Submitted(cluster.retain(&publication.message));
                }
                Some((_, Kept::Not)) => return Ok(()),
                None => std::future::pending().await,
            }
        }
    }

    /// One that has not been submitted keeps those behind it from being so.
    fn has_later(&self) -> bool {
        self.0.iter().any(|(_, kept)| matches!(kept, Kept::Later))
    }
}

impl Connection {
    pub(super) fn publish(&mut self, publication: Publication) {
        if publication.message.retain {
            let cluster = &self.shared.cluster;
            let at_once = cluster.leases().may_route() && !self.stage.has_later();
            let kept = if at_once { Kept::Submitted(cluster.retain(&publication.message)) } else { Kept::Later };
            self.stage.0.push_back((publication, kept));
        } else if !self.stage.is_empty() || self.held.is_some() {
            self.stage.0.push_back((publication, Kept::Not));
        } else {
            self.route(publication);
        }
    }

    /// The shard of the front one has answered: it goes its way, and so does what waited for nothing but it.
    pub(super) fn on_committed(&mut self, result: Result<(), Unavailable>) {
        let Some((publication, _)) = self.stage.0.pop_front() else { return };
        match result {
            Ok(()) => self.route(publication),
            Err(error) => {
                tracing::debug!(%error, peername = %self.peername, "a retained message was not kept");
                self.answer(publication.token, ReasonCode::UnspecifiedError);
            }
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        while self.held.is_none()
            && let Some((_, Kept::Not)) = self.stage.0.front()
            && let Some((publication, _)) = self.stage.0.pop_front()
        {
            self.route(publication);
        }
    }

    /// Routes it, or keeps it until it may be routed.
    fn route(&mut self, publication: Publication) {
        let receipt = self.receipt(&publication);
        match self.shared.router.route(&publication.message, receipt) {
            Ok(routed) => self.routed(publication.token, routed),
            Err(hold) => {
                self.session.hold(now_ms());
                self.held = Some(Held { publication, over: Box::pin(hold.over()) });
            }
        }
    }

    /// A persistent session's QoS 2 message is received in its own shard, which remembers its packet id.
    fn receipt(&self, publication: &Publication) -> Option<Receipt> {
        let inbox = self.inbox.as_ref().filter(|_| publication.message.qos == QoS::ExactlyOnce)?;
        Some(Receipt {
            shard: inbox.shard(),
            incarnation: inbox.incarnation(),
            epoch: self.epoch,
            packet_id: publication.packet_id?,
        })
    }

    pub(super) fn retry_held(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.session.release(now_ms());
        self.route(held.publication);
        self.go_on();
        self.more = true;
    }

    fn routed(&mut self, token: Option<PublishToken>, routed: Routed) {
        if routed.is_received() && self.unconfirmed.is_empty() {
            self.answer(token, reason_for(&routed));
        } else if let Some(token) = token {
            self.unconfirmed.push_back((token, routed));
        }
    }

    /// The first of the unconfirmed publishes is confirmed, or will never be.
    pub(super) fn confirm(&mut self, result: Result<(), Unavailable>) {
        let Some((token, routed)) = self.unconfirmed.pop_front() else { return };
        let code = match result {
            Ok(()) => reason_for(&routed),
            Err(error) => {
                tracing::debug!(%error, peername = %self.peername, "a publish was not taken");
                ReasonCode::UnspecifiedError
            }
        };
        self.answer(Some(token), code);
    }

    fn answer(&mut self, token: Option<PublishToken>, code: ReasonCode) {
        if let Some(token) = token {
            self.session.published(token, code);
        }
    }
}

/// Only a publisher of QoS 1 or 2 hears it.
fn reason_for(routed: &Routed) -> ReasonCode {
    if routed.matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
}
