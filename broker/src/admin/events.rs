//! Lifecycle events, read page by page or followed.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use rollcall_cluster::{Cluster, feed::Recorded};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::{IntoParams, ToSchema};

use super::{AdminState, extract::QueryOf, problem::Problem};
use crate::{config::EventNode, events};

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 10_000;
/// Events in one piece of a stream.
const PIECE: usize = 1_000;
/// Proxies close what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const EVENT_STREAM: &str = "text/event-stream";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events behind this `seq`; without it, from the oldest that is kept.
    after: Option<u64>,
    /// Events on one page: 1 to 10000, 100 by default. A followed stream has no end.
    limit: Option<usize>,
}

/// Told by the document; written piece by piece.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList {
    #[schema(value_type = Vec<Object>)]
    items: Vec<()>,
    /// Give it back as `after`; null when there is no more for now.
    next: Option<String>,
    /// `seq` of the last event this node has.
    seq: u64,
}

/// Lifecycle events in their one order; followed as they happen with `Accept: text/event-stream`.
///
/// An item is what is published on `$events/…`. A stream's ids are the events' `seq`; `Last-Event-ID` goes before
/// `after`.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "Where a followed stream goes on")),
    responses(
        (status = 200, description = "A page, or a stream", content(
            (EventList = "application/json"), (String = "text/event-stream")
        )),
        (status = 400, description = "Bad query", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "No longer kept", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "Unreadable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Starting, or too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(state): State<AdminState>,
    headers: HeaderMap,
    QueryOf(query): QueryOf<EventsQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("limit={limit}: allowed is 1 to {MOST}")));
    }
    let cluster = state.cluster()?.clone();
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let follow = accept.split(',').any(|kind| kind.trim().starts_with(EVENT_STREAM));
    let last_id = if follow { last_event_id(&headers)? } else { None };
    let oldest = cluster.events().first();
    let after = last_id.or(query.after).unwrap_or(oldest.saturating_sub(1));
    if after + 1 < oldest {
        return Err(gone(after, oldest));
    }
    if !follow {
        return page(cluster, state.event_node, after, limit).await;
    }
    let permit = state.followers.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::too_many_followers(state.max_followers))?;
    Ok(followed(Follower::new(cluster, state.event_node, after, permit)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let id = id.to_str().ok().and_then(|id| id.trim().parse().ok());
    id.map(Some).ok_or_else(|| Problem::bad_request("Last-Event-ID: give the id of the last event you have"))
}

fn gone(after: u64, oldest: u64) -> Problem {
    Problem::gone(format!(
        "after={after}: the oldest event still kept is {oldest}; list the sessions anew and go on from the list's seq, or \
         raise events.retention"
    ))
}

/// Off the runtime's threads: old events come from disk.
async fn read(cluster: &Cluster, after: u64, limit: usize) -> Result<Vec<Arc<Recorded>>, Problem> {
    let feed = cluster.clone();
    let records = match tokio::task::spawn_blocking(move || feed.events().read(after, limit)).await {
        Ok(Ok(records)) => records,
        Ok(Err(cause)) => return Err(Problem::internal(format!("the event log cannot be read: {cause}"))),
        Err(cause) => return Err(Problem::internal(format!("the event log cannot be read: {cause}"))),
    };
    match records.first() {
        // They were dropped between the question and the reading.
        Some(first) if first.event.seq > after + 1 => Err(gone(after, first.event.seq)),
        Some(_) | None => Ok(records),
    }
}

async fn page(cluster: Cluster, node: EventNode, after: u64, limit: usize) -> Result<Response, Problem> {
    let records = read(&cluster, after, limit).await?;
    let seq = cluster.events().last();
    let mut body = BytesMut::with_capacity(64 + records.len() * 320);
    body.put_slice(b"{\"items\":[");
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(record.rendered(|event| events::render(event, node)));
    }
    let last = records.last().map(|record| record.event.seq).filter(|last| *last < seq);
    let next = last.map_or_else(|| "null".to_owned(), |last| format!("\"{last}\""));
    body.put_slice(format!("],\"next\":{next},\"seq\":{seq}}}").as_bytes());
    Ok(([(header::CONTENT_TYPE, "application/json")], body.freeze()).into_response())
}

struct Follower {
    cluster: Cluster,
    node: EventNode,
    /// `seq` of the last event sent.
    after: u64,
    last: watch::Receiver<u64>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn new(cluster: Cluster, node: EventNode, after: u64, permit: OwnedSemaphorePermit) -> Self {
        let last = cluster.events().watch();
        Self { cluster, node, after, last, over: false, _permit: permit }
    }

    /// Events as they come, a comment in between, or the end.
    async fn next_piece(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let after = self.after;
        match tokio::time::timeout(KEEP_ALIVE, self.last.wait_for(|last| *last > after)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return None,
            Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
        }
        let records = match read(&self.cluster, self.after, PIECE).await {
            Ok(records) => records,
            Err(problem) => {
                self.over = true;
                return Some(format!("event: error\ndata: {}\n\n", problem.to_json()).into());
            }
        };
        let mut piece = BytesMut::with_capacity(records.len() * 352);
        for record in &records {
            piece.put_slice(format!("id: {}\ndata: ", record.event.seq).as_bytes());
            piece.put_slice(record.rendered(|event| events::render(event, self.node)));
            piece.put_slice(b"\n\n");
            self.after = record.event.seq;
        }
        Some(piece.freeze())
    }
}

fn followed(follower: Follower) -> Response {
    let opening = Bytes::from_static(b": events follow\n\n");
    let pieces = stream::unfold((follower, Some(opening)), |(mut follower, opening)| async move {
        let piece = match opening {
            Some(opening) => opening,
            None => follower.next_piece().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(piece), (follower, None)))
    });
    let headers = [(header::CONTENT_TYPE, EVENT_STREAM), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(pieces)).into_response()
}
