//! What a session is subscribed to.

use std::sync::Arc;

use rollcall_proto::schema::roster::{
    Subscribe, Subscribed, Subscription, TooMany, Unsubscribe, Unsubscribed, outcome,
};

use super::event::Emitter;
use super::{Effects, Proposer, Roster, RouteChange, stale};

impl Roster {
    /// An event for each filter that is new or has other options; a repeated one changes nothing.
    pub(super) fn subscribe(
        &mut self,
        proposer: &Proposer,
        command: &Subscribe,
        effects: &mut Effects,
    ) -> outcome::Kind {
        let Some(owner) = self.owned(proposer, &command.client_id, command.epoch).and_then(|session| session.owner)
        else {
            return stale();
        };
        if self.would_hold(command) > command.max_filters as usize && command.max_filters > 0 {
            return outcome::Kind::TooMany(TooMany {});
        }
        let after = self.seq;
        let client_id: Arc<str> = command.client_id.as_str().into();
        for subscription in &command.subscriptions {
            let options = subscription.options.unwrap_or_default();
            let filter: Arc<str> = subscription.filter.as_str().into();
            let Some(session) = self.sessions.get_mut(&client_id) else { return stale() };
            let before = session.subscriptions.insert(filter.clone(), options);
            if before == Some(options) {
                continue;
            }
            let is_new = before.is_none();
            effects.routes.push(RouteChange::Add { filter, client_id: client_id.clone(), owner, options, is_new });
            self.emit_change(proposer, &client_id, subscription.clone(), true, effects);
        }
        outcome::Kind::Subscribed(Subscribed { after, ..Subscribed::default() })
    }

    /// Subscriptions that the session has once the command is carried out.
    fn would_hold(&self, command: &Subscribe) -> usize {
        let Some(session) = self.sessions.get(&command.client_id) else { return 0 };
        let mut new: Vec<&str> = command.subscriptions.iter().map(|subscription| &*subscription.filter).collect();
        new.retain(|filter| !session.subscriptions.contains_key(*filter));
        new.sort_unstable();
        new.dedup();
        session.subscriptions.len() + new.len()
    }

    pub(super) fn unsubscribe(
        &mut self,
        proposer: &Proposer,
        command: &Unsubscribe,
        effects: &mut Effects,
    ) -> outcome::Kind {
        let Some(owner) = self.owned(proposer, &command.client_id, command.epoch).and_then(|session| session.owner)
        else {
            return stale();
        };
        let client_id: Arc<str> = command.client_id.as_str().into();
        let mut existed = Vec::with_capacity(command.filters.len());
        for filter in &command.filters {
            let Some(session) = self.sessions.get_mut(&client_id) else { return stale() };
            let removed = session.subscriptions.remove_entry(filter.as_str());
            existed.push(removed.is_some());
            let Some((filter, options)) = removed else { continue };
            let subscription = Subscription { filter: filter.to_string(), options: Some(options) };
            effects.routes.push(RouteChange::Remove { filter, client_id: client_id.clone(), owner });
            self.emit_change(proposer, &client_id, subscription, false, effects);
        }
        outcome::Kind::Unsubscribed(Unsubscribed { existed })
    }

    fn emit_change(
        &mut self,
        proposer: &Proposer,
        client_id: &str,
        subscription: Subscription,
        added: bool,
        effects: &mut Effects,
    ) {
        if let Some(session) = self.sessions.get(client_id).cloned() {
            self.emit_subscription(effects, client_id, &session, Emitter::from(proposer), subscription, added);
        }
    }
}
