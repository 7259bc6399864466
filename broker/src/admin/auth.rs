//! The bearer token, where one is configured.

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::{AdminState, problem::Problem};

/// Orchestrators probe these without credentials.
pub(super) const OPEN: [&str; 2] = ["/healthz", "/readyz"];

pub(super) async fn check(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let allowed = match &**state.token.load() {
        None => true,
        Some(_) if OPEN.contains(&request.uri().path()) => true,
        Some(token) => shows(&request, token),
    };
    if allowed { next.run(request).await } else { Problem::unauthorized().into_response() }
}

fn shows(request: &Request, token: &str) -> bool {
    let Some(given) = request.headers().get(header::AUTHORIZATION) else { return false };
    let Some((scheme, given)) = given.to_str().ok().and_then(|given| given.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
}
