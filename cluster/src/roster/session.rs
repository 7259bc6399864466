//! Who owns which session: claim, release, kick, expire.

use std::collections::BTreeMap;
use std::sync::Arc;

use rollcall_proto::schema::roster::{
    Claim, Expire, Granted, Kick, NodeState, NotFound, Reason, Release, SubscriptionOptions, outcome,
};

use super::{Effects, Lost, NEVER, Proposer, Roster, RouteChange, done, stale};

/// The connection that holds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub node: u64,
    pub node_epoch: u64,
    /// Number of the connection on its node.
    pub connection: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Numbers the client id's connections and fences the older.
    pub epoch: u64,
    /// The epoch at which this session began: a clean start begins another.
    pub incarnation: u64,
    pub owner: Option<Owner>,
    /// Milliseconds since 1970, as are all times here.
    pub connected_at: u64,
    pub disconnected_at: Option<u64>,
    /// Seconds after the disconnect; 0 ends with the connection, [`NEVER`] never.
    pub session_expiry: u32,
    pub protocol_level: u8,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub username: Option<Box<str>>,
    pub peername: Box<str>,
    pub sockname: Box<str>,
    pub subscriptions: BTreeMap<Arc<str>, SubscriptionOptions>,
}

impl Session {
    pub fn is_expired(&self, now: u64) -> bool {
        match self.disconnected_at {
            Some(at) if self.session_expiry != NEVER => at + u64::from(self.session_expiry) * 1000 <= now,
            Some(_) | None => false,
        }
    }

    fn begin(claim: &Claim, owner: Owner, epoch: u64, now: u64, resumed: Option<&Session>) -> Session {
        Session {
            epoch,
            incarnation: resumed.map_or(epoch, |old| old.incarnation),
            owner: Some(owner),
            connected_at: now,
            disconnected_at: None,
            session_expiry: claim.session_expiry,
            protocol_level: claim.protocol_level as u8,
            clean_start: claim.clean_start,
            keep_alive: claim.keep_alive as u16,
            username: claim.username.as_deref().map(Into::into),
            peername: claim.peername.as_str().into(),
            sockname: claim.sockname.as_str().into(),
            subscriptions: resumed.map(|old| old.subscriptions.clone()).unwrap_or_default(),
        }
    }
}

impl Roster {
    pub(super) fn claim(&mut self, proposer: &Proposer, claim: &Claim, effects: &mut Effects) -> outcome::Kind {
        if let Some(reason) = self.refuses(proposer, &claim.client_id) {
            self.emit_refused(effects, proposer, claim, reason);
            return outcome::Kind::Refused(reason.into());
        }
        let old = self.sessions.get(&claim.client_id).cloned();
        let epoch = old.as_ref().map_or(self.forgotten_epoch, |old| old.epoch) + 1;
        if let Some(old) = &old {
            self.end_connection(proposer, &claim.client_id, old, Reason::Takeovered, "", effects);
        }
        // A session of expiry 0 ends with its connection, also when that is taken over.
        let resumed =
            old.as_ref().filter(|old| !claim.clean_start && old.session_expiry > 0 && !old.is_expired(self.time));
        let owner = Owner { node: proposer.node, node_epoch: proposer.epoch, connection: claim.connection };
        let session = Session::begin(claim, owner, epoch, self.time, resumed);
        add_routes(&claim.client_id, &session, owner, effects);
        self.sessions.insert(&claim.client_id, session);
        self.connections += 1;
        if let Some(node) = self.nodes.get_mut(&proposer.node) {
            node.connections += 1;
        }
        self.emit_connected(effects, proposer, claim, epoch);
        outcome::Kind::Granted(Granted { epoch, session_present: resumed.is_some(), ..Granted::default() })
    }

    /// A connection that replaces another of its client id needs no slot of its own.
    fn refuses(&self, proposer: &Proposer, client_id: &str) -> Option<Reason> {
        let node = self.nodes.get(&proposer.node)?;
        if node.state() == NodeState::Draining {
            return Some(Reason::GoAway);
        }
        let replaced = self.sessions.get(client_id).and_then(|old| old.owner);
        let full = self.limits.max_connections.is_some_and(|most| self.connections >= most);
        let node_full = self.limits.max_connections_per_node.is_some_and(|most| node.connections >= most);
        let replaced_here =
            replaced.is_some_and(|owner| owner.node == proposer.node && owner.node_epoch == proposer.epoch);
        let over = (full && replaced.is_none()) || (node_full && !replaced_here);
        over.then_some(Reason::TooManyConnection)
    }

    pub(super) fn release(&mut self, proposer: &Proposer, release: &Release, effects: &mut Effects) -> outcome::Kind {
        let Some(session) = self.owned(proposer, &release.client_id, release.epoch).cloned() else { return stale() };
        let reason = Reason::try_from(release.reason).unwrap_or(Reason::ServerInternalError);
        self.end_connection(proposer, &release.client_id, &session, reason, &release.detail, effects);
        self.leave_offline(&release.client_id, release.session_expiry);
        done()
    }

    pub(super) fn kick(&mut self, proposer: &Proposer, kick: &Kick, effects: &mut Effects) -> outcome::Kind {
        let Some(session) = self.sessions.get(&kick.client_id).cloned() else {
            return outcome::Kind::NotFound(NotFound {});
        };
        if session.owner.is_some() {
            self.end_connection(proposer, &kick.client_id, &session, Reason::Kicked, "", effects);
            self.leave_offline(&kick.client_id, None);
        }
        if kick.purge {
            self.forget(&kick.client_id);
        }
        done()
    }

    pub(super) fn expire(&mut self, expire: &Expire) -> outcome::Kind {
        for client_id in &expire.client_ids {
            if self.sessions.get(client_id).is_some_and(|session| session.is_expired(self.time)) {
                self.forget(client_id);
            }
        }
        done()
    }

    /// The session, if this very connection of the proposer owns it.
    pub(super) fn owned(&self, proposer: &Proposer, client_id: &str, epoch: u64) -> Option<&Session> {
        self.sessions.get(client_id).filter(|session| {
            session.epoch == epoch
                && session.owner.is_some_and(|owner| owner.node == proposer.node && owner.node_epoch == proposer.epoch)
        })
    }

    /// Takes the connection away from a session, if it has one: the event, the slot, the routes. What becomes of the
    /// session is up to the caller. A dead node's connection ends by its node's death, whatever the occasion.
    pub(super) fn end_connection(
        &mut self,
        proposer: &Proposer,
        client_id: &str,
        session: &Session,
        reason: Reason,
        detail: &str,
        effects: &mut Effects,
    ) {
        let Some(owner) = session.owner else { return };
        let living = self.is_current(owner.node, owner.node_epoch);
        let reason = if living { reason } else { self.reason_of_orphan(owner) };
        let emitter = self.emitter_for(owner.node, owner.node_epoch, proposer);
        self.emit_disconnected(effects, client_id, session, emitter, reason, detail);
        self.connections -= 1;
        self.free_slot(owner, living);
        let client_id: Arc<str> = client_id.into();
        for filter in session.subscriptions.keys() {
            effects.routes.push(RouteChange::Remove { filter: filter.clone(), client_id: client_id.clone(), owner });
        }
        effects.lost.push(Lost { client_id, owner, epoch: session.epoch, reason });
    }

    /// After [`Self::end_connection`]: the session goes on without a connection, or ends.
    pub(super) fn leave_offline(&mut self, client_id: &str, session_expiry: Option<u32>) {
        let now = self.time;
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        session.owner = None;
        session.disconnected_at = Some(now);
        if let Some(expiry) = session_expiry {
            session.session_expiry = expiry;
        }
        if session.session_expiry == 0 {
            self.forget(client_id);
        }
    }

    fn forget(&mut self, client_id: &str) {
        if let Some(session) = self.sessions.remove(client_id) {
            self.forgotten_epoch = self.forgotten_epoch.max(session.epoch);
        }
    }
}

fn add_routes(client_id: &str, session: &Session, owner: Owner, effects: &mut Effects) {
    if session.subscriptions.is_empty() {
        return;
    }
    let client_id: Arc<str> = client_id.into();
    for (filter, options) in &session.subscriptions {
        effects.routes.push(RouteChange::Add {
            filter: filter.clone(),
            client_id: client_id.clone(),
            owner,
            options: *options,
            is_new: true,
        });
    }
}
