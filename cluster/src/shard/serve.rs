//! What a replica answers to nodes that have none: inboxes as they fill, and pages of retained messages.

use std::io;
use std::sync::Arc;

use rollcall_proto::schema::node as wire;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::reader::{Address, InboxReader, to_wire};
use super::replica::ShardReplica;
use crate::clock::boottime;
use crate::message;

/// Messages in one chunk.
const CHUNK: usize = 64;

/// Until the reader goes.
pub(crate) async fn serve_inbox(
    replica: Arc<ShardReplica>,
    open: wire::InboxOpen,
    mut asks: Streaming<wire::ReadInbox>,
    mut credit: u32,
    chunks: mpsc::Sender<Result<wire::InboxChunk, Status>>,
) {
    if !replica.wait_applied(open.index).await {
        let _ = chunks.send(Err(gone())).await;
        return;
    }
    let address = Address {
        shard: open.shard,
        client_id: open.client_id.into(),
        incarnation: open.incarnation,
        index: open.index,
    };
    let Some(mut reader) = InboxReader::local(replica, address, None) else {
        // Whoever hung up has no use for the answer.
        let _ = chunks.send(Err(Status::not_found("there is no such inbox (any more)"))).await;
        return;
    };
    reader.skip_to(open.after);
    let state = reader.state();
    let state = wire::InboxState {
        sent: state.sent,
        held: state.held.iter().map(|id| u32::from(*id)).collect(),
        events: state.events,
        events_sent: state.events_sent,
        unclean: state.unclean,
    };
    if chunks.send(Ok(wire::InboxChunk { state: Some(state), messages: Vec::new() })).await.is_err() {
        return;
    }
    loop {
        let read = match reader.read(CHUNK.min(credit as usize)) {
            Ok(read) => read,
            Err(error) => {
                let _ = chunks.send(Err(unreadable(&error))).await;
                return;
            }
        };
        if !read.is_empty() {
            credit -= read.len() as u32;
            let now = boottime().as_millis() as u64;
            let messages = read.into_iter().map(|message| to_wire(message, now)).collect();
            if chunks.send(Ok(wire::InboxChunk { state: None, messages })).await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = reader.changed(), if credit > 0 => {}
            ask = asks.message() => match ask {
                Ok(Some(ask)) => credit += ask.credit,
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// The reader asks another replica.
fn gone() -> Status {
    Status::unavailable("the shard has moved off this node")
}

fn unreadable(error: &io::Error) -> Status {
    Status::data_loss(error.to_string())
}

/// # Errors
/// When a spilled message cannot be read back.
pub(crate) async fn serve_retained(
    replica: Arc<ShardReplica>,
    asked: wire::ReadRetained,
) -> Result<wire::RetainedChunk, Status> {
    if !replica.wait_applied(asked.index).await {
        return Err(gone());
    }
    let after = (!asked.after.is_empty()).then_some(asked.after.as_str());
    let page = replica.read_retained(&asked.filter, after, asked.limit as usize);
    let page = page.map_err(|error| unreadable(&error))?;
    let now = boottime().as_millis() as u64;
    let messages = page.messages.iter().map(|message| wire::RetainedMessage {
        message: Some(message::to_wire(message)),
        expires_in: message.expires_at.map(|at| at.saturating_sub(now)),
    });
    Ok(wire::RetainedChunk { messages: messages.collect(), next: page.next })
}
