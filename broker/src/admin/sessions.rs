//! Sessions: who is connected and who was; and the kick.

use axum::{Json, extract::State, http::StatusCode};
use rollcall_cluster::roster::{NEVER, Roster, Session, SessionFilter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AdminState,
    cluster::name_of,
    extract::{PathOf, QueryOf},
    nodes::names,
    problem::Problem,
};

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SessionsQuery {
    /// Only client ids that begin so.
    prefix: Option<String>,
    /// Only those connected to the node of this name.
    node: Option<String>,
    /// Only those connected, or only those not.
    online: Option<bool>,
    /// Sessions on one page: 1 to 1000, 100 by default.
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SessionList {
    items: Vec<SessionView>,
    /// Give it back as `cursor`; null on the last page.
    next: Option<String>,
    /// The page is true at this event: follow events from the lowest `seq` of all pages, and no change is missed.
    seq: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    clientid: String,
    online: bool,
    /// The name of the node it is connected to.
    node: Option<String>,
    /// Numbers the connections of this client id.
    epoch: u64,
    /// In milliseconds since 1970, as are all times.
    connected_at: u64,
    disconnected_at: Option<u64>,
    /// Seconds that the session outlives its connection; null: for ever.
    session_expiry: Option<u32>,
    clean_start: bool,
    /// Seconds.
    keepalive: u16,
    /// 3, 4 or 5.
    proto_ver: u8,
    username: Option<String>,
    peername: String,
    sockname: String,
    subscription_count: usize,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OneSession {
    #[serde(flatten)]
    session: SessionView,
    subscriptions: Vec<SubscriptionView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    filter: String,
    qos: u32,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u32,
    subscription_id: Option<u32>,
}

impl SessionView {
    fn new(roster: &Roster, client_id: &str, session: &Session) -> Self {
        Self {
            clientid: client_id.to_owned(),
            online: session.owner.is_some(),
            node: session.owner.map(|owner| name_of(roster, owner.node)),
            epoch: session.epoch,
            connected_at: session.connected_at,
            disconnected_at: session.disconnected_at,
            session_expiry: (session.session_expiry != NEVER).then_some(session.session_expiry),
            clean_start: session.clean_start,
            keepalive: session.keep_alive,
            proto_ver: session.protocol_level,
            username: session.username.as_deref().map(str::to_owned),
            peername: session.peername.to_string(),
            sockname: session.sockname.to_string(),
            subscription_count: session.subscriptions.len(),
        }
    }
}

/// Sessions, online and offline, page by page in an order of the broker's own.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "sessions", params(SessionsQuery),
    responses(
        (status = 200, description = "A page", body = SessionList),
        (status = 400, description = "Bad query", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn sessions(
    State(state): State<AdminState>,
    QueryOf(query): QueryOf<SessionsQuery>,
) -> Result<Json<SessionList>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_request(format!("limit={limit}: allowed is 1 to {MOST}")));
    }
    let after = query.cursor.as_deref().map(position).transpose()?;
    let roster = state.cluster()?.roster();
    let node = query.node.as_deref().map(|name| node_id(&roster, name)).transpose()?;
    let filter = SessionFilter { prefix: query.prefix, node, online: query.online };
    let page = roster.list(&filter, after.as_deref(), limit);
    let items = page.items.iter().map(|(id, session)| SessionView::new(&roster, id, session)).collect();
    Ok(Json(SessionList { items, next: page.next.as_deref().map(cursor), seq: page.seq }))
}

/// One session with its subscriptions.
#[utoipa::path(
    get, path = "/api/v1/sessions/{clientid}", tag = "sessions",
    params(("clientid" = String, Path, description = "Percent-encoded where it must be")),
    responses(
        (status = 200, description = "The session", body = OneSession),
        (status = 400, description = "Bad client id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such session", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn session(
    State(state): State<AdminState>,
    PathOf(client_id): PathOf<String>,
) -> Result<Json<OneSession>, Problem> {
    let roster = state.cluster()?.roster();
    let session = roster.session(&client_id).ok_or_else(|| no_session(&client_id))?;
    let subscriptions = session.subscriptions.iter().map(|(filter, options)| SubscriptionView {
        filter: filter.to_string(),
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: options.retain_handling,
        subscription_id: (options.subscription_id != 0).then_some(options.subscription_id),
    });
    let subscriptions = subscriptions.collect();
    Ok(Json(OneSession { session: SessionView::new(&roster, &client_id, session), subscriptions }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KickQuery {
    /// End the session too, with its subscriptions.
    #[serde(default)]
    purge: bool,
}

/// Closes the client's connection on whatever node it is.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{clientid}", tag = "sessions",
    params(("clientid" = String, Path, description = "Percent-encoded where it must be"), KickQuery),
    responses(
        (status = 204, description = "Done: it owns its session no more"),
        (status = 400, description = "Bad request", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such session", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No decision", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn kick(
    State(state): State<AdminState>,
    PathOf(client_id): PathOf<String>,
    QueryOf(query): QueryOf<KickQuery>,
) -> Result<StatusCode, Problem> {
    let existed = state.cluster()?.kick(&client_id, query.purge).await?;
    tracing::info!(client_id, purge = query.purge, existed, "a client was kicked over HTTP");
    if existed { Ok(StatusCode::NO_CONTENT) } else { Err(no_session(&client_id)) }
}

fn no_session(client_id: &str) -> Problem {
    Problem::not_found(format!("there is no session of client id \"{client_id}\"; see /api/v1/sessions"))
}

fn node_id(roster: &Roster, name: &str) -> Result<u64, Problem> {
    let named = roster.node_named(name).map(|node| node.id);
    named.ok_or_else(|| Problem::bad_request(format!("node={name}: there are {}", names(roster))))
}

/// Hexadecimal, so that any client id goes through any URL.
fn cursor(client_id: &str) -> String {
    client_id.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn position(cursor: &str) -> Result<String, Problem> {
    let wrong = || Problem::bad_request("cursor: give back the `next` of the page before, unchanged");
    if !cursor.is_ascii() || !cursor.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let bytes = (0..cursor.len()).step_by(2).map(|at| u8::from_str_radix(&cursor[at..at + 2], 16));
    let bytes = bytes.collect::<Result<Vec<u8>, _>>().map_err(|_| wrong())?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_carries_any_client_id() {
        for id in ["", "a", "plant/7 &?%\u{0}", "größe 🚗"] {
            assert_eq!(position(&cursor(id)).ok().as_deref(), Some(id));
        }
        for wrong in ["\0nonsense", "abc", "zz", "ff", "ä"] {
            assert!(position(wrong).is_err(), "{wrong:?}");
        }
    }
}
