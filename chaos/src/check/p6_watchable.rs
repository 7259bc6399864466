//! P6: each page of a list is true at its `seq`, the pages have everybody who was there all the time, and who follows from
//! some `seq` misses nothing.

use std::collections::HashMap;

use crate::check::Verdict;
use crate::history::{History, Kind, Listing, Watch};

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P6 watchable");
    for watch in &history.watches {
        follows(watch, &mut verdict);
    }
    let presences = presences(history);
    for listing in &history.listings {
        true_at_its_place(listing, &presences, &mut verdict);
    }
    verdict
}

fn follows(watch: &Watch, verdict: &mut Verdict) {
    let mut last = watch.after;
    for &(seq, _) in &watch.seen {
        let again = watch.repeats && seq <= last;
        verdict.expect(seq == last + 1 || again, || format!("{} saw event {seq} after event {last}", watch.name));
        last = last.max(seq);
    }
}

/// By client id: from which event up to before which one it was connected, and by which epoch.
type Presences<'a> = HashMap<&'a str, Vec<(u64, u64, u64)>>;

fn presences(history: &History) -> Presences<'_> {
    let mut presences = Presences::new();
    for event in &history.events {
        let of_this = presences.entry(&event.client).or_default();
        match event.kind {
            Kind::Connected => of_this.push((event.seq, u64::MAX, event.epoch)),
            Kind::Disconnected => {
                if let Some(open) = of_this.last_mut().filter(|(_, _, epoch)| *epoch == event.epoch) {
                    open.1 = event.seq;
                }
            }
            Kind::Subscribed | Kind::Unsubscribed => {}
        }
    }
    presences
}

fn true_at_its_place(listing: &Listing, presences: &Presences<'_>, verdict: &mut Verdict) {
    let mut listed: HashMap<&str, u64> = HashMap::new();
    for page in listing {
        for (client, epoch) in &page.items {
            *listed.entry(client).or_default() += 1;
            let there = |(from, to, of): &(u64, u64, u64)| *from <= page.seq && page.seq < *to && of == epoch;
            let right = presences.get(client.as_str()).is_some_and(|all| all.iter().any(there));
            verdict.expect(right, || format!("the page at {} lists {client} with epoch {epoch}", page.seq));
        }
    }
    let seqs = || listing.iter().map(|page| page.seq);
    let (Some(first), Some(last)) = (seqs().min(), seqs().max()) else { return };
    for (client, all) in presences {
        let throughout = all.iter().any(|(from, to, _)| *from <= first && last < *to);
        let times = listed.get(client).copied().unwrap_or_default();
        if throughout {
            verdict.expect(times == 1, || format!("{client} is {times} times on the pages at {first} to {last}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::event;
    use crate::history::Kind::{Connected, Disconnected};
    use crate::history::Page;

    fn watched(seen: &[u64], repeats: bool) -> u64 {
        let seen = seen.iter().map(|&seq| (seq, 0)).collect();
        let watches = vec![Watch { name: "w".into(), after: 4, repeats, seen }];
        check(&History { watches, ..History::default() }).broken
    }

    #[test]
    fn a_watch_without_a_gap_passes_and_a_gap_or_a_repetition_is_found() {
        assert_eq!(watched(&[5, 6, 7], false), 0);
        assert_eq!(watched(&[5, 7], false), 1);
        assert_eq!(watched(&[6], false), 1, "the first is missing");
        assert_eq!(watched(&[5, 6, 6], false), 1);
        assert_eq!(watched(&[5, 6, 5, 6, 7], true), 0);
        assert_eq!(watched(&[5, 6, 5, 7, 9], true), 1);
    }

    fn listed(pages: &[(u64, &[(&str, u64)])]) -> u64 {
        let events = vec![
            event(1, Connected, "a", 1),
            event(2, Connected, "b", 1),
            event(3, Disconnected, "a", 1),
            event(4, Connected, "a", 2),
        ];
        let page = |(seq, items): &(u64, &[(&str, u64)])| Page {
            seq: *seq,
            items: items.iter().map(|(client, epoch)| ((*client).to_owned(), *epoch)).collect(),
        };
        let listings = vec![pages.iter().map(page).collect()];
        check(&History { events, listings, ..History::default() }).broken
    }

    #[test]
    fn pages_that_are_true_at_their_place_pass() {
        assert_eq!(listed(&[(2, &[("a", 1), ("b", 1)])]), 0);
        assert_eq!(listed(&[(2, &[("b", 1)]), (4, &[("a", 2)])]), 0);
        assert_eq!(listed(&[(2, &[("b", 1)]), (4, &[])]), 0, "a was not there all the time");
    }

    #[test]
    fn a_page_that_contradicts_the_events_is_found() {
        assert_eq!(listed(&[(3, &[("a", 1), ("b", 1)])]), 1, "a had left");
        assert_eq!(listed(&[(4, &[("a", 1), ("b", 1)])]), 1, "an older epoch");
        assert_eq!(listed(&[(2, &[("a", 1)])]), 1, "b is missing");
        assert_eq!(listed(&[(2, &[("b", 1)]), (4, &[("b", 1), ("a", 2)])]), 1, "b twice");
    }
}
