//! A node that comes later: it asks any member to become one, and the roster's leader takes it in as a learner.

use std::sync::Arc;

use rollcall_proto::schema::node::{JoinReply, JoinRequest, Joined, NotLeader, join_reply};
use tokio::time::timeout;
use tonic::Status;

use crate::courier::Office;
use crate::groups::Group;
use crate::raft::Member;
use crate::server::PROTOCOL;

/// The members' side.
pub(crate) struct Admission {
    pub office: Arc<Office>,
    /// The roster's.
    pub group: Arc<Group>,
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
        let namesake = {
            let roster = self.office.replica.roster();
            roster.nodes().find(|node| node.name == newcomer.name && node.id != newcomer.id).map(|node| node.id)
        };
        if let Some(other) = namesake {
            let why = format!("the name {} belongs to another node of this cluster ({other:x})", newcomer.name);
            return refused(&format!("{why}; give this one another node.name"));
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
