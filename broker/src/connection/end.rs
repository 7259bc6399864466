//! The end of a connection: the last bytes, the will, and giving the session back.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::StreamExt as _;
use rollcall_cluster::{Claimed, Cluster};
use rollcall_proto::message::Message;
use rollcall_proto::packet::Will;
use rollcall_proto::reason::DisconnectReason;
use rollcall_proto::schema::roster::Release;
use rollcall_proto::session::{Close, CloseStage};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::request::Done;
use super::{Connection, now_ms};
use crate::router::Router;

/// How long the last packets may take to leave.
const LINGER: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) async fn end(mut self, close: Box<Close>) {
        metrics::counter!(crate::telemetry::DISCONNECTS, "reason" => close.reason.as_str()).increment(1);
        tracing::debug!(peername = %self.peername, reason = close.reason.as_str(), detail = close.detail, "ended");
        let client_id = self.session.client_id().clone();
        // The session may have been taken away after the last look.
        self.collect();
        let released = self.told.as_ref().is_some_and(|told| told.released);
        if let Some(will) = close.will {
            let (router, cluster) = (self.shared.router.clone(), self.shared.cluster.clone());
            tokio::spawn(publish_will(router, cluster, *will, client_id.clone(), self.epoch));
        }
        let owned = close.stage == CloseStage::Online && !released;
        let release = Release {
            client_id: client_id.to_string(),
            epoch: self.epoch,
            reason: rollcall_proto::schema::roster::Reason::from(close.reason).into(),
            detail: close.detail.filter(|_| close.reason == DisconnectReason::TcpClosed).unwrap_or_default().into(),
            session_expiry: close.session_expiry,
            ..Release::default()
        };
        let Connection { stream, output, shared, mut requests, .. } = self;
        let releasing = async {
            if owned {
                shared.cluster.release(release).await;
            } else if close.stage == CloseStage::Claiming {
                // What may still be granted is given back.
                while let Some(done) = requests.next().await {
                    if let Done::Claimed(Ok(Claimed::Granted { epoch, .. })) = done {
                        shared.cluster.release(Release { epoch, ..release.clone() }).await;
                    }
                }
            }
        };
        if close.reason == DisconnectReason::Normal {
            // Who waits for the end of the stream before it connects again anywhere is not taken for a second device.
            releasing.await;
            say_goodbye(stream, &output).await;
        } else {
            tokio::join!(say_goodbye(stream, &output), releasing);
        }
    }
}

/// What does not leave in time is lost, as it would be with a client that has gone.
async fn say_goodbye(mut stream: tokio::net::TcpStream, output: &[u8]) {
    let last = async {
        stream.write_all(output).await?;
        stream.shutdown().await
    };
    match timeout(LINGER, last).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the client had gone"),
        Err(_) => tracing::trace!("the client did not read to the end"),
    }
}

/// After its delay, unless a new connection has taken up the session meanwhile [MQTT-3.1.3-9].
async fn publish_will(router: Arc<Router>, cluster: Cluster, will: Will, client_id: ByteString, epoch: u64) {
    let delay = will.properties.delay_interval.unwrap_or(0);
    if delay > 0 {
        tokio::time::sleep(Duration::from_secs(delay.into())).await;
        let resumed = cluster.roster().session(&client_id).is_some_and(|session| session.epoch > epoch);
        if resumed {
            return;
        }
    }
    let message = Arc::new(Message::from_will(&will, client_id, now_ms()));
    loop {
        match router.route(&message) {
            Ok(_) => return,
            Err(hold) => hold.over().await,
        }
    }
}
