//! Errors as RFC 9457 problem JSON.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rollcall_cluster::{Refused, Unavailable};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong and what to do about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A stable name for this kind of error, as a URI.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16)]
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What happened here, and what can be done.
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { kind: format!("urn:rollcall:problem:{kind}"), title, status, detail: detail.into() }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be understood", detail)
    }

    pub fn unauthorized() -> Self {
        let detail = "send the header `Authorization: Bearer` with the node's http.token";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The token is missing or wrong", detail)
    }

    pub fn unknown_route(path: &str) -> Self {
        let detail = format!("there is nothing at {path}; the routes are told by /api/v1/openapi.json");
        Self::new(StatusCode::NOT_FOUND, "unknown-route", "No such route", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let detail = format!("{path} does not take {method}; see the Allow header");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The route does not take this method", detail)
    }

    pub fn unprocessable(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "bad-body", "The body cannot be understood", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "not-now", "The cluster refuses this as it is now", detail)
    }

    pub fn configuration_refused(detail: impl Into<String>) -> Self {
        let title = "The configuration is refused, and nothing was changed";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration-refused", title, detail)
    }

    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "events-gone", "These events are no longer kept", detail)
    }

    pub fn not_ready(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The node may not serve", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The cluster cannot decide now", detail)
    }

    pub fn too_many_followers(most: usize) -> Self {
        let detail =
            format!("{most} event streams are followed on this node already; ask another or raise http.max_followers");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-followers", "No event stream is free", detail)
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The node failed", detail)
    }

    /// On one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<Refused> for Problem {
    fn from(cause: Refused) -> Self {
        match cause {
            Refused::Now(why) => Self::conflict(why),
            Refused::Unreachable(_) => Self::unavailable(cause.to_string()),
            Refused::Unavailable(cause) => cause.into(),
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(cause: Unavailable) -> Self {
        Self::unavailable(cause.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut answer = (status, axum::Json(self)).into_response();
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}
