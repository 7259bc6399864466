//! What was handed on to this shard from other logs, so that nothing is taken twice.

use std::ops::Bound;
use std::sync::Arc;

use rollcall_proto::schema::shard::{Forget, Origin, OriginKind, OriginMark};

use crate::sorted::SortedMap;

/// Whose messages are numbered together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub kind: OriginKind,
    pub client_id: Arc<str>,
    pub incarnation: u64,
}

/// How far a source has got. Enqueue and Retain count apart, since one message may come to a shard by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub enqueued: u64,
    pub retained: u64,
    /// Of the last message; milliseconds since 1970.
    pub time: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Enqueue,
    Retain,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Origins {
    marks: SortedMap<Source, Mark>,
}

impl Source {
    /// `None` if this version does not know the kind.
    pub(super) fn of(origin: &Origin) -> Option<Source> {
        let kind = OriginKind::try_from(origin.kind).ok()?;
        Some(Source { kind, client_id: origin.client_id.as_str().into(), incarnation: origin.incarnation })
    }

    pub fn numbered(&self, number: u64) -> Origin {
        Origin { kind: self.kind.into(), client_id: self.client_id.to_string(), incarnation: self.incarnation, number }
    }
}

impl Mark {
    /// An [`Origin`] of this number is forgotten only if nothing has come since.
    pub fn number(&self) -> u64 {
        self.enqueued.max(self.retained)
    }
}

impl Origins {
    /// Whether the message is new; it counts as taken from now on. What has no origin is always new.
    pub fn take(&mut self, origin: Option<&Origin>, by: Use, now: u64) -> bool {
        let Some(origin) = origin else { return true };
        let Some(source) = Source::of(origin) else { return false };
        let mut mark = self.marks.get(&source).copied().unwrap_or_default();
        let highest = match by {
            Use::Enqueue => &mut mark.enqueued,
            Use::Retain => &mut mark.retained,
        };
        if origin.number <= *highest {
            return false;
        }
        *highest = origin.number;
        mark.time = now;
        self.marks.insert(source, mark);
        true
    }

    /// How many went.
    pub fn forget(&mut self, forget: &Forget) -> u64 {
        let mut gone = 0;
        for origin in &forget.origins {
            let Some(source) = Source::of(origin) else { continue };
            if self.marks.get(&source).is_some_and(|mark| mark.number() <= origin.number) {
                self.marks.remove(&source);
                gone += 1;
            }
        }
        gone
    }

    pub fn after(&self, source: Option<&Source>) -> impl Iterator<Item = (&Source, &Mark)> {
        self.marks.range_from(source.map_or(Bound::Unbounded, Bound::Excluded))
    }

    pub fn len(&self) -> usize {
        self.marks.len()
    }

    pub fn to_wire(&self) -> impl Iterator<Item = OriginMark> {
        self.marks.iter().map(|(source, mark)| OriginMark {
            origin: Some(source.numbered(mark.enqueued)),
            time: mark.time,
            retained: mark.retained,
        })
    }

    /// `false` if this version does not know its kind.
    pub fn restore(&mut self, record: &OriginMark) -> bool {
        let Some((origin, source)) = record.origin.as_ref().and_then(|origin| Some((origin, Source::of(origin)?)))
        else {
            return false;
        };
        let mark = Mark { enqueued: origin.number, retained: record.retained, time: record.time };
        self.marks.insert(source, mark).is_none()
    }
}
