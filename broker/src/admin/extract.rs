//! axum's extractors, refusing with problem JSON.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Query, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// The parts of the path, percent-decoded.
pub struct PathOf<T>(pub T);

/// The query, with no parameter unknown.
pub struct QueryOf<T>(pub T);

/// A JSON body.
pub struct BodyOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|cause| Problem::bad_request(cause.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|cause| Problem::bad_request(cause.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for BodyOf<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        // By way of a map: a struct would also be read from a list of its fields' values.
        let body: Result<Json<Map<String, Value>>, JsonRejection> = Json::from_request(request, state).await;
        let refuse = |status, cause: String| Problem::unprocessable(status, format!("{cause}; send a JSON object"));
        let Json(map) = body.map_err(|cause| refuse(cause.status(), cause.body_text()))?;
        let value = T::deserialize(Value::Object(map));
        value.map(Self).map_err(|cause| refuse(StatusCode::UNPROCESSABLE_ENTITY, cause.to_string()))
    }
}
