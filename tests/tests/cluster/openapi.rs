//! The OpenAPI document tells every route, and what it tells is what is answered.

use reqwest::Method;
use rollcall_tests::client::{Options, RawClient};
use rollcall_tests::cluster::TestCluster;
use serde_json::{Value, json};

/// What programs rely on; `{…}` as in the document.
const ROUTES: &[(&str, &str)] = &[
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/api/v1/openapi.json"),
    ("get", "/api/v1/cluster"),
    ("get", "/api/v1/nodes"),
    ("delete", "/api/v1/nodes/{name}"),
    ("post", "/api/v1/nodes/{name}/drain"),
    ("post", "/api/v1/rebalance"),
    ("get", "/api/v1/sessions"),
    ("get", "/api/v1/sessions/{clientid}"),
    ("delete", "/api/v1/sessions/{clientid}"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/limits"),
    ("put", "/api/v1/limits"),
];

/// Each documented operation as (method, path, operation).
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            if ["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                all.push((method.clone(), path.clone(), operation.clone()));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_in_the_document_and_answers_as_documented() {
    let cluster = TestCluster::start(1).await;
    let api = cluster.nodes[0].api();
    let _client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("documented").persistent()).await;
    let document = api.get("openapi.json").await.expect("the document");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{}", document["openapi"]);
    let operations = operations(&document);
    for (method, path) in ROUTES {
        assert!(operations.iter().any(|(m, p, _)| m == method && p == path), "{method} {path} is not documented");
    }
    for (method, path, operation) in operations {
        answers_as_documented(&cluster, &method, &path, &operation).await;
    }
}

async fn answers_as_documented(cluster: &TestCluster, method: &str, path: &str, operation: &Value) {
    // Draining the only node would end the test.
    if path.contains("drain") {
        return;
    }
    let concrete = path.replace("{clientid}", "documented").replace("{name}", "node-0");
    let body = (method == "put").then(|| json!({"max_connections": 1000}));
    let verb = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let answer = cluster.nodes[0].api().request(verb, &concrete, body.as_ref()).await.expect("an answer");
    let status = answer.status();
    let documented = &operation["responses"][status.as_str()];
    assert!(documented.is_object(), "{method} {path} answers {status}, which is not documented");
    // The only node stays.
    let refused = method == "delete" && path.contains("nodes");
    assert!(status.is_success() || refused && status == 409, "{method} {path} fails with {status}");
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap_or_default().to_owned());
    if let (Some(kind), Some(kinds)) = (kind, documented["content"].as_object()) {
        let plain = kind.split(';').next().unwrap_or_default().trim();
        let known = kinds.keys().any(|known| known.split(';').next() == Some(plain));
        assert!(known, "{method} {path} answers {kind}, documented are {:?}", kinds.keys());
    }
    if let Some(required) = required_fields(documented).filter(|_| status.is_success()) {
        let body: Value = answer.json().await.expect("a JSON answer");
        for field in required {
            assert!(body.get(&field).is_some(), "{method} {path} lacks {field}: {body}");
        }
    }
}

/// The required fields of a JSON answer whose schema stands in the document itself.
fn required_fields(response: &Value) -> Option<Vec<String>> {
    let required = response["content"]["application/json"]["schema"]["required"].as_array()?;
    Some(required.iter().filter_map(|field| field.as_str().map(str::to_owned)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_documents_its_errors_as_problem_json() {
    let cluster = TestCluster::start(1).await;
    let document = cluster.nodes[0].api().get("openapi.json").await.expect("the document");
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let is_error = status.starts_with('4') || status.starts_with('5') || status == "default";
            if is_error && path.starts_with("/api/") {
                let told = &response["content"]["application/problem+json"];
                assert!(told.is_object(), "{method} {path}: {status} is no problem JSON: {response}");
            }
        }
    }
}
