//! The admin HTTP: sessions page by page with the position they are true at, events read and followed, limits changed,
//! readiness, metrics, and errors as problem JSON.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use rollcall_proto::packet::QoS;
use rollcall_proto::reason::ReasonCode;
use rollcall_tests::client::{Options, RawClient, SOON};
use rollcall_tests::cluster::TestCluster;
use rollcall_tests::events::{number, short, text};
use rollcall_tests::http::Api;
use rollcall_tests::patience::until;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_in_pages_each_with_its_seq() {
    let cluster = TestCluster::start(3).await;
    let mut clients = Vec::new();
    for index in 0..25 {
        let options = Options::v5(format!("paged-{index:02}")).persistent();
        clients.push(RawClient::connect(cluster.nodes[index % 3].mqtt(), &options).await);
    }
    RawClient::connect(cluster.nodes[0].mqtt(), &Options::v311("other")).await.disconnect().await;
    clients.remove(0).disconnect().await;
    let head = cluster.agreed_events().await.len() as u64;
    for node in &cluster.nodes {
        let api = node.api();
        let (mut ids, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = api.get(&format!("sessions?prefix=paged-&limit=10{cursor}")).await.expect("a page");
            assert_eq!(number(&page, "seq"), head, "a quiet cluster's page is true at the last event");
            let items = page["items"].as_array().expect("items").clone();
            assert!(items.len() <= 10, "no page is longer than asked");
            ids.extend(items.iter().map(|session| text(session, "clientid").to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", rollcall_tests::http::percent_encoded(next)),
                None => break,
            }
        }
        ids.sort();
        assert_eq!(ids, (0..25).map(|index| format!("paged-{index:02}")).collect::<Vec<_>>());
        assert_eq!(pages, 3);
    }
    let api = cluster.nodes[1].api();
    let count = async |query: &str| api.get(query).await.expect("a page")["items"].as_array().map(Vec::len);
    assert_eq!(count("sessions?prefix=paged-&online=false").await, Some(1));
    assert_eq!(count("sessions?prefix=paged-&online=true").await, Some(24));
    assert_eq!(count("sessions?prefix=paged-&online=true&node=node-1").await, Some(8));
    assert_eq!(count("sessions?prefix=nobody").await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_is_told_alike_by_every_node() {
    let cluster = TestCluster::start(3).await;
    let mut client = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("a/strange id?").username("ann")).await;
    client.subscribe("told/+", QoS::AtLeastOnce).await;
    cluster.agreed_events().await;
    let mut told = Vec::new();
    for node in &cluster.nodes {
        told.push(node.api().session("a/strange id?").await.expect("every node knows the session"));
    }
    assert_eq!(text(&told[0], "clientid"), "a/strange id?");
    assert_eq!(told[0]["online"], true);
    assert!(told[0].to_string().contains("told/+"), "its subscriptions are told: {}", told[0]);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
    assert_eq!(cluster.nodes[0].api().session("nobody").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_read_from_a_place_and_followed_as_they_happen() {
    let cluster = TestCluster::start(3).await;
    RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("before")).await.disconnect().await;
    let events = cluster.agreed_events().await;
    let api = cluster.nodes[1].api();
    let page = api.get("events?after=0&limit=1").await.expect("a page");
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "no more than asked");
    let rest = api.events_after(number(&events[0], "seq")).await;
    assert_eq!(rest, events[1..]);

    let mut stream = follow(&api, 0).await;
    let mut followed = Vec::new();
    while followed.len() < events.len() {
        followed.push(stream.event().await);
    }
    assert_eq!(followed, events, "what was, comes first");
    let client = RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("while-followed")).await;
    let live = stream.event().await;
    assert_eq!((text(&live, "clientid"), short(&live).as_str()), ("while-followed", "client.connected"));
    assert_eq!(number(&live, "seq"), number(events.last().expect("two events"), "seq") + 1);
    client.disconnect().await;
}

/// An event stream, event by event.
struct Followed {
    answer: reqwest::Response,
    unread: String,
}

async fn follow(api: &Api, after: u64) -> Followed {
    let url = format!("{}/api/v1/events?after={after}", api.base());
    let request = reqwest::Client::new().get(url).header("accept", "text/event-stream");
    let answer = request.send().await.expect("the stream opens");
    assert_eq!(answer.status(), StatusCode::OK);
    let kind = answer.headers()["content-type"].to_str().expect("a content type").to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    Followed { answer, unread: String::new() }
}

impl Followed {
    async fn event(&mut self) -> Value {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let found = field("data:").map(|data| serde_json::from_str::<Value>(data).expect("an event is JSON"));
                let id = field("id:").map(str::to_owned);
                self.unread = rest.to_owned();
                // A block without data is there to keep the connection alive.
                let Some(event) = found else { continue };
                assert_eq!(id, Some(number(&event, "seq").to_string()), "the id of each is its seq");
                return event;
            }
            let chunk = tokio::time::timeout(SOON, self.answer.chunk()).await.expect("the stream goes on");
            let chunk = chunk.expect("the stream is whole").expect("the stream does not end");
            self.unread.push_str(std::str::from_utf8(&chunk).expect("events are UTF-8"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_were_dropped_by_retention_are_gone_and_not_silently_skipped() {
    let cluster = TestCluster::start_with(1, &["events.retention=1000"]).await;
    for _ in 0..1_000 {
        RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("busy")).await.disconnect().await;
    }
    let api = cluster.nodes[0].api();
    let head = until("all events are in the log", SOON, || async {
        let head = api.last_seq().await?;
        if head >= 2_000 { Ok(head) } else { Err(format!("{head} of 2000")) }
    })
    .await;
    for after in [0, head - 1_001] {
        let path = format!("/api/v1/events?after={after}&limit=10");
        let answer = api.request(Method::GET, &path, None).await.expect("an answer");
        assert_problem(answer, StatusCode::GONE).await;
    }
    assert_eq!(api.events_after(head - 1_000).await.len(), 1_000, "what is to be kept is there");
}

/// An answer of this status whose body is RFC 9457 problem JSON that names the status.
async fn assert_problem(answer: reqwest::Response, status: StatusCode) {
    assert_eq!(answer.status(), status);
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap_or_default().to_owned());
    assert_eq!(kind.as_deref(), Some("application/problem+json"));
    let body: Value = answer.json().await.expect("a problem is JSON");
    assert!(!text(&body, "title").is_empty(), "a problem has a title: {body}");
    assert_eq!(body["status"], status.as_u16(), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_is_problem_json() {
    let cluster = TestCluster::start(1).await;
    let api = cluster.nodes[0].api();
    for (method, path, status) in [
        (Method::GET, "/api/v1/nothing-here", StatusCode::NOT_FOUND),
        (Method::GET, "/api/v1/sessions/nobody", StatusCode::NOT_FOUND),
        (Method::DELETE, "/api/v1/sessions/nobody", StatusCode::NOT_FOUND),
        (Method::POST, "/api/v1/sessions", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/api/v1/limits", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/api/v1/events?after=minus-one", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/events?limit=0", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/sessions?limit=many", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/sessions?cursor=%00nonsense", StatusCode::BAD_REQUEST),
        (Method::GET, "/api/v1/sessions?online=perhaps", StatusCode::BAD_REQUEST),
    ] {
        let answer = api.request(method.clone(), path, None).await.expect("an answer");
        println!("{method} {path}");
        assert_problem(answer, status).await;
    }
    for body in
        [json!({"max_connections": -1}), json!({"max_conections": 5}), json!([]), json!({"max_connections": "x"})]
    {
        let answer = api.request(Method::PUT, "/api/v1/limits", Some(&body)).await.expect("an answer");
        let status = answer.status();
        assert!(status == StatusCode::BAD_REQUEST || status == StatusCode::UNPROCESSABLE_ENTITY, "{body}: {status}");
        assert_problem(answer, status).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_set_on_one_node_holds_on_all_at_once() {
    let cluster = TestCluster::start(3).await;
    let api = cluster.nodes[0].api();
    let first = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("first")).await;
    let limits = json!({"max_connections": 1});
    let answer = api.request(Method::PUT, "/api/v1/limits", Some(&limits)).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    let (_, ack) = RawClient::try_connect(cluster.nodes[1].mqtt(), &Options::v5("second")).await.expect("a CONNACK");
    assert_eq!(ack.reason, ReasonCode::QuotaExceeded);
    for node in &cluster.nodes {
        let told = node.api().get("limits").await.expect("the limits");
        assert_eq!(told["max_connections"], 1, "{told}");
    }
    let lifted = json!({"max_connections": null});
    let answer = api.request(Method::PUT, "/api/v1/limits", Some(&lifted)).await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    RawClient::connect(cluster.nodes[2].mqtt(), &Options::v5("third")).await.disconnect().await;
    first.disconnect().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_nodes_and_metrics_are_told() {
    let mut cluster = TestCluster::start(3).await;
    let api = cluster.nodes[0].api();
    let _client = RawClient::connect(cluster.nodes[0].mqtt(), &Options::v5("counted")).await;
    let healthy = api.request(Method::GET, "/healthz", None).await.expect("an answer");
    assert!(healthy.status().is_success());
    let nodes = api.get("nodes").await.expect("the nodes");
    let mut names: Vec<&str> = nodes["items"].as_array().expect("items").iter().map(|n| text(n, "name")).collect();
    names.sort_unstable();
    assert_eq!(names, ["node-0", "node-1", "node-2"], "{nodes}");
    let metrics = api.request(Method::GET, "/metrics", None).await.expect("an answer").text().await.expect("text");
    let samples = metrics.lines().filter(|line| line.starts_with("rollcall_")).count();
    assert!(samples > 5, "Prometheus samples of our own:\n{metrics}");
    assert!(!metrics.contains("counted"), "a client id is never a label");

    // Two of three are gone: the third is alive, but may not serve once its lease has run out.
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    until("the node without a quorum says it is not ready", Duration::from_secs(15), || async {
        let status = api.request(Method::GET, "/readyz", None).await?.status();
        if status == StatusCode::SERVICE_UNAVAILABLE { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert!(api.request(Method::GET, "/healthz", None).await.expect("an answer").status().is_success());
}
