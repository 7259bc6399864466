//! `rollcall ctl`: asks and commands a running node over its HTTP.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::{Agent, Body, http::Response};

mod members;
mod table;

pub(crate) use table::Table;

#[derive(Debug, Args)]
pub struct Options {
    /// Any node of the cluster
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "ROLLCALL_URL", global = true)]
    url: String,
    /// The node's `http.token`
    #[arg(long, env = "ROLLCALL_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// JSON for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The cluster: its leader, its groups, how many are connected
    Status,
    /// The nodes and their states
    Nodes,
    /// Sessions, online and offline
    Sessions {
        /// Only client ids that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// Only those connected to this node
        #[arg(long)]
        node: Option<String>,
        /// Only those connected (or, with `false`, only those not)
        #[arg(long)]
        online: Option<bool>,
    },
    /// One session with its subscriptions
    Session { client_id: String },
    /// Close a client's connection
    Kick {
        client_id: String,
        /// End its session too
        #[arg(long)]
        purge: bool,
    },
    /// Stop a node gracefully: its clients are sent to the others, then its process ends
    Drain {
        node: String,
        /// Return as soon as it is asked
        #[arg(long)]
        no_wait: bool,
    },
    /// Send clients from the nodes that have the most to the others, until all are within 5 % of the mean
    Rebalance {
        /// Return as soon as the first have been told
        #[arg(long)]
        no_wait: bool,
    },
    /// The membership of a node
    Node {
        #[command(subcommand)]
        what: Membership,
    },
    /// Lifecycle events, one JSON object a line
    Events {
        /// Those behind this position; without it, from the oldest kept
        #[arg(long)]
        after: Option<u64>,
        /// Go on with new ones as they happen
        #[arg(long)]
        follow: bool,
    },
    /// The limits of the cluster
    Limits,
    /// Have this node read its configuration anew: what may change while it runs does
    Reload,
}

#[derive(Debug, Subcommand)]
enum Membership {
    /// Have a node leave the cluster for good: what it holds moves to the others first
    Remove {
        name: String,
        /// Return as soon as it is leaving
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer from {url}: {cause}; is the node running, and is this its http.bind (--url)?")]
    Unreachable { url: String, cause: Box<ureq::Error> },
    #[error("{status}: {detail}")]
    Refused { status: u16, detail: String },
    #[error("{url} does not answer as a Rollcall node does: {cause}")]
    NotOurs { url: String, cause: String },
    #[error(
        "{0} clients are where they were: they do not go where they are sent, or their load balancer sends them back"
    )]
    NoProgress(u64),
    #[error("the event stream broke off: {0}; go on with --after and the last seq seen")]
    BrokenOff(std::io::Error),
}

/// A node sends a comment on a quiet stream more often than this.
const SILENCE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(30);
const PAGE: usize = 1_000;

/// Does what the command line says.
///
/// # Errors
/// When the node cannot be reached or refuses.
pub fn run(options: Options) -> Result<(), Error> {
    let node = Node::new(&options);
    match &options.what {
        What::Status => node.show("cluster", |cluster| {
            print_fields(cluster);
            print_items(&cluster["groups"], &["group", "leader", "term", "applied", "state_hash"]);
        }),
        What::Nodes => {
            let columns = ["name", "state", "leaving", "connections", "mqtt_address", "http_address", "version"];
            node.pages("nodes", "", &columns)
        }
        What::Sessions { prefix, node: on, online } => {
            let mut query = String::new();
            for (name, value) in
                [("prefix", prefix.clone()), ("node", on.clone()), ("online", online.map(|o| o.to_string()))]
            {
                if let Some(value) = value {
                    query.push_str(&format!("&{name}={}", encoded(&value)));
                }
            }
            node.pages("sessions", &query, &["clientid", "online", "node", "epoch", "username", "peername"])
        }
        What::Session { client_id } => node.show(&format!("sessions/{}", encoded(client_id)), |session| {
            print_fields(session);
            print_items(&session["subscriptions"], &["filter", "qos"]);
        }),
        What::Kick { client_id, purge } => node.kick(client_id, *purge),
        What::Events { after, follow: false } => node.events(*after),
        What::Events { after, follow: true } => node.follow(*after),
        What::Limits => node.show("limits", print_fields),
        What::Reload => node.reload(),
        What::Rebalance { no_wait } => node.rebalance(!no_wait),
        What::Drain { node: name, no_wait } => node.drain(name, !no_wait),
        What::Node { what: Membership::Remove { name, no_wait } } => node.remove(name, !no_wait),
    }
}

struct Node<'a> {
    agent: Agent,
    options: &'a Options,
    url: String,
}

impl<'a> Node<'a> {
    fn new(options: &'a Options) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .build()
            .new_agent();
        Self { agent, options, url: options.url.clone() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url.trim_end_matches('/'))
    }

    fn send(&self, method: &str, path: &str, accept: &str) -> Result<Response<Body>, Error> {
        let url = self.url(path);
        let token = self.options.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers = [("accept", Some(accept.to_owned())), ("authorization", token)];
        let headers = headers.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let answer = match method {
            "POST" => {
                headers.fold(self.agent.post(&url), |request, (name, value)| request.header(name, value)).send_empty()
            }
            "DELETE" => {
                headers.fold(self.agent.delete(&url), |request, (name, value)| request.header(name, value)).call()
            }
            _ => headers.fold(self.agent.get(&url), |request, (name, value)| request.header(name, value)).call(),
        };
        let mut answer = answer.map_err(|cause| Error::Unreachable { url, cause: Box::new(cause) })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or(&text).to_owned();
        Err(Error::Refused { status, detail })
    }

    fn get(&self, path: &str) -> Result<Value, Error> {
        self.ask("GET", path)
    }

    /// What it answers.
    fn ask(&self, method: &str, path: &str) -> Result<Value, Error> {
        let not_ours = |cause: String| Error::NotOurs { url: self.url(path), cause };
        let text = self.send(method, path, "application/json")?.into_body().read_to_string();
        let text = text.map_err(|cause| not_ours(cause.to_string()))?;
        serde_json::from_str(&text).map_err(|cause| not_ours(cause.to_string()))
    }

    fn show(&self, path: &str, print: impl FnOnce(&Value)) -> Result<(), Error> {
        self.print(&self.get(path)?, print);
        Ok(())
    }

    fn print(&self, value: &Value, for_people: impl FnOnce(&Value)) {
        if self.options.json {
            println!("{value}");
        } else {
            for_people(value);
        }
    }

    /// A whole list, page by page; as JSON one item a line.
    fn pages(&self, list: &str, query: &str, columns: &[&str]) -> Result<(), Error> {
        let mut table = Table::new(columns);
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{list}?limit={PAGE}{query}{cursor}"))?;
            for item in page["items"].as_array().into_iter().flatten() {
                if self.options.json {
                    println!("{item}");
                } else {
                    table.add(item);
                }
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={}", encoded(next));
        }
        if !self.options.json {
            print!("{table}");
        }
        Ok(())
    }

    fn kick(&self, client_id: &str, purge: bool) -> Result<(), Error> {
        let purge = if purge { "?purge=true" } else { "" };
        self.send("DELETE", &format!("sessions/{}{purge}", encoded(client_id)), "application/json")?;
        if !self.options.json {
            println!("kicked {client_id}");
        }
        Ok(())
    }

    fn reload(&self) -> Result<(), Error> {
        self.print(&self.ask("POST", "reload")?, print_changes);
        Ok(())
    }

    fn events(&self, after: Option<u64>) -> Result<(), Error> {
        let mut after = after;
        loop {
            let place = after.map(|seq| format!("&after={seq}")).unwrap_or_default();
            let page = self.get(&format!("events?limit={PAGE}{place}"))?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let Some(last) = items.last() else { return Ok(()) };
            after = last["seq"].as_u64();
            items.iter().for_each(|item| println!("{item}"));
        }
    }

    fn follow(&self, after: Option<u64>) -> Result<(), Error> {
        let place = after.map(|seq| format!("?after={seq}")).unwrap_or_default();
        let answer = self.send("GET", &format!("events{place}"), "text/event-stream")?;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.map_err(Error::BrokenOff)?;
            if let Some(data) = line.strip_prefix("data:") {
                println!("{}", data.trim_start());
            }
        }
        Err(Error::BrokenOff(std::io::ErrorKind::UnexpectedEof.into()))
    }
}

fn print_fields(value: &Value) {
    for (name, field) in value.as_object().into_iter().flatten() {
        if !field.is_array() {
            println!("{name}: {}", table::cell(field));
        }
    }
}

/// What came of a reload.
fn print_changes(changes: &Value) {
    let told = [
        ("applied", "in force"),
        ("needs_restart", "with the next start"),
        ("only_seeds", "not at all: change it over HTTP (PUT limits)"),
    ];
    let mut none = true;
    for (list, when) in told {
        for key in changes[list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("{key}: {when}");
            none = false;
        }
    }
    if none {
        println!("nothing has changed");
    }
}

fn print_items(items: &Value, columns: &[&str]) {
    let mut table = Table::new(columns);
    items.as_array().into_iter().flatten().for_each(|item| table.add(item));
    print!("\n{table}");
}

/// As one segment of a path or one value of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
