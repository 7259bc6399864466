use axum::{body::Body, http::StatusCode};
use futures_util::StreamExt;
use rollcall_cluster::Claimed;
use rollcall_proto::schema::roster::{Claim, Subscription, SubscriptionOptions};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    config::{Effective, Sources},
    node::Node,
};

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn assert_problem(&self, status: StatusCode) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let body = self.json();
        assert!(body["type"].as_str().is_some_and(|kind| kind.starts_with("urn:rollcall:problem:")), "{body}");
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert_eq!(body["status"], status.as_u16());
        assert!(!body["detail"].as_str().unwrap().is_empty());
    }
}

fn config(set: &[&str]) -> Config {
    let set = set.iter().map(ToString::to_string).collect();
    Effective::load(&Sources { set, ..Sources::default() }).unwrap().config
}

/// HTTP of a node that has not opened its disk yet.
fn starting(set: &[&str]) -> AdminState {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    AdminState::new(&config(set), recorder.handle())
}

/// HTTP of a cluster of one, ready.
struct Serving {
    state: AdminState,
    cluster: Cluster,
    _node: Node,
    _dir: tempfile::TempDir,
}

async fn serving() -> Serving {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("node.data_dir={}", dir.path().join("data").display());
    let binds = ["listeners.tcp.bind=127.0.0.1:0", "http.bind=127.0.0.1:0", "cluster.rpc_bind=127.0.0.1:0"];
    let set = [&binds[..], &[&data, "http.max_followers=1"]].concat();
    let node = Node::start(&config(&set)).await.unwrap();
    let (state, cluster) = (starting(&set), node.cluster.clone());
    state.attach(cluster.clone());
    tokio::time::timeout(Duration::from_secs(20), async {
        while cluster.readiness().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    Serving { state, cluster, _node: node, _dir: dir }
}

impl Serving {
    async fn get(&self, path: &str) -> Answer {
        ask_of(self.state.clone(), "GET", path, None).await
    }

    /// A persistent session with one subscription.
    async fn connect(&self, client_id: &str) -> u64 {
        let claim = Claim {
            client_id: client_id.into(),
            connection: 1_000_000,
            protocol_level: 5,
            session_expiry: 3_600,
            ..Claim::default()
        };
        let Claimed::Granted { epoch, .. } = self.cluster.claim(claim).await.unwrap() else { panic!("refused") };
        let subscription = Subscription {
            filter: "told/+".into(),
            options: Some(SubscriptionOptions { qos: 1, ..SubscriptionOptions::default() }),
        };
        self.cluster.subscribe(client_id, epoch, vec![subscription], 10).await.unwrap();
        epoch
    }
}

async fn send(state: AdminState, request: axum::http::Request<Body>) -> Answer {
    let answer = router(state).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn ask_of(state: AdminState, method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut request = axum::http::Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    send(state, request.body(Body::empty()).unwrap()).await
}

async fn ask(method: &str, path: &str) -> Answer {
    ask_of(starting(&[]), method, path, None).await
}

#[tokio::test]
async fn an_unknown_route_is_a_problem() {
    ask("GET", "/nowhere").await.assert_problem(StatusCode::NOT_FOUND);
    ask("GET", "/api/v1/nowhere").await.assert_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_tells_the_right_ones() {
    for (method, path) in [("DELETE", "/healthz"), ("POST", "/api/v1/sessions"), ("DELETE", "/api/v1/limits")] {
        let answer = ask(method, path).await;
        answer.assert_problem(StatusCode::METHOD_NOT_ALLOWED);
        assert!(answer.headers["allow"].to_str().unwrap().contains("GET"), "{:?}", answer.headers);
    }
}

#[tokio::test]
async fn a_node_that_is_starting_is_alive_but_answers_nothing_else() {
    assert_eq!(ask("GET", "/healthz").await.status, StatusCode::OK);
    assert_eq!(ask("GET", "/metrics").await.status, StatusCode::OK);
    for path in ["/readyz", "/api/v1/cluster", "/api/v1/nodes", "/api/v1/sessions", "/api/v1/events", "/api/v1/limits"]
    {
        ask("GET", path).await.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn with_a_token_only_the_probes_are_open() {
    let guarded = || starting(&["http.token=s3cret"]);
    for wrong in [None, Some("Bearer wrong"), Some("s3cret"), Some("Basic s3cret"), Some("Bearer s3cret2")] {
        for path in ["/metrics", "/api/v1/openapi.json", "/api/v1/nowhere"] {
            ask_of(guarded(), "GET", path, wrong).await.assert_problem(StatusCode::UNAUTHORIZED);
        }
    }
    assert_eq!(ask_of(guarded(), "GET", "/healthz", None).await.status, StatusCode::OK);
    ask_of(guarded(), "GET", "/readyz", None).await.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    for right in ["Bearer s3cret", "bearer s3cret"] {
        assert_eq!(ask_of(guarded(), "GET", "/metrics", Some(right)).await.status, StatusCode::OK);
    }
}

/// What programs rely on.
const ROUTES: [(&str, &[&str]); 10] = [
    ("/healthz", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
    ("/api/v1/openapi.json", &["get"]),
    ("/api/v1/cluster", &["get"]),
    ("/api/v1/nodes", &["get"]),
    ("/api/v1/limits", &["get", "put"]),
    ("/api/v1/sessions", &["get"]),
    ("/api/v1/sessions/{clientid}", &["delete", "get"]),
    ("/api/v1/events", &["get"]),
];

#[tokio::test]
async fn the_document_tells_every_route_and_its_errors() {
    let document = ask("GET", "/api/v1/openapi.json").await.json();
    for (path, methods) in ROUTES {
        for method in methods {
            assert!(document["paths"][path][method].is_object(), "{method} {path}: {document}");
        }
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let problem = &response["content"]["application/problem+json"];
                assert!(status.starts_with('2') || problem.is_object(), "{method} {path} {status}: {response}");
            }
            let guarded = operation["responses"]["401"].is_object();
            assert_eq!(guarded, !["/healthz", "/readyz"].contains(&path.as_str()), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_are_problems() {
    let serving = serving().await;
    for path in [
        "/api/v1/events?after=minus-one",
        "/api/v1/events?limit=0",
        "/api/v1/events?limit=10001",
        "/api/v1/events?aftr=1",
        "/api/v1/sessions?limit=many",
        "/api/v1/sessions?cursor=%00nonsense",
        "/api/v1/sessions?online=perhaps",
        "/api/v1/sessions?node=nowhere",
        "/api/v1/sessions/%ff",
        "/api/v1/cluster?hash=2",
    ] {
        serving.get(path).await.assert_problem(StatusCode::BAD_REQUEST);
    }
    serving.get("/api/v1/sessions/nobody").await.assert_problem(StatusCode::NOT_FOUND);
    let answer = ask_of(serving.state.clone(), "DELETE", "/api/v1/sessions/nobody", None).await;
    answer.assert_problem(StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_replaced_as_a_whole_and_nonsense_changes_nothing() {
    let serving = serving().await;
    let put = async |body: &str| {
        let request = axum::http::Request::put("/api/v1/limits").header("content-type", "application/json");
        send(serving.state.clone(), request.body(Body::from(body.to_owned())).unwrap()).await
    };
    let answer = put(r#"{"max_connections": 7, "max_connections_per_node": 5}"#).await;
    assert_eq!(answer.status, StatusCode::OK);
    for (body, status) in [
        (r#"{"max_connections": -1}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"max_conections": 5}"#, StatusCode::UNPROCESSABLE_ENTITY),
        ("[]", StatusCode::UNPROCESSABLE_ENTITY),
        ("{", StatusCode::BAD_REQUEST),
    ] {
        put(body).await.assert_problem(status);
    }
    let told = serving.get("/api/v1/limits").await.json();
    assert_eq!(told, json!({"max_connections": 7, "max_connections_per_node": 5}));
    put(r#"{"max_connections": 9}"#).await;
    let told = serving.get("/api/v1/limits").await.json();
    assert_eq!(told, json!({"max_connections": 9, "max_connections_per_node": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_listed_told_kicked_and_purged() {
    let serving = serving().await;
    let epoch = serving.connect("a/strange id?").await;
    let list = serving.get("/api/v1/sessions?prefix=a/&online=true&node=node-0").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["items"][0]["clientid"], "a/strange id?");
    assert_eq!(list["next"], Value::Null);
    assert_eq!(list["seq"], 2, "true behind the connected and the subscribed");
    let path = "/api/v1/sessions/a%2Fstrange%20id%3F";
    let told = serving.get(path).await.json();
    assert_eq!((&told["epoch"], &told["online"], &told["node"]), (&json!(epoch), &json!(true), &json!("node-0")));
    assert_eq!(told["subscriptions"][0]["filter"], "told/+");
    let kick = ask_of(serving.state.clone(), "DELETE", path, None).await;
    assert_eq!(kick.status, StatusCode::NO_CONTENT);
    assert_eq!(serving.get(path).await.json()["online"], false);
    let purge = ask_of(serving.state.clone(), "DELETE", &format!("{path}?purge=true"), None).await;
    assert_eq!(purge.status, StatusCode::NO_CONTENT);
    serving.get(path).await.assert_problem(StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_sessions_go_on_at_the_cursor() {
    let serving = serving().await;
    for index in 0..5 {
        serving.connect(&format!("paged-{index}")).await;
    }
    let (mut ids, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = serving.get(&format!("/api/v1/sessions{query}")).await.json();
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["clientid"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    ids.sort();
    assert_eq!(ids, (0..5).map(|index| format!("paged-{index}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_in_pages() {
    let serving = serving().await;
    serving.connect("one").await;
    serving.connect("two").await;
    let page = serving.get("/api/v1/events?limit=3").await.json();
    let events: Vec<_> = page["items"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert_eq!(events, ["client.connected", "client.subscribed", "client.connected"]);
    assert_eq!((&page["next"], &page["seq"]), (&json!("3"), &json!(4)));
    let rest = serving.get("/api/v1/events?after=3").await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["next"], Value::Null);
}

fn stream_from(last_id: &str) -> axum::http::Request<Body> {
    let request = axum::http::Request::get("/api/v1/events?after=0").header("accept", "text/event-stream");
    request.header("last-event-id", last_id).body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_from_the_last_one_seen_and_followers_are_bounded() {
    let serving = serving().await;
    serving.connect("before").await;
    let answer = router(serving.state.clone()).oneshot(stream_from("1")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut pieces = answer.into_body().into_data_stream();
    let mut text = String::new();
    serving.connect("while followed").await;
    while !text.contains("id: 4") {
        text.push_str(std::str::from_utf8(&pieces.next().await.unwrap().unwrap()).unwrap());
    }
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["2", "3", "4"], "{text}");
    assert!(text.contains("data: {\"clientid\":\"while followed\","), "{text}");

    let second = send(serving.state.clone(), stream_from("1")).await;
    second.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    drop(pieces);
    let third = router(serving.state.clone()).oneshot(stream_from("1")).await.unwrap();
    assert_eq!(third.status(), StatusCode::OK, "a follower that left makes room");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_and_its_nodes_are_told() {
    let serving = serving().await;
    let told = serving.get("/api/v1/cluster").await.json();
    let group = &told["groups"][0];
    assert_eq!((&group["group"], &group["leader"]), (&json!("roster"), &json!("node-0")), "{told}");
    assert_eq!(group["state_hash"].as_str().map(str::len), Some(16), "{told}");
    let before = group["state_hash"].clone();
    serving.connect("one").await;
    let after = serving.get("/api/v1/cluster").await.json()["groups"][0]["state_hash"].clone();
    assert_ne!(before, after, "another state has another hash");
    let nodes = serving.get("/api/v1/nodes").await.json();
    assert_eq!((&nodes["items"][0]["name"], &nodes["items"][0]["state"]), (&json!("node-0"), &json!("up")), "{nodes}");
    assert_eq!(serving.get("/readyz").await.status, StatusCode::OK);
    assert!(String::from_utf8(serving.get("/metrics").await.body).is_ok());
}
