//! A node that comes later: it asks any member to become one, and the roster's leader takes it in as a learner.

use std::sync::Arc;

use rollcall_proto::schema::node::{self as wire, JoinReply, JoinRequest, Joined, NotLeader, join_reply};
use rollcall_proto::schema::roster::{NodeLeaving, NodeState, command, outcome};
use tokio::time::timeout;
use tonic::Status;

use crate::courier::Office;
use crate::groups::Group;
use crate::propose::Proposals;
use crate::raft::Member;
use crate::roster::level::FIRST;
use crate::server::PROTOCOL;

/// The members' side.
pub(crate) struct Admission {
    pub office: Arc<Office>,
    /// The roster's.
    pub group: Arc<Group>,
    pub proposals: Proposals,
}

impl Admission {
    pub(crate) async fn join(&self, asked: JoinRequest) -> Result<JoinReply, Status> {
        if asked.cluster != self.office.config.cluster_name || asked.protocol != PROTOCOL {
            return Err(Status::failed_precondition(
                "the caller belongs to another cluster, or speaks another protocol",
            ));
        }
        let result = if self.group.leading().is_some() { self.admit(&asked).await } else { self.pass_on(asked).await };
        Ok(JoinReply { result: Some(result) })
    }

    async fn admit(&self, asked: &JoinRequest) -> join_reply::Result {
        let Some(newcomer) = &asked.member else { return refused("a request to join that does not say who asks") };
        let level = self.office.replica.roster().level();
        if asked.level.max(FIRST) < level {
            return refused(&format!("its version is too old: the cluster is at feature level {level}"));
        }
        if let Err(why) = self.make_way(newcomer).await {
            return refused(&why);
        }
        if self.group.member(newcomer.id).is_some() {
            return join_reply::Result::Joined(Joined {});
        }
        let member = Member { rpc_address: newcomer.rpc_address.clone(), name: newcomer.name.clone() };
        let adding = self.group.raft.add_learner(newcomer.id, member, false);
        match timeout(self.office.config.rpc_timeout, adding).await {
            Ok(Ok(_)) => {
                tracing::info!(node = newcomer.name, address = newcomer.rpc_address, "a node has joined the cluster");
                join_reply::Result::Joined(Joined {})
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, node = newcomer.name, "a node could not join yet");
                join_reply::Result::NotLeader(NotLeader { leader: self.group.leader() })
            }
            Err(_) => join_reply::Result::NotLeader(NotLeader { leader: None }),
        }
    }

    /// A node that has lost its disk comes back as another of its name: the one it was is to leave. It may only come when
    /// that one is known to be down, so that no two of the name ever serve.
    async fn make_way(&self, newcomer: &wire::Member) -> Result<(), String> {
        let (namesake, leaving) = {
            let roster = self.office.replica.roster();
            let namesake = roster.nodes().find(|node| node.name == newcomer.name && node.id != newcomer.id).cloned();
            (namesake, roster.leaving().cloned())
        };
        let Some(namesake) = namesake else { return Ok(()) };
        let name = &namesake.name;
        if matches!(namesake.state(), NodeState::Up | NodeState::Draining) {
            return Err(format!(
                "the name {name} belongs to another node of this cluster ({:x}), which is up: give this one another \
                 node.name; if it is the same that has lost its disk, wait for cluster.node_timeout",
                namesake.id
            ));
        }
        if namesake.leaving {
            return Ok(());
        }
        if let Some(leaving) = leaving {
            return Err(format!("{} is leaving the cluster, and one node is replaced at a time: wait", leaving.name));
        }
        tracing::info!(node = name, "a node has come back without its disk: it takes the place of what it was");
        let leaving = NodeLeaving { node: namesake.id };
        match self.proposals.ask(command::Kind::NodeLeaving(leaving)).await {
            Ok(answer) => match &answer.outcome {
                outcome::Kind::Conflict(conflict) => Err(conflict.why.clone()),
                _ => Ok(()),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    /// Once: who is taken for the leader and is not says so.
    async fn pass_on(&self, asked: JoinRequest) -> join_reply::Result {
        let leader = self.group.leader();
        let unknown = join_reply::Result::NotLeader(NotLeader { leader });
        let address = leader.and_then(|leader| self.group.member(leader)).map(|member| member.rpc_address);
        let (false, Some(address)) = (asked.passed_on, address) else { return unknown };
        let Ok(mut client) = self.office.peers.client(&address) else { return unknown };
        let asking = client.join(JoinRequest { passed_on: true, ..asked });
        match timeout(self.office.config.rpc_timeout, asking).await {
            Ok(Ok(reply)) => reply.into_inner().result.unwrap_or(unknown),
            Ok(Err(_)) | Err(_) => unknown,
        }
    }
}

fn refused(why: &str) -> join_reply::Result {
    join_reply::Result::Refused(why.into())
}
