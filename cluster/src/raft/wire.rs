//! Raft's values as the schema has them, and back. The same form goes over the wire and to disk.

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, Membership};
use rollcall_proto::schema::node as wire;

use super::{Entry, LogId, Member, SnapshotMeta, Stamped, StoredMembership, TypeConfig, Vote};

type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a message between nodes lacks its {0}: the other side runs an incompatible version")]
    Missing(&'static str),
    #[error("a membership that cannot be: {0}")]
    Membership(String),
}

pub(crate) fn from_log_id(id: &LogId) -> wire::LogId {
    wire::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn to_log_id(id: &wire::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node }.to_committed(), index: id.index }
}

pub(crate) fn from_vote(vote: &Vote) -> wire::Vote {
    wire::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn to_vote(vote: Option<wire::Vote>) -> Result<Vote, WireError> {
    let vote = vote.ok_or(WireError::Missing("vote"))?;
    Ok(Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed })
}

pub(crate) fn from_entry(entry: &Entry) -> wire::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(stamped) => {
            Some(wire::entry::Payload::Command(wire::Command { time: stamped.time, batch: stamped.batch.clone() }))
        }
        EntryPayload::Membership(membership) => Some(wire::entry::Payload::Membership(from_membership(membership))),
    };
    wire::Entry { log_id: Some(from_log_id(&entry.log_id)), payload }
}

pub(crate) fn to_entry(entry: wire::Entry) -> Result<Entry, WireError> {
    let log_id = to_log_id(&entry.log_id.ok_or(WireError::Missing("log id"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(wire::entry::Payload::Command(command)) => {
            EntryPayload::Normal(Stamped { time: command.time, batch: command.batch })
        }
        Some(wire::entry::Payload::Membership(membership)) => EntryPayload::Membership(to_membership(&membership)?),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn from_membership(membership: &Membership<u64, Member>) -> wire::Membership {
    wire::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| wire::Voters { ids: voters.iter().copied().collect() })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, member)| wire::Member {
                id: *id,
                rpc_address: member.rpc_address.clone(),
                name: member.name.clone(),
            })
            .collect(),
    }
}

pub(crate) fn to_membership(membership: &wire::Membership) -> Result<Membership<u64, Member>, WireError> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.iter().map(|voters| voters.ids.iter().copied().collect()).collect();
    let members: BTreeMap<u64, Member> = membership
        .members
        .iter()
        .map(|member| (member.id, Member { rpc_address: member.rpc_address.clone(), name: member.name.clone() }))
        .collect();
    Membership::new(configs, members).map_err(|error| WireError::Membership(error.to_string()))
}

pub(crate) fn from_snapshot_meta(meta: &SnapshotMeta, seq: u64) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(from_log_id),
        membership_log_id: meta.last_membership.log_id().as_ref().map(from_log_id),
        membership: Some(from_membership(meta.last_membership.membership())),
        seq,
    }
}

pub(crate) fn to_snapshot_meta(meta: &wire::SnapshotMeta) -> Result<SnapshotMeta, WireError> {
    let membership = to_membership(meta.membership.as_ref().ok_or(WireError::Missing("membership"))?)?;
    Ok(SnapshotMeta {
        last_log_id: meta.last.as_ref().map(to_log_id),
        last_membership: StoredMembership::new(meta.membership_log_id.as_ref().map(to_log_id), membership),
    })
}

#[cfg(test)]
mod tests;
