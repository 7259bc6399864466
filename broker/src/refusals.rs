//! Events of connections that were refused before they could claim a session: through token buckets, one for the node
//! and one for each source, so that a flood of bad logins cannot load the roster. What they hold back is counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;
use rollcall_cluster::Cluster;
use rollcall_proto::schema::roster::TurnedAway;

use crate::config;
use crate::connection::now_ms;
use crate::telemetry;

/// Sources remembered at once; when there are more, those that have been quiet are forgotten, and if that is not enough,
/// all.
const SOURCES: usize = 65_536;
/// Bytes of a client id or a username in an event: what a refused client sends may have 65,535.
const LONGEST: usize = 256;

#[derive(Debug)]
pub struct Refusals {
    rate: Rate,
    node: Mutex<Bucket>,
    sources: Mutex<HashMap<IpAddr, Bucket>>,
}

/// How many at once, and how many more each second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    per_second: u64,
}

/// Full at first. Counts thousandths of a token, which is what a millisecond brings at one a second.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    thousandths: u64,
    /// Milliseconds.
    at: u64,
}

impl Bucket {
    fn full(rate: Rate, now: u64) -> Self {
        Bucket { thousandths: rate.burst * 1000, at: now }
    }

    fn fill(&mut self, rate: Rate, now: u64) {
        let gained = now.saturating_sub(self.at).saturating_mul(rate.per_second);
        self.thousandths = self.thousandths.saturating_add(gained).min(rate.burst * 1000);
        self.at = now.max(self.at);
    }

    fn has_one(&self) -> bool {
        self.thousandths >= 1000
    }

    fn take(&mut self) {
        self.thousandths -= 1000;
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.thousandths >= rate.burst * 1000
    }
}

impl Refusals {
    pub fn new(events: &config::Events) -> Self {
        let rate = Rate { burst: events.refusal_burst, per_second: events.refusal_rate };
        Refusals { rate, node: Mutex::new(Bucket::full(rate, now_ms())), sources: Mutex::default() }
    }

    /// Makes the event, unless there were too many.
    pub async fn report(&self, cluster: &Cluster, source: IpAddr, who: TurnedAway) {
        if !self.admit(source, now_ms()) {
            metrics::counter!(telemetry::REFUSAL_EVENTS_DROPPED).increment(1);
            return;
        }
        let username = who.username.map(|name| cut(&name));
        let who = TurnedAway { client_id: cut(&who.client_id), username, ..who };
        if let Err(error) = cluster.turned_away(who).await {
            tracing::debug!(%error, "a refused connection has no event");
            metrics::counter!(telemetry::REFUSAL_EVENTS_DROPPED).increment(1);
        }
    }

    /// Takes a token of the source's and of the node's, or of neither.
    fn admit(&self, source: IpAddr, now: u64) -> bool {
        let rate = self.rate;
        let mut sources = self.sources.lock();
        let source = network_of(source);
        if sources.len() >= SOURCES && !sources.contains_key(&source) {
            make_room(&mut sources, rate, now);
        }
        let bucket = sources.entry(source).or_insert_with(|| Bucket::full(rate, now));
        bucket.fill(rate, now);
        let mut node = self.node.lock();
        node.fill(rate, now);
        let admitted = bucket.has_one() && node.has_one();
        if admitted {
            bucket.take();
            node.take();
        }
        admitted
    }
}

fn make_room(sources: &mut HashMap<IpAddr, Bucket>, rate: Rate, now: u64) {
    sources.retain(|_, bucket| {
        bucket.fill(rate, now);
        !bucket.is_full(rate)
    });
    if sources.len() >= SOURCES {
        sources.clear();
    }
}

/// One IPv6 host has a whole network of 64 bits to choose addresses from.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(burst: u64, per_second: u64) -> Refusals {
        let rate = Rate { burst, per_second };
        Refusals { rate, node: Mutex::new(Bucket::full(rate, 0)), sources: Mutex::default() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_gets_a_burst_and_then_its_rate() {
        let refusals = refusals(3, 10);
        let source = address("192.0.2.1");
        assert_eq!([0, 0, 0, 0].map(|now| refusals.admit(source, now)), [true, true, true, false]);
        assert!(!refusals.admit(source, 99));
        assert!(refusals.admit(source, 100));
        assert!(!refusals.admit(source, 150));
        assert_eq!(
            [10_000; 4].map(|now| refusals.admit(source, now)),
            [true, true, true, false],
            "no more than a burst"
        );
    }

    #[test]
    fn all_sources_together_get_no_more_than_the_node() {
        let refusals = refusals(3, 10);
        let admitted = (0..10).filter(|host| refusals.admit(IpAddr::from([192, 0, 2, *host]), 0)).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        assert_eq!(network_of(address("2001:db8::1")), network_of(address("2001:db8::ffff:1")));
        assert_ne!(network_of(address("2001:db8::1")), network_of(address("2001:db8:0:1::1")));
        assert_eq!(network_of(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn what_a_refused_client_sends_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(200)).len(), 256);
        assert_eq!(cut(&format!("x{}", "ä".repeat(200))).len(), 255);
    }

    #[test]
    fn the_sources_that_are_remembered_are_bounded() {
        let refusals = refusals(u64::from(u32::MAX), 0);
        for host in 0..=SOURCES as u32 {
            assert!(refusals.admit(IpAddr::from(host.to_be_bytes()), 0));
        }
        assert!(refusals.sources.lock().len() <= SOURCES);
    }
}
