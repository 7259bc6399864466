//! Who publishes what and who is to receive it. Pure: the same numbers give the same plan.

use std::fmt;

use crate::mqtt::wire::Version;

/// What is in order: the messages of one publisher to one topic at one QoS, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    pub publisher: u16,
    pub topic: u16,
    pub qos: u8,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "publisher {} topic {} QoS {}", self.publisher, self.topic, self.qos)
    }
}

/// A message says in its payload which it is.
pub fn payload(stream: Stream, number: u32) -> Vec<u8> {
    format!("{}.{}.{}.{number}", stream.publisher, stream.topic, stream.qos).into_bytes()
}

pub fn parse_payload(payload: &[u8]) -> Option<(Stream, u32)> {
    let mut parts = std::str::from_utf8(payload).ok()?.split('.');
    let publisher = parts.next()?.parse().ok()?;
    let topic = parts.next()?.parse().ok()?;
    let qos = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((Stream { publisher, topic, qos }, number))
}

/// What one subscriber subscribes to; one filter each, as a broker may deliver a message once per matching filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    All,
    /// One topic of every publisher.
    Topic(u16),
    /// Every topic of one publisher.
    Publisher(u16),
    Exact(u16, u16),
}

impl Filter {
    pub fn matches(self, stream: Stream) -> bool {
        match self {
            Self::All => true,
            Self::Topic(topic) => topic == stream.topic,
            Self::Publisher(publisher) => publisher == stream.publisher,
            Self::Exact(publisher, topic) => publisher == stream.publisher && topic == stream.topic,
        }
    }
}

/// When a subscriber is there while faults are injected; in the end all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// But for its own and its nodes' breaks.
    Always,
    Never,
    /// For short visits.
    Visits,
}

/// One in this many of the subscribers that are away comes by in between.
const VISITORS: usize = 8;

#[derive(Debug, Clone)]
pub struct Plan {
    /// Of topics and client ids, so that runs against the same broker do not meet.
    pub root: String,
    pub publishers: u16,
    pub topics: u16,
    pub subscribers: usize,
}

impl Plan {
    pub fn topic(&self, publisher: u16, topic: u16) -> String {
        format!("{}/{publisher}/{topic}", self.root)
    }

    /// Subscribers come in pairs with the same filter, one that is there and one that is away. Of 50 pairs one hears all,
    /// four a topic of every publisher, six a publisher, the others an exact topic: about nine subscribers per message
    /// when there are 200 of them, 8 publishers and 8 topics.
    pub fn filter(&self, subscriber: usize) -> Filter {
        let (round, kind) = (subscriber / 2 / 50, subscriber / 2 % 50);
        let turn = |of: u16, place: usize| (place % usize::from(of)) as u16;
        match kind {
            0 => Filter::All,
            1..=4 => Filter::Topic(turn(self.topics, 4 * round + kind - 1)),
            5..=10 => Filter::Publisher(turn(self.publishers, 6 * round + kind - 5)),
            _ => {
                let place = 39 * round + kind - 11;
                Filter::Exact(turn(self.publishers, place), turn(self.topics, place / usize::from(self.publishers)))
            }
        }
    }

    pub fn filter_text(&self, subscriber: usize) -> String {
        match self.filter(subscriber) {
            Filter::All => format!("{}/#", self.root),
            Filter::Topic(topic) => format!("{}/+/{topic}", self.root),
            Filter::Publisher(publisher) => format!("{}/{publisher}/+", self.root),
            Filter::Exact(publisher, topic) => self.topic(publisher, topic),
        }
    }

    pub fn presence(&self, subscriber: usize) -> Presence {
        match (subscriber % 2, subscriber / 2 % VISITORS) {
            (0, _) => Presence::Always,
            (_, 1) => Presence::Visits,
            _ => Presence::Never,
        }
    }

    /// Half of the clients of each kind speak 5.0.
    pub fn version(&self, subscriber: usize) -> Version {
        let pair = subscriber / 2;
        if (pair + pair / 50 + pair / VISITORS).is_multiple_of(2) { Version::V5 } else { Version::V311 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { root: "d".into(), publishers: 8, topics: 8, subscribers: 200 }
    }

    fn streams(plan: &Plan) -> impl Iterator<Item = Stream> {
        let topics = plan.topics;
        let each = (0..plan.publishers).flat_map(move |publisher| (0..topics).map(move |topic| (publisher, topic)));
        each.flat_map(|(publisher, topic)| [1, 2].map(|qos| Stream { publisher, topic, qos }))
    }

    fn matching(plan: &Plan, stream: Stream) -> impl Iterator<Item = usize> {
        (0..plan.subscribers).filter(move |&subscriber| plan.filter(subscriber).matches(stream))
    }

    #[test]
    fn each_message_reaches_several_subscribers_that_are_there_and_as_many_that_are_away() {
        let plan = plan();
        let mut copies = 0;
        for stream in streams(&plan) {
            let there = matching(&plan, stream).filter(|&one| plan.presence(one) == Presence::Always).count();
            let away = matching(&plan, stream).count() - there;
            assert!(there >= 2 && away == there, "{stream}: {there} there, {away} away");
            copies += there + away;
        }
        assert!((8..12).contains(&(copies / streams(&plan).count())), "{copies}");
    }

    #[test]
    fn a_filter_as_text_matches_what_the_filter_matches() {
        let plan = plan();
        for subscriber in 0..plan.subscribers {
            let text = plan.filter_text(subscriber);
            for stream in streams(&plan) {
                let topic = plan.topic(stream.publisher, stream.topic);
                let alike = text.ends_with('#')
                    || text.split('/').zip(topic.split('/')).all(|(level, name)| level == "+" || level == name);
                assert_eq!(plan.filter(subscriber).matches(stream), alike, "{text} and {topic}");
            }
        }
    }

    #[test]
    fn every_kind_of_subscriber_speaks_both_versions() {
        let plan = plan();
        for presence in [Presence::Always, Presence::Never, Presence::Visits] {
            for version in [Version::V311, Version::V5] {
                let some = |one: &usize| plan.presence(*one) == presence && plan.version(*one) == version;
                assert!((0..plan.subscribers).filter(some).count() >= 5, "{presence:?} {version:?}");
            }
        }
        let all = |one: &usize| plan.filter(*one) == Filter::All;
        let versions: Vec<Version> = (0..200).filter(all).map(|one| plan.version(one)).collect();
        assert!(versions.contains(&Version::V311) && versions.contains(&Version::V5));
    }

    #[test]
    fn a_payload_says_which_message_it_is() {
        let stream = Stream { publisher: 3, topic: 1, qos: 2 };
        assert_eq!(parse_payload(&payload(stream, 17)), Some((stream, 17)));
        for wrong in ["", "3.1.2", "3.1.2.17.0", "3.1.2.x", "3.1.2.-1"] {
            assert_eq!(parse_payload(wrong.as_bytes()), None);
        }
    }
}
