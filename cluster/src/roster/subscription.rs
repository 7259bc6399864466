//! What a session is subscribed to.

use std::sync::Arc;

use rollcall_proto::schema::roster::{
    Subscribe, Subscribed, Subscription, SubscriptionOptions, TooMany, Unsubscribe, Unsubscribed, outcome,
};

use super::event::Emitter;
use super::{Effects, Owner, Proposer, Roster, RouteChange, Session, stale};

/// Events are read from the log by each subscriber, and never routed.
pub const EVENTS_PREFIX: &str = "$events/";

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
        let mut existed = Vec::with_capacity(command.subscriptions.len());
        for subscription in &command.subscriptions {
            let filter: Arc<str> = subscription.filter.as_str().into();
            let Some(session) = self.sessions.get_mut(&client_id) else { return stale() };
            let before = session.subscriptions.get(&filter).copied();
            existed.push(before.is_some());
            let options = SubscriptionOptions {
                since: since(&filter, before, after),
                ..subscription.options.unwrap_or_default()
            };
            if before == Some(options) {
                continue;
            }
            session.subscriptions.insert(filter.clone(), options);
            route(session, owner, &client_id, &filter, options, before, effects);
            self.emit_change(proposer, &client_id, &filter, options, true, effects);
        }
        outcome::Kind::Subscribed(Subscribed { after, existed })
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
            let (durable, client_id) = (session.durable, client_id.clone());
            effects.routes.push(RouteChange::Remove {
                filter: filter.clone(),
                client_id: client_id.clone(),
                owner,
                options,
                durable,
            });
            if durable {
                effects.routes.push(RouteChange::Unkeep { filter: filter.clone(), client_id: client_id.clone() });
            }
            self.emit_change(proposer, &client_id, &filter, options, false, effects);
        }
        outcome::Kind::Unsubscribed(Unsubscribed { existed })
    }

    fn emit_change(
        &mut self,
        proposer: &Proposer,
        client_id: &str,
        filter: &str,
        options: SubscriptionOptions,
        added: bool,
        effects: &mut Effects,
    ) {
        // Where the subscriber goes on reading is no part of what happened.
        let options = SubscriptionOptions { since: 0, ..options };
        let subscription = Subscription { filter: filter.into(), options: Some(options) };
        if let Some(session) = self.sessions.get(client_id).cloned() {
            self.emit_subscription(effects, client_id, &session, Emitter::from(proposer), subscription, added);
        }
    }
}

/// From where a subscription to events reads on: whoever subscribes again misses nothing in between.
fn since(filter: &str, before: Option<SubscriptionOptions>, last: u64) -> u64 {
    if filter.starts_with(EVENTS_PREFIX) { before.map_or(last, |before| before.since) } else { 0 }
}

fn route(
    session: &Session,
    owner: Owner,
    client_id: &Arc<str>,
    filter: &Arc<str>,
    options: SubscriptionOptions,
    before: Option<SubscriptionOptions>,
    effects: &mut Effects,
) {
    let (filter, client_id) = (filter.clone(), client_id.clone());
    if session.durable {
        let (filter, client_id) = (filter.clone(), client_id.clone());
        effects.routes.push(RouteChange::Keep { filter, client_id, incarnation: session.incarnation, options });
    }
    effects.routes.push(RouteChange::Add { filter, client_id, owner, options, durable: session.durable, before });
}
