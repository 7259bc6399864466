//! The cluster as this node sees it, and its limits.

use std::io;

use axum::{Json, extract::State};
use rollcall_cluster::roster::{NodeId, Roster};
use rollcall_cluster::{Cluster, GroupStatus};
use rollcall_proto::schema::roster::Limits;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    AdminState,
    extract::{BodyOf, QueryOf},
    problem::Problem,
};

#[derive(Debug, Serialize, ToSchema)]
pub struct ClusterView {
    name: String,
    /// Random, from the cluster's formation; hexadecimal. Empty before it.
    cluster_id: String,
    /// The node that answers.
    node: String,
    /// `seq` of the last event.
    seq: u64,
    /// The time of the last change, in milliseconds since 1970.
    time: u64,
    /// The feature level: it rises by itself when every node's version knows the next one.
    level: u32,
    /// Online and offline.
    sessions: usize,
    /// As the limit counts them.
    connections: u64,
    groups: Vec<GroupView>,
}

/// One Raft group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupView {
    /// `roster`, or `shard-` and its number.
    group: String,
    /// Whether the node that answers holds a replica; of the other groups it knows the members alone.
    held: bool,
    /// The leader's name, if this node knows one.
    leader: Option<String>,
    term: u64,
    /// Of the last entry in this node's log.
    last_index: u64,
    /// Of the last entry this node has applied.
    applied: u64,
    voters: Vec<String>,
    /// Members that do not vote (yet).
    learners: Vec<String>,
    /// Of the state at `applied`, hexadecimal: nodes that have applied the same have the same. Left out (null) where there are
    /// more than 100,000 sessions and it is not asked for, and where there is no replica.
    state_hash: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClusterQuery {
    /// Whether to hash the state however large it is.
    #[serde(default)]
    hash: bool,
}

/// Sessions that are hashed without being asked for: a few milliseconds.
const HASHED_UNASKED: usize = 100_000;

/// Leader, terms, positions.
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "cluster", params(ClusterQuery),
    responses(
        (status = 200, description = "The cluster", body = ClusterView),
        (status = 400, description = "Bad query", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cluster(
    State(state): State<AdminState>,
    QueryOf(query): QueryOf<ClusterQuery>,
) -> Result<Json<ClusterView>, Problem> {
    let cluster = state.cluster()?;
    // A copy shares all pages with the original: entries wait for the copying alone.
    let roster = cluster.roster().clone();
    let config = cluster.config();
    let hashed = query.hash || roster.session_count() <= HASHED_UNASKED;
    let mut groups = Vec::new();
    for status in cluster.groups() {
        let state = if hashed { hash(cluster, status.number).await? } else { None };
        groups.push(view_of(&roster, &status, state));
    }
    Ok(Json(ClusterView {
        name: config.cluster_name.clone(),
        cluster_id: if roster.cluster_id() == 0 { String::new() } else { format!("{:016x}", roster.cluster_id()) },
        node: config.node_name.clone(),
        seq: roster.seq(),
        time: roster.time(),
        level: roster.level(),
        sessions: roster.session_count(),
        connections: roster.connections(),
        groups,
    }))
}

/// `state` is an index with the hash of the state at it.
fn view_of(roster: &Roster, status: &GroupStatus, state: Option<(u64, String)>) -> GroupView {
    let names = |ids: &[NodeId]| ids.iter().map(|id| name_of(roster, *id)).collect();
    GroupView {
        group: status.name(),
        held: status.held,
        leader: status.leader.map(|id| name_of(roster, id)),
        term: status.term,
        last_index: status.last_index,
        applied: state.as_ref().map_or(status.applied_index, |(index, _)| *index),
        voters: names(&status.voters),
        learners: names(&status.learners),
        state_hash: state.map(|(_, hash)| hash),
    }
}

async fn hash(cluster: &Cluster, group: u32) -> Result<Option<(u64, String)>, Problem> {
    let cluster = cluster.clone();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hash = Fnv::default();
        let written = cluster.outline(group, &mut hash);
        written.map(|written| written.map(|index| (index, format!("{:016x}", hash.0)))).transpose()
    });
    match hashed.await {
        Ok(Ok(hash)) => Ok(hash),
        Ok(Err(cause)) => Err(Problem::internal(format!("the state cannot be hashed: {cause}"))),
        Err(cause) => Err(Problem::internal(format!("the state cannot be hashed: {cause}"))),
    }
}

/// FNV-1a of 64 bits: it tells states apart that differ by a fault, not by an attacker.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A member that has never been up has no name yet.
pub(super) fn name_of(roster: &Roster, id: NodeId) -> String {
    roster.node(id).map_or_else(|| format!("{id:x}"), |node| node.name.clone())
}

/// Limits of the whole cluster; null is no limit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    /// Connections of the whole cluster.
    #[serde(default)]
    max_connections: Option<u64>,
    /// Connections of each node.
    #[serde(default)]
    max_connections_per_node: Option<u64>,
}

/// The limits in force.
#[utoipa::path(
    get, path = "/api/v1/limits", tag = "cluster",
    responses(
        (status = 200, description = "The limits", body = LimitsBody),
        (status = 503, description = "Starting", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn limits(State(state): State<AdminState>) -> Result<Json<LimitsBody>, Problem> {
    let Limits { max_connections, max_connections_per_node } = state.cluster()?.roster().limits();
    Ok(Json(LimitsBody { max_connections, max_connections_per_node }))
}

/// Replaces the limits; what the body leaves out has no limit then. Connections above a lowered limit stay.
#[utoipa::path(
    put, path = "/api/v1/limits", tag = "cluster", request_body = LimitsBody,
    responses(
        (status = 200, description = "The limits now in force", body = LimitsBody),
        (status = 400, description = "No JSON", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not sent as JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Not these limits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No decision", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn set_limits(
    State(state): State<AdminState>,
    BodyOf(body): BodyOf<LimitsBody>,
) -> Result<Json<LimitsBody>, Problem> {
    let LimitsBody { max_connections, max_connections_per_node } = body;
    state.cluster()?.set_limits(Limits { max_connections, max_connections_per_node }).await?;
    tracing::info!(?max_connections, ?max_connections_per_node, "limits were changed over HTTP");
    Ok(Json(body))
}
