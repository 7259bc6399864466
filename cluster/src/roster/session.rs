//! Who owns which session: claim, release, kick, expire, overflow.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rollcall_proto::schema::roster::{
    Claim, Expire, Granted, Kick, NodeState, NotFound, Overflowed, Reason, Release, SubscriptionOptions, Will, outcome,
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
    /// It has an inbox: it was claimed to outlive its connection, then or before, so that something may still be due.
    pub durable: bool,
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
    /// The present connection's: once that has ended, its will is the roster's.
    pub will: Option<Arc<Will>>,
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
            durable: claim.session_expiry > 0 || resumed.is_some_and(|old| old.durable),
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
            will: claim.will.as_ref().map(detach),
        }
    }

    pub(super) fn live_routes(&self, client_id: Arc<str>, owner: Owner) -> impl Iterator<Item = RouteChange> {
        self.subscriptions.iter().map(move |(filter, options)| RouteChange::Add {
            filter: filter.clone(),
            client_id: client_id.clone(),
            owner,
            options: *options,
            durable: self.durable,
            before: None,
        })
    }

    pub(super) fn kept_routes(&self, client_id: Arc<str>) -> impl Iterator<Item = RouteChange> {
        self.subscriptions.iter().map(move |(filter, options)| RouteChange::Keep {
            filter: filter.clone(),
            client_id: client_id.clone(),
            incarnation: self.incarnation,
            options: *options,
        })
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
        // A session of expiry 0 ends with its connection, also when that is taken over.
        let resumed =
            old.as_ref().filter(|old| !claim.clean_start && old.session_expiry > 0 && !old.is_expired(self.time));
        if let Some(old) = &old {
            self.end_connection(proposer, &claim.client_id, old, Reason::Takeovered, "", effects);
            self.supersede_will(&claim.client_id, old, resumed.is_some(), effects);
            if resumed.is_none() {
                self.end_session(&claim.client_id, old, effects);
            }
        }
        let owner = Owner { node: proposer.node, node_epoch: proposer.epoch, connection: claim.connection };
        let session = Session::begin(claim, owner, epoch, self.time, resumed);
        let granted = Granted {
            epoch,
            session_present: resumed.is_some(),
            incarnation: session.incarnation,
            durable: session.durable,
        };
        if !session.subscriptions.is_empty() {
            effects.routes.extend(session.live_routes(claim.client_id.as_str().into(), owner));
        }
        self.sessions.insert(&claim.client_id, session);
        self.connections += 1;
        if let Some(node) = self.nodes.get_mut(&proposer.node) {
            node.connections += 1;
        }
        self.emit_connected(effects, proposer, claim, epoch);
        outcome::Kind::Granted(granted)
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
        self.leave_offline(&release.client_id, release.session_expiry, !release.without_will, effects);
        done()
    }

    pub(super) fn kick(&mut self, proposer: &Proposer, kick: &Kick, effects: &mut Effects) -> outcome::Kind {
        let Some(session) = self.sessions.get(&kick.client_id).cloned() else {
            return outcome::Kind::NotFound(NotFound {});
        };
        if session.owner.is_some() {
            self.end_connection(proposer, &kick.client_id, &session, Reason::Kicked, "", effects);
            self.leave_offline(&kick.client_id, None, true, effects);
        }
        if kick.purge {
            self.forget(&kick.client_id, effects);
        }
        done()
    }

    pub(super) fn expire(&mut self, expire: &Expire, effects: &mut Effects) -> outcome::Kind {
        for client_id in &expire.client_ids {
            if self.sessions.get(client_id).is_some_and(|session| session.is_expired(self.time)) {
                self.forget(client_id, effects);
            }
        }
        done()
    }

    pub(super) fn overflowed(
        &mut self,
        proposer: &Proposer,
        overflowed: &Overflowed,
        effects: &mut Effects,
    ) -> outcome::Kind {
        let Overflowed { client_id, incarnation } = overflowed;
        let Some(session) = self.sessions.get(client_id).filter(|session| session.incarnation == *incarnation).cloned()
        else {
            return stale();
        };
        if session.owner.is_some() {
            let reason = Reason::TooManyConnection;
            self.end_connection(proposer, client_id, &session, reason, "session overflow", effects);
            self.leave_offline(client_id, Some(0), true, effects);
        }
        self.forget(client_id, effects);
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
    /// session and of the will is up to the caller. A dead node's connection ends by its node's death, whatever the occasion.
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
        effects.routes.extend(session.subscriptions.iter().map(|(filter, options)| RouteChange::Remove {
            filter: filter.clone(),
            client_id: client_id.clone(),
            owner,
            options: *options,
            durable: session.durable,
        }));
        effects.lost.push(Lost { client_id, owner, epoch: session.epoch, reason });
    }

    /// After [`Self::end_connection`]: the session goes on without a connection, or ends; the will waits, or is published.
    pub(super) fn leave_offline(
        &mut self,
        client_id: &str,
        session_expiry: Option<u32>,
        with_will: bool,
        effects: &mut Effects,
    ) {
        let now = self.time;
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        session.owner = None;
        session.disconnected_at = Some(now);
        // What ends with its connection is not revived: only what was claimed as durable is offline [MQTT-3.1.2-23].
        if let Some(expiry) = session_expiry.filter(|_| session.session_expiry > 0) {
            session.session_expiry = expiry;
        }
        let (epoch, expiry, will) = (session.epoch, session.session_expiry, session.will.take());
        if let Some(will) = will.filter(|_| with_will) {
            self.bequeath(client_id, epoch, will, expiry, effects);
        }
        if expiry == 0 {
            self.forget(client_id, effects);
        }
    }

    fn forget(&mut self, client_id: &str, effects: &mut Effects) {
        if let Some(session) = self.sessions.remove(client_id) {
            self.forgotten_epoch = self.forgotten_epoch.max(session.epoch);
            self.end_session(client_id, &session, effects);
        }
    }

    /// What outlived the connection goes too.
    fn end_session(&mut self, client_id: &str, session: &Session, effects: &mut Effects) {
        if session.durable && !session.subscriptions.is_empty() {
            let client_id: Arc<str> = client_id.into();
            effects.routes.extend(
                session
                    .subscriptions
                    .keys()
                    .map(|filter| RouteChange::Unkeep { filter: filter.clone(), client_id: client_id.clone() }),
            );
        }
        self.fire_waiting(client_id, effects);
    }
}

/// A copy of its own: what lives as long as the session must not keep the log entry alive that it came with.
fn detach(will: &Will) -> Arc<Will> {
    Arc::new(Will { message: Bytes::copy_from_slice(&will.message), ..will.clone() })
}
