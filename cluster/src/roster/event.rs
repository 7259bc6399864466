//! Events as `apply` makes them: numbered here, and nowhere else.

use rollcall_proto::schema::roster::{
    Claim, Connected, Disconnected, Event, Reason, Subscription, TurnedAway, event, outcome,
};

use super::{Effects, NodeId, Proposer, Roster, Session, done};

/// The node an event names.
#[derive(Debug, Clone)]
pub(super) struct Emitter {
    pub address: String,
    pub name: String,
}

impl From<&Proposer> for Emitter {
    fn from(proposer: &Proposer) -> Self {
        Emitter { address: proposer.address.clone(), name: proposer.name.clone() }
    }
}

impl Roster {
    /// The node that held the connection; where it has died, the survivor that speaks for it.
    pub(super) fn emitter_for(&self, holder: NodeId, epoch: u64, survivor: &Proposer) -> Emitter {
        match self.nodes.get(&holder) {
            Some(node) if self.is_current(holder, epoch) => {
                Emitter { address: node.mqtt_address.clone(), name: node.name.clone() }
            }
            Some(_) | None => survivor.into(),
        }
    }

    pub(super) fn emit(&mut self, effects: &mut Effects, mut event: Event) {
        self.seq += 1;
        event.seq = self.seq;
        event.time = self.time;
        effects.events.push(event);
    }

    pub(super) fn emit_connected(&mut self, effects: &mut Effects, proposer: &Proposer, claim: &Claim, epoch: u64) {
        let body = event::Body::Connected(Connected {
            clean_start: claim.clean_start,
            keep_alive: claim.keep_alive,
            protocol_level: claim.protocol_level,
            sockname: claim.sockname.clone(),
        });
        self.emit(effects, of_claim(claim, proposer, epoch, body));
    }

    /// A Claim that was refused is its own event, as is a connection that came to none.
    pub(super) fn emit_refused(&mut self, effects: &mut Effects, proposer: &Proposer, claim: &Claim, reason: Reason) {
        let refused = TurnedAway {
            client_id: claim.client_id.clone(),
            username: claim.username.clone(),
            peername: claim.peername.clone(),
            sockname: claim.sockname.clone(),
            reason: reason.into(),
            detail: String::new(),
        };
        self.turned_away(proposer, &refused, effects);
    }

    /// It never owned a session, so its epoch is 0.
    pub(super) fn turned_away(
        &mut self,
        proposer: &Proposer,
        command: &TurnedAway,
        effects: &mut Effects,
    ) -> outcome::Kind {
        let body = event::Body::Disconnected(Disconnected {
            reason: command.reason,
            detail: command.detail.clone(),
            sockname: command.sockname.clone(),
        });
        let event = Event {
            client_id: command.client_id.clone(),
            node_address: proposer.address.clone(),
            node_name: proposer.name.clone(),
            username: command.username.clone(),
            peername: command.peername.clone(),
            body: Some(body),
            ..Event::default()
        };
        self.emit(effects, event);
        done()
    }

    pub(super) fn emit_disconnected(
        &mut self,
        effects: &mut Effects,
        client_id: &str,
        session: &Session,
        emitter: Emitter,
        reason: Reason,
        detail: &str,
    ) {
        let body = event::Body::Disconnected(Disconnected {
            reason: reason.into(),
            detail: detail.into(),
            sockname: session.sockname.to_string(),
        });
        self.emit(effects, of_session(client_id, session, emitter, body));
    }

    pub(super) fn emit_subscription(
        &mut self,
        effects: &mut Effects,
        client_id: &str,
        session: &Session,
        emitter: Emitter,
        subscription: Subscription,
        added: bool,
    ) {
        let body = if added { event::Body::Subscribed(subscription) } else { event::Body::Unsubscribed(subscription) };
        self.emit(effects, of_session(client_id, session, emitter, body));
    }
}

fn of_claim(claim: &Claim, proposer: &Proposer, epoch: u64, body: event::Body) -> Event {
    Event {
        client_id: claim.client_id.clone(),
        epoch,
        node_address: proposer.address.clone(),
        node_name: proposer.name.clone(),
        username: claim.username.clone(),
        peername: claim.peername.clone(),
        body: Some(body),
        ..Event::default()
    }
}

fn of_session(client_id: &str, session: &Session, emitter: Emitter, body: event::Body) -> Event {
    Event {
        client_id: client_id.into(),
        epoch: session.epoch,
        node_address: emitter.address,
        node_name: emitter.name,
        username: session.username.as_deref().map(str::to_owned),
        peername: session.peername.to_string(),
        body: Some(body),
        ..Event::default()
    }
}
