//! The OpenAPI document.

use std::sync::Arc;

use axum::{Extension, http::header, response::IntoResponse};
use utoipa::{
    OpenApi,
    openapi::{
        Components, ContentBuilder, Info, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use super::{
    auth::OPEN,
    problem::{CONTENT_TYPE, Problem},
};

/// The finished document, as text.
#[derive(Clone)]
pub(super) struct Document(pub Arc<str>);

/// What belongs to no single route.
#[derive(OpenApi)]
#[openapi(components(schemas(Problem)))]
struct Shared;

pub(super) fn base() -> utoipa::openapi::OpenApi {
    let info = Info::builder()
        .title("Rollcall")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Who is connected, who was, and what may connect. Errors are RFC 9457 problem JSON."))
        .build();
    let mut components = Shared::openapi().components.unwrap_or_else(Components::new);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Adds what holds for every route that the token guards.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        if OPEN.contains(&path.as_str()) {
            continue;
        }
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
            let refusal = RefOr::T(problem_response("The token is missing or wrong"));
            operation.responses.responses.entry("401".to_owned()).or_insert(refusal);
        }
    }
}

fn problem_response(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(CONTENT_TYPE, content).build()
}

/// This document.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub(super) async fn document(Extension(Document(text)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string())
}
