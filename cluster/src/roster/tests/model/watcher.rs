use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::roster::{Owner, RouteChange};
use crate::routes::Routes;

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    online: Option<u64>,
    last: u64,
}

/// By filter and client id.
type Live = BTreeMap<(Arc<str>, Arc<str>), (Owner, bool, SubscriptionOptions)>;
type Kept = BTreeMap<(Arc<str>, Arc<str>), (u64, SubscriptionOptions)>;

/// What an outsider knows who reads effects only.
pub(super) struct Watcher {
    seq: u64,
    clients: BTreeMap<String, Told>,
    live: Live,
    kept: Kept,
    routes: Vec<Routes>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        Watcher {
            seq: 0,
            clients: BTreeMap::new(),
            live: Live::new(),
            kept: Kept::new(),
            routes: NODES.iter().map(|node| Routes::new(*node)).collect(),
        }
    }

    pub(super) fn follow(&mut self, effects: &Effects) {
        for event in &effects.events {
            self.hear(event);
        }
        for change in &effects.routes {
            self.route(change);
            for routes in &mut self.routes {
                routes.change(change);
            }
        }
        let ends = effects
            .events
            .iter()
            .filter(|event| event.epoch != 0 && matches!(event.body, Some(event::Body::Disconnected(_))));
        let ends: Vec<_> = ends.map(|event| (event.client_id.clone(), event.epoch)).collect();
        let lost: Vec<_> = effects.lost.iter().map(|lost| (lost.client_id.to_string(), lost.epoch)).collect();
        assert_eq!(ends, lost, "each lost connection is one event, and the other way round");
    }

    fn hear(&mut self, event: &Event) {
        assert_eq!(event.seq, self.seq + 1, "a gap");
        self.seq = event.seq;
        let client = self.clients.entry(event.client_id.clone()).or_default();
        match event.body.as_ref().unwrap() {
            event::Body::Connected(_) => {
                assert_eq!(client.online, None, "connected twice: {event:?}");
                assert!(event.epoch > client.last, "epochs rise: {event:?} after {client:?}");
                *client = Told { online: Some(event.epoch), last: event.epoch };
            }
            event::Body::Disconnected(_) if event.epoch == 0 => {}
            event::Body::Disconnected(_) => {
                assert_eq!(client.online.take(), Some(event.epoch), "{event:?}");
            }
            event::Body::Subscribed(_) | event::Body::Unsubscribed(_) => {
                assert_eq!(client.online, Some(event.epoch), "{event:?}");
            }
        }
    }

    fn route(&mut self, change: &RouteChange) {
        match change.clone() {
            RouteChange::Add { filter, client_id, owner, options, durable, before } => {
                let known = self.live.insert((filter, client_id), (owner, durable, options));
                assert_eq!(known, before.map(|before| (owner, durable, before)), "{change:?}");
            }
            RouteChange::Remove { filter, client_id, owner, options, durable } => {
                let known = self.live.remove(&(filter, client_id));
                assert_eq!(known, Some((owner, durable, options)), "{change:?}");
            }
            RouteChange::Keep { filter, client_id, incarnation, options } => {
                let known = self.kept.insert((filter, client_id), (incarnation, options));
                assert!(known.is_none_or(|known| known.0 == incarnation), "{change:?} without an end");
                assert_ne!(known, Some((incarnation, options)), "{change:?} changes nothing");
            }
            RouteChange::Unkeep { filter, client_id } => {
                assert!(self.kept.remove(&(filter, client_id)).is_some(), "{change:?}");
            }
        }
    }

    pub(super) fn agrees_with(&self, roster: &Roster) {
        assert_eq!(roster.seq(), self.seq);
        let (mut live, mut kept) = (Live::new(), Kept::new());
        for id in IDS {
            let session = roster.session(id);
            let online = session.filter(|session| session.owner.is_some()).map(|session| session.epoch);
            assert_eq!(self.clients.get(id).copied().unwrap_or_default().online, online, "{id}");
            assert!(session.is_none_or(|session| session.subscriptions.len() <= MAX_FILTERS as usize));
            let Some(session) = session else { continue };
            assert!(session.durable || session.owner.is_some(), "{id} has outlived its connection");
            for (filter, options) in &session.subscriptions {
                let key = (filter.clone(), id.into());
                if let Some(owner) = session.owner {
                    live.insert(key.clone(), (owner, session.durable, *options));
                }
                if session.durable {
                    kept.insert(key, (session.incarnation, *options));
                }
            }
        }
        assert_eq!(self.live, live);
        assert_eq!(self.kept, kept);
    }

    pub(super) fn routes_are_those_of(&self, roster: &Roster) {
        for (routes, node) in self.routes.iter().zip(NODES) {
            let mut rebuilt = Routes::new(node);
            for change in roster.routes() {
                rebuilt.change(&change);
            }
            for topic in TOPICS {
                assert_eq!(matched(routes, topic), matched(&rebuilt, topic), "{topic} on {node}");
            }
        }
    }
}

/// Every filter that matches; two of them may have the same subscribers.
fn matched(routes: &Routes, topic: &str) -> Vec<String> {
    let mut found = Vec::new();
    routes.for_each_match(topic, |route| found.push(format!("{route:?}")));
    found.sort();
    found
}
