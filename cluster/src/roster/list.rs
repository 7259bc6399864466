//! Reading the sessions page by page.

use super::{NodeId, Roster, Session};

/// Which sessions to list; `None` does not restrict.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    pub prefix: Option<String>,
    pub node: Option<NodeId>,
    pub online: Option<bool>,
}

/// One page of sessions, true at `seq`.
#[derive(Debug)]
pub struct SessionPage<'a> {
    pub items: Vec<(&'a str, &'a Session)>,
    /// Give it back as `after` to go on; `None` at the end.
    pub next: Option<String>,
    pub seq: u64,
}

/// Sessions looked at for one page, so that a filter that matches nothing cannot hold the roster for long.
const LOOKED_AT: usize = 100_000;

impl Roster {
    /// Sessions behind `after` in the roster's own order, at most `limit` of them.
    pub fn list(&self, filter: &SessionFilter, after: Option<&str>, limit: usize) -> SessionPage<'_> {
        let mut page = SessionPage { items: Vec::new(), next: None, seq: self.seq };
        let mut last = None;
        let rest: Box<dyn Iterator<Item = (&str, &Session)>> = match after {
            Some(key) => Box::new(self.sessions.after(key)),
            None => Box::new(self.sessions.iter()),
        };
        for (looked_at, (client_id, session)) in rest.enumerate() {
            if page.items.len() == limit || looked_at == LOOKED_AT {
                page.next = last;
                break;
            }
            last = Some(client_id.to_owned());
            if filter.matches(client_id, session) {
                page.items.push((client_id, session));
            }
        }
        page
    }

    /// Client ids of offline sessions in these pages of the roster whose expiry has passed at `now`.
    pub fn expired(&self, pages: std::ops::Range<usize>, now: u64, limit: usize) -> Vec<String> {
        pages
            .flat_map(|number| self.sessions.page(number))
            .filter(|(_, session)| session.is_expired(now))
            .take(limit)
            .map(|(client_id, _)| client_id.to_owned())
            .collect()
    }
}

impl SessionFilter {
    fn matches(&self, client_id: &str, session: &Session) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| client_id.starts_with(prefix))
            && self.node.is_none_or(|node| session.owner.is_some_and(|owner| owner.node == node))
            && self.online.is_none_or(|online| session.owner.is_some() == online)
    }
}
