//! The configuration, read anew.

use axum::{Json, extract::State};

use super::{AdminState, problem::Problem};
use crate::config::Changes;

/// Reads this node's configuration anew. What may change while it runs does; one wrong value, and nothing does.
#[utoipa::path(
    post, path = "/api/v1/reload", tag = "nodes",
    responses(
        (status = 200, description = "The keys whose values have changed, by what came of it", body = Changes),
        (status = 422, description = "What is wrong; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node is starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn reload(State(state): State<AdminState>) -> Result<Json<Changes>, Problem> {
    let reloader = state.reloader.get().ok_or_else(|| Problem::not_ready("the node is starting: wait"))?;
    let changes = reloader.reload().await;
    changes.map(Json).map_err(|problems| Problem::configuration_refused(problems.to_string()))
}
