//! Raises the cluster's feature level once every member's version knows the next one.

use std::sync::Arc;

use futures_util::future::join_all;
use rollcall_proto::schema::node::PingRequest;
use rollcall_proto::schema::roster::{RaiseLevel, command};
use tokio::time::timeout;

use crate::courier::Office;
use crate::groups::Group;
use crate::propose::Proposals;
use crate::raft::Member;
use crate::roster::NodeId;
use crate::roster::level::{FIRST, LEVEL};

/// The roster's leader asks at one in so many of its looks.
const LOOKS: u32 = 4;

pub(crate) struct Upgrade {
    office: Arc<Office>,
    /// The roster's.
    group: Arc<Group>,
    proposals: Proposals,
    looks: u32,
    /// For whom it waited when it was last told.
    told: String,
}

impl Upgrade {
    pub(crate) fn new(office: Arc<Office>, group: Arc<Group>, proposals: Proposals) -> Self {
        Upgrade { office, group, proposals, looks: 0, told: String::new() }
    }

    /// As the roster's leader. Who does not answer counts as old: a member that is away may come back as it was.
    pub(crate) async fn look(&mut self) {
        let level = self.office.replica.roster().level();
        self.looks = self.looks.wrapping_add(1);
        if level >= LEVEL || !self.looks.is_multiple_of(LOOKS) {
            return;
        }
        let members = self.group.members();
        let others = members.into_iter().filter(|(id, _)| *id != self.office.replica.me());
        let asking = others.map(|(id, member)| self.is_behind(level + 1, id, member));
        let behind: Vec<String> = join_all(asking).await.into_iter().flatten().collect();
        let waits_for = behind.join(", ");
        if !behind.is_empty() {
            if waits_for != self.told {
                tracing::info!(level, waits_for, "the feature level is raised when every node knows the next one");
            }
            self.told = waits_for;
            return;
        }
        match self.proposals.ask(command::Kind::RaiseLevel(RaiseLevel { level: level + 1 })).await {
            Ok(_) => tracing::info!(level = level + 1, "every node knows the next feature level: it is in force"),
            Err(error) => tracing::debug!(%error, "the feature level was not raised"),
        }
    }

    /// Its name, if it does not know that level.
    async fn is_behind(&self, level: u32, id: NodeId, member: Member) -> Option<String> {
        let Member { rpc_address, name } = member;
        let Ok(mut client) = self.office.peers.client(&rpc_address) else { return Some(name) };
        let knows = match timeout(self.office.config.rpc_timeout, client.ping(PingRequest { to: id })).await {
            Ok(Ok(reply)) => reply.into_inner().level.max(FIRST),
            Ok(Err(_)) | Err(_) => 0,
        };
        (knows < level).then_some(name)
    }
}
