//! What the program asks of the shards: inboxes opened, filled and acknowledged; messages retained and read again.

use std::sync::Arc;
use std::time::Duration;

use rollcall_proto::message::{Delivery, Message};
use rollcall_proto::packet::PacketId;
use rollcall_proto::schema::node::ReadRetained;
use rollcall_proto::schema::shard::{
    Acknowledge, Enqueue, Open, Receive, Retain, ShardTargets, Target, command, outcome,
};
use tokio::time::{sleep, timeout};

use crate::clock::boottime;
use crate::cluster::Cluster;
use crate::message::{from_wire, to_body};
use crate::propose::Unavailable;
use crate::shard::reader::Address;
use crate::shard::{Answer, InboxReader, RetainedMessages};

/// Before a shard that cannot be read is tried again.
const RETRY: Duration = Duration::from_millis(100);

impl Cluster {
    /// The shard of a client's inbox, or of a topic's retained message.
    pub fn shard_of(&self, key: &str) -> u32 {
        self.roster().shard_of(key)
    }

    pub fn shard_count(&self) -> u32 {
        self.roster().shard_count()
    }

    /// A connection takes up its session's inbox; [`Unavailable::NotUp`] also when a later one has.
    pub(crate) async fn open_inbox(
        &self,
        client_id: &str,
        incarnation: u64,
        epoch: u64,
        roster_index: u64,
    ) -> Result<InboxReader, Unavailable> {
        let shard = self.shard_of(client_id);
        let limits = Some(self.config().inbox_limits);
        let open = Open { client_id: client_id.into(), incarnation, epoch, roster_index, limits };
        let answer = self.shards().submit(shard, command::Kind::Open(open)).await?;
        if !matches!(answer.outcome, outcome::Kind::Opened(_)) {
            return Err(Unavailable::NotUp);
        }
        let address = Address { shard, client_id: client_id.into(), incarnation, index: answer.index };
        // A replica that is new here may be behind the leader that answered.
        let reader = match self.shards().replica(shard) {
            Some(replica) if replica.wait_applied(answer.index).await => {
                InboxReader::local(replica, address, Some(self.shards().clone()))
            }
            Some(_) | None => InboxReader::remote(self.shards().clone(), address).await,
        };
        reader.ok_or(Unavailable::NotUp)
    }

    /// One answer per shard.
    pub fn enqueue(&self, message: &Message, targets: Vec<ShardTargets>) -> Vec<Answer> {
        if targets.is_empty() {
            return Vec::new();
        }
        let (body, expires_in) = (to_body(message), expires_in(message));
        let enqueue = |ShardTargets { shard, targets }| {
            let enqueue = Enqueue { message: body.clone(), targets, expires_in, origin: None };
            self.shards().submit(shard, command::Kind::Enqueue(enqueue))
        };
        targets.into_iter().map(enqueue).collect()
    }

    /// For one session's inbox alone; nobody waits for it.
    pub fn enqueue_for(&self, shard: u32, client_id: &str, incarnation: u64, delivery: &Delivery) {
        let target = Target {
            client_id: client_id.into(),
            incarnation,
            qos: delivery.qos as u32,
            retain: delivery.retain,
            subscription_ids: delivery.subscription_ids.as_slice().to_vec(),
        };
        drop(self.enqueue(&delivery.message, vec![ShardTargets { shard, targets: vec![target] }]));
    }

    /// A persistent publisher's QoS 2 message, which its own shard hands on.
    pub fn receive(
        &self,
        shard: u32,
        incarnation: u64,
        epoch: u64,
        packet_id: PacketId,
        message: &Message,
        targets: Vec<ShardTargets>,
    ) -> Answer {
        let receive = Receive {
            client_id: message.publisher.to_string(),
            incarnation,
            epoch,
            packet_id: packet_id.get().into(),
            message: to_body(message),
            expires_in: expires_in(message),
            targets,
        };
        self.shards().submit(shard, command::Kind::Receive(receive))
    }

    pub fn acknowledge(&self, shard: u32, record: Acknowledge) -> Answer {
        self.shards().submit(shard, command::Kind::Acknowledge(record))
    }

    /// Replaces the retained message of its topic.
    pub fn retain(&self, message: &Message) -> Answer {
        let retain = Retain { message: to_body(message), expires_in: expires_in(message), origin: None };
        self.shards().submit(self.shard_of(&message.topic), command::Kind::Retain(retain))
    }

    /// A page of one shard's retained messages; the first one is of what had been committed when it was asked for.
    ///
    /// # Errors
    /// [`Unavailable`], after a moment, so that who asks again may do so at once.
    pub async fn retained(
        &self,
        shard: u32,
        filter: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RetainedMessages, Unavailable> {
        let read = timeout(self.config().claim_timeout, self.read_retained(shard, filter, after, limit)).await;
        let page = read.unwrap_or(Err(Unavailable::Timeout));
        if page.is_err() {
            sleep(RETRY).await;
        }
        page
    }

    async fn read_retained(
        &self,
        shard: u32,
        filter: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RetainedMessages, Unavailable> {
        let index = if after.is_none() { self.shards().confirm(shard).await? } else { 0 };
        if let Some(replica) = self.shards().replica(shard)
            && replica.wait_applied(index).await
        {
            return replica.read_retained(filter, after, limit).map_err(|error| {
                tracing::error!(%error, shard, "retained messages cannot be read");
                Unavailable::Timeout
            });
        }
        let asked = ReadRetained {
            shard,
            filter: filter.into(),
            after: after.unwrap_or_default().into(),
            limit: limit as u32,
            index,
        };
        let (peers, replicas) = self.shards().ways_to(shard);
        for replica in replicas {
            let Ok(mut client) = peers.client(&replica) else { continue };
            match timeout(self.config().rpc_timeout, client.retained(asked.clone())).await {
                Ok(Ok(chunk)) => return Ok(page_of(chunk.into_inner())),
                Ok(Err(error)) => tracing::debug!(%error, %replica, "retained messages cannot be read there"),
                Err(_) => tracing::debug!(%replica, "no answer about retained messages"),
            }
        }
        Err(Unavailable::Timeout)
    }
}

fn page_of(chunk: rollcall_proto::schema::node::RetainedChunk) -> RetainedMessages {
    let now = boottime().as_millis() as u64;
    let messages = chunk.messages.into_iter().filter_map(|retained| {
        let expires_at = retained.expires_in.map(|left| now + left);
        from_wire(retained.message?, expires_at).map(Arc::new)
    });
    RetainedMessages { messages: messages.collect(), next: chunk.next }
}

/// Milliseconds; `None` never.
fn expires_in(message: &Message) -> Option<u64> {
    message.expires_at.map(|at| at.saturating_sub(boottime().as_millis() as u64))
}
