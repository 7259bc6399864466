//! What orchestrators and Prometheus ask.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use metrics::gauge;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AdminState, problem::Problem};
use crate::telemetry;

#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "It is", body = Health)))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The node has joined, has caught up, and may serve.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It may", body = Health),
        (status = 503, description = "It may not, and why", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(State(state): State<AdminState>) -> Result<Json<Health>, Problem> {
    match state.cluster()?.readiness() {
        Ok(()) => Ok(Json(Health { status: "ok" })),
        Err(why) => Err(Problem::not_ready(why.to_string())),
    }
}

/// Metrics in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    look(&state);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics.render())
}

/// What is not counted as it happens is looked at when it is asked for.
fn look(state: &AdminState) {
    let Ok(cluster) = state.cluster() else { return gauge!(telemetry::READY).set(0) };
    let roster = cluster.roster();
    let (sessions, online) = (roster.session_count(), roster.connections());
    drop(roster);
    gauge!(telemetry::READY).set(u8::from(cluster.readiness().is_ok()));
    gauge!(telemetry::SESSIONS).set(sessions as f64);
    gauge!(telemetry::SESSIONS_ONLINE).set(online as f64);
    gauge!(telemetry::EVENTS_SEQ).set(cluster.events().last() as f64);
    let free = state.followers.available_permits();
    gauge!(telemetry::EVENT_FOLLOWERS).set(state.max_followers.saturating_sub(free) as f64);
    let (syncs, bytes, last) = cluster.log_stats();
    metrics::counter!(telemetry::LOG_SYNCS).absolute(syncs);
    metrics::counter!(telemetry::LOG_BYTES).absolute(bytes);
    gauge!(telemetry::LOG_SYNC_SECONDS).set(last.as_secs_f64());
}
