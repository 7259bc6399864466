//! The nodes: their states, draining one, removing one.

use axum::{Json, extract::State, http::StatusCode};
use rollcall_cluster::Cluster;
use rollcall_cluster::balance::Move;
use rollcall_cluster::roster::{NodeId, Roster};
use rollcall_proto::schema::roster::{Node, NodeState};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AdminState, cluster::name_of, extract::PathOf, problem::Problem};

#[derive(Debug, Serialize, ToSchema)]
pub struct NodeList {
    items: Vec<NodeView>,
    /// Always null: all nodes are on one page.
    next: Option<String>,
    seq: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct NodeView {
    name: String,
    /// Random, from the node's disk; hexadecimal.
    id: String,
    /// `up`, `draining`, `stopped` or `down`.
    state: &'static str,
    /// When it entered the state, in milliseconds since 1970.
    since: u64,
    /// Rises with every start.
    epoch: u64,
    connections: u64,
    /// It is on its way out of the cluster.
    leaving: bool,
    mqtt_address: String,
    rpc_address: String,
    http_address: String,
    version: String,
}

impl From<&Node> for NodeView {
    fn from(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            id: format!("{:016x}", node.id),
            state: state_name(node.state()),
            since: node.since,
            epoch: node.epoch,
            connections: node.connections,
            leaving: node.leaving,
            mqtt_address: node.mqtt_address.clone(),
            rpc_address: node.rpc_address.clone(),
            http_address: node.http_address.clone(),
            version: node.version.clone(),
        }
    }
}

fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Stopped => "stopped",
        NodeState::Down | NodeState::Unspecified => "down",
    }
}

/// The nodes and their states.
#[utoipa::path(
    get, path = "/api/v1/nodes", tag = "cluster",
    responses(
        (status = 200, description = "The nodes", body = NodeList),
        (status = 503, description = "Starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn nodes(State(state): State<AdminState>) -> Result<Json<NodeList>, Problem> {
    let roster = state.cluster()?.roster();
    let mut items: Vec<NodeView> = roster.nodes().map(NodeView::from).collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(NodeList { items, next: None, seq: roster.seq() }))
}

/// Asks a node to stop gracefully, as SIGTERM does: no new connections, its clients sent elsewhere at `drain.rate`, then the
/// end of its process. It stays a member of the cluster. Look at `state` and `connections` for how far it is.
#[utoipa::path(
    post, path = "/api/v1/nodes/{name}/drain", tag = "cluster", params(("name" = String, Path, description = "The node")),
    responses(
        (status = 202, description = "It is asked", body = NodeView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not up", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "It cannot be asked", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn drain(
    State(state): State<AdminState>,
    PathOf(name): PathOf<String>,
) -> Result<(StatusCode, Json<NodeView>), Problem> {
    let cluster = state.cluster()?;
    let id = id_of(&cluster.roster(), &name)?;
    cluster.drain(id).await?;
    tracing::info!(node = name, "a node is asked over HTTP to drain");
    Ok((StatusCode::ACCEPTED, view(cluster, id, &name)?))
}

/// Has a node leave the cluster for good: its replicas move to others, it drains if it is up, then it is a member no more,
/// and its disk is worthless. Refused where what is left would have no majority. The node is gone when it is no longer
/// listed.
#[utoipa::path(
    delete, path = "/api/v1/nodes/{name}", tag = "cluster", params(("name" = String, Path, description = "The node")),
    responses(
        (status = 202, description = "It is leaving", body = NodeView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not now", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No decision", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(state): State<AdminState>,
    PathOf(name): PathOf<String>,
) -> Result<(StatusCode, Json<NodeView>), Problem> {
    let cluster = state.cluster()?;
    let id = id_of(&cluster.roster(), &name)?;
    cluster.remove(id).await?;
    tracing::info!(node = name, "a node is removed over HTTP");
    Ok((StatusCode::ACCEPTED, view(cluster, id, &name)?))
}

/// So many clients are sent from one node to another.
#[derive(Debug, Serialize, ToSchema)]
pub struct MoveView {
    from: String,
    to: String,
    count: u64,
}

/// What is under way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rebalancing {
    moves: Vec<MoveView>,
}

/// Has nodes that hold more than 5 % above the mean send their surplus to the others, at `drain.rate`: clients of MQTT 5.0 are
/// told where to go (Server Reference), others are closed and go where their load balancer sends them. No moves: nothing is
/// to be done.
#[utoipa::path(
    post, path = "/api/v1/rebalance", tag = "cluster",
    responses(
        (status = 202, description = "It is under way", body = Rebalancing),
        (status = 503, description = "A node cannot be asked", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rebalance(State(state): State<AdminState>) -> Result<(StatusCode, Json<Rebalancing>), Problem> {
    let cluster = state.cluster()?;
    let moves = cluster.rebalance().await?;
    let roster = cluster.roster();
    let view =
        |step: &Move| MoveView { from: name_of(&roster, step.from), to: name_of(&roster, step.to), count: step.count };
    Ok((StatusCode::ACCEPTED, Json(Rebalancing { moves: moves.iter().map(view).collect() })))
}

/// # Errors
/// A [`Problem`] that lists the names there are.
fn id_of(roster: &Roster, name: &str) -> Result<NodeId, Problem> {
    roster
        .node_named(name)
        .map(|node| node.id)
        .ok_or_else(|| Problem::not_found(format!("there is no node {name}; there are {}", names(roster))))
}

/// For whoever has named another.
pub(super) fn names(roster: &Roster) -> String {
    let mut names: Vec<&str> = roster.nodes().map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

fn view(cluster: &Cluster, id: NodeId, name: &str) -> Result<Json<NodeView>, Problem> {
    let roster = cluster.roster();
    let node = roster.node(id).ok_or_else(|| Problem::not_found(format!("{name} has just been removed")))?;
    Ok(Json(NodeView::from(node)))
}
