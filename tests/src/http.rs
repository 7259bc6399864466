//! The admin HTTP of one node, as a program uses it.

use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde_json::Value;

/// How many events one request asks for.
const EVENTS_PER_PAGE: usize = 1000;

/// One node's HTTP address. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Api {
    http: Client,
    base: String,
}

impl Api {
    pub fn new(port: u16) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(10)).build().expect("an HTTP client");
        Self { http, base: format!("http://127.0.0.1:{port}") }
    }

    /// Sends one request; `path` begins with a slash.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, String> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| error.to_string())
    }

    /// The JSON that a GET of `/api/v1/{path}` answers; anything but success is an error.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.request(Method::GET, &format!("/api/v1/{path}"), None).await?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("GET {path}: {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("GET {path}: {error}: {text}"))
    }

    pub async fn ready(&self) -> Result<(), String> {
        let answer = self.request(Method::GET, "/readyz", None).await?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(answer.text().await.unwrap_or_else(|_| status.to_string())) }
    }

    /// The name of the node that leads the roster, as this node believes.
    pub async fn leader(&self) -> Result<String, String> {
        let cluster = self.get("cluster").await?;
        let roster = cluster["groups"].as_array().and_then(|groups| groups.iter().find(|g| g["group"] == "roster"));
        let leader = roster.map_or(&cluster["leader"], |group| &group["leader"]);
        leader.as_str().map(str::to_owned).ok_or_else(|| format!("no leader in {cluster}"))
    }

    /// The `seq` up to which this node has applied the log; 0 when there is no event.
    pub async fn last_seq(&self) -> Result<u64, String> {
        let page = self.get("sessions?limit=1").await?;
        page["seq"].as_u64().ok_or_else(|| format!("sessions without seq: {page}"))
    }

    /// Every event after `seq`, page by page.
    pub async fn events_after(&self, mut seq: u64) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let page =
                self.get(&format!("events?after={seq}&limit={EVENTS_PER_PAGE}")).await.expect("a page of events");
            let items = page["items"].as_array().expect("events has items").clone();
            let Some(last) = items.last() else { return all };
            seq = last["seq"].as_u64().expect("an event has seq");
            all.extend(items);
        }
    }

    /// One session as JSON, `None` when this node knows no such session.
    pub async fn session(&self, client_id: &str) -> Option<Value> {
        let path = format!("/api/v1/sessions/{}", percent_encoded(client_id));
        let answer = self.request(Method::GET, &path, None).await.expect("the session is asked for");
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return None;
        }
        Some(answer.error_for_status().expect("a session or 404").json().await.expect("a session is JSON"))
    }

    /// All sessions with this prefix, page by page.
    pub async fn sessions(&self, prefix: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("sessions?prefix={}&limit=100{cursor}", percent_encoded(prefix));
            let page = self.get(&path).await.expect("a page of sessions");
            all.extend(page["items"].as_array().expect("sessions has items").iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", percent_encoded(next)),
                None => return all,
            }
        }
    }

    /// Closes the client's connection as an operator does.
    pub async fn kick(&self, client_id: &str) -> Response {
        let path = format!("/api/v1/sessions/{}", percent_encoded(client_id));
        self.request(Method::DELETE, &path, None).await.expect("the kick is answered")
    }

    /// The base address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }
}

/// `text` as one segment of a path or one value of a query.
pub fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
