//! Whether what came is what was owed (P4): a pure judgement of two histories.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::durable::plan::{Plan, Stream};

/// How many findings of a kind are told in words, in all and of one subscriber; all are counted.
const EXAMPLES: usize = 10;
const EXAMPLES_EACH: usize = 2;

/// One stream as its publisher knows it: for each message, by its number, when it was acknowledged, if it was.
pub type Published = Vec<Option<Duration>>;

/// What was published.
#[derive(Debug, Default)]
pub struct Sent(pub BTreeMap<Stream, Published>);

/// What one subscriber received: the numbers of each stream's messages in the order they came in.
#[derive(Debug, Default)]
pub struct Received(pub BTreeMap<Stream, Vec<u32>>);

impl Received {
    pub fn count(&self) -> u64 {
        self.0.values().map(|numbers| numbers.len() as u64).sum()
    }
}

/// One way to break the promise, how often it happened, and to whom.
#[derive(Debug, Default)]
pub struct Broken {
    pub count: u64,
    examples: Vec<(usize, String)>,
}

impl Broken {
    fn add(&mut self, count: u64, subscriber: usize, what: impl FnOnce() -> String) {
        self.count += count;
        let of_this_one = self.examples.iter().filter(|(other, _)| *other == subscriber).count();
        if self.examples.len() < EXAMPLES && of_this_one < EXAMPLES_EACH {
            self.examples.push((subscriber, what()));
        }
    }
}

impl Broken {
    /// Some of them in words.
    pub fn examples(&self) -> Vec<String> {
        self.examples.iter().map(|(subscriber, what)| format!("subscriber {subscriber}, {what}")).collect()
    }
}

/// What one look at the histories found.
#[derive(Debug, Default)]
pub struct Judgement {
    pub acknowledged: u64,
    /// Acknowledged messages, each as often as it has subscribers.
    pub owed: u64,
    pub delivered: u64,
    /// QoS 1 messages that came again, as they may.
    pub duplicates: u64,
    /// Owed, and did not come.
    pub lost: Broken,
    /// QoS 2 messages that came again.
    pub repeated: Broken,
    /// First came after a later one of its stream.
    pub reordered: Broken,
    /// Came without having been sent, or to whom it was not meant.
    pub ghosts: Broken,
}

impl Judgement {
    pub fn of<'a>(plan: &Plan, sent: &Sent, received: impl Iterator<Item = &'a Received>) -> Self {
        let mut judgement = Self::default();
        for published in sent.0.values() {
            judgement.acknowledged += published.iter().flatten().count() as u64;
        }
        for (subscriber, received) in received.enumerate() {
            judgement.delivered += received.count();
            let filter = plan.filter(subscriber);
            for (&stream, published) in sent.0.iter().filter(|(stream, _)| filter.matches(**stream)) {
                let arrived = received.0.get(&stream).map_or(&[][..], Vec::as_slice);
                judgement.stream(subscriber, stream, published, arrived);
            }
            for (stream, arrived) in &received.0 {
                if !filter.matches(*stream) || !sent.0.contains_key(stream) {
                    let what = || format!("{stream}: numbers {arrived:?} came to one who did not subscribe");
                    judgement.ghosts.add(arrived.len() as u64, subscriber, what);
                }
            }
        }
        judgement
    }

    fn stream(&mut self, subscriber: usize, stream: Stream, published: &Published, arrived: &[u32]) {
        let mut seen = vec![false; published.len()];
        // One above the highest number that has come.
        let mut next = 0;
        for &number in arrived {
            match seen.get_mut(number as usize) {
                None => {
                    let what = || format!("{stream}: number {number} came, {} were sent", published.len());
                    self.ghosts.add(1, subscriber, what);
                }
                Some(true) if stream.qos == 2 => {
                    self.repeated.add(1, subscriber, || format!("{stream}: number {number} came again"));
                }
                Some(true) => self.duplicates += 1,
                Some(first) => {
                    *first = true;
                    if number < next {
                        let what = || format!("{stream}: number {number} came after number {}", next - 1);
                        self.reordered.add(1, subscriber, what);
                    }
                    next = next.max(number + 1);
                }
            }
        }
        let acknowledged =
            (0u32..).zip(published.iter().zip(seen)).filter_map(|(number, (at, seen))| Some((number, (*at)?, seen)));
        let (mut missing, mut first) = (0, None);
        for (number, at, seen) in acknowledged {
            self.owed += 1;
            if !seen {
                missing += 1;
                first = first.or(Some((number, at)));
            }
        }
        if let Some((number, at)) = first {
            let sent = published.len();
            let what =
                || format!("{stream}: {missing} of {sent} lost, first number {number}, acknowledged at {at:.1?}");
            self.lost.add(missing, subscriber, what);
        }
    }

    /// What went wrong, and what that is called.
    pub fn broken(&self) -> [(&Broken, &'static str); 4] {
        [
            (&self.lost, "acknowledged messages lost"),
            (&self.repeated, "repeated at QoS 2"),
            (&self.reordered, "out of order"),
            (&self.ghosts, "that nobody sent there"),
        ]
    }

    /// # Errors
    /// What was promised otherwise.
    pub fn verdict(&self) -> Result<(), String> {
        let all = self.broken();
        if all.iter().all(|(broken, _)| broken.count == 0) {
            return Ok(());
        }
        for example in all.iter().flat_map(|(broken, _)| broken.examples()) {
            eprintln!("chaos: {example}");
        }
        Err(format!("P4: {}", all.map(|(broken, what)| format!("{} {what}", broken.count)).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS_1: Stream = Stream { publisher: 0, topic: 0, qos: 1 };
    const QOS_2: Stream = Stream { publisher: 0, topic: 0, qos: 2 };

    /// One subscriber, which hears everything.
    fn plan() -> Plan {
        Plan { root: "d".into(), publishers: 1, topics: 1, subscribers: 1 }
    }

    fn published(acknowledged: &[bool]) -> Published {
        acknowledged.iter().map(|yes| yes.then_some(Duration::from_secs(1))).collect()
    }

    fn judge(stream: Stream, acknowledged: &[bool], arrived: &[u32]) -> Judgement {
        let sent = Sent([(stream, published(acknowledged))].into());
        let received = Received([(stream, arrived.to_vec())].into());
        Judgement::of(&plan(), &sent, [received].iter())
    }

    #[test]
    fn what_was_owed_and_came_in_order_passes() {
        let judgement = judge(QOS_2, &[true, true, true], &[0, 1, 2]);
        assert!(judgement.verdict().is_ok());
        assert_eq!((judgement.acknowledged, judgement.owed, judgement.delivered), (3, 3, 3));
        assert!(judge(QOS_1, &[true, true, true], &[0, 1, 2]).verdict().is_ok());
    }

    #[test]
    fn a_lost_message_is_found_at_either_qos() {
        for stream in [QOS_1, QOS_2] {
            let judgement = judge(stream, &[true, true, true, true], &[0, 3]);
            assert_eq!(judgement.lost.count, 2);
            assert!(judgement.verdict().is_err());
            assert_eq!(judgement.lost.examples.len(), 1, "one line per stream");
            assert_eq!(judge(stream, &[true, true], &[0]).lost.count, 1);
            assert_eq!(judge(stream, &[true], &[]).lost.count, 1);
        }
    }

    #[test]
    fn a_subscriber_that_received_nothing_at_all_lost_everything() {
        let sent = Sent([(QOS_1, published(&[true; 5]))].into());
        assert_eq!(Judgement::of(&plan(), &sent, [Received::default()].iter()).lost.count, 5);
    }

    #[test]
    fn a_message_without_acknowledgement_may_come_or_not() {
        for stream in [QOS_1, QOS_2] {
            assert!(judge(stream, &[true, false, true], &[0, 2]).verdict().is_ok());
            assert!(judge(stream, &[true, false, true], &[0, 1, 2]).verdict().is_ok());
        }
    }

    #[test]
    fn a_duplicate_is_allowed_at_qos_1_and_found_at_qos_2() {
        let again = judge(QOS_1, &[true, true], &[0, 1, 0, 1]);
        assert!(again.verdict().is_ok());
        assert_eq!(again.duplicates, 2);
        let again = judge(QOS_2, &[true, true], &[0, 1, 1]);
        assert_eq!(again.repeated.count, 1);
        assert!(again.verdict().is_err());
        assert_eq!(judge(QOS_2, &[true, false], &[0, 1, 1]).repeated.count, 1, "acknowledged or not");
    }

    #[test]
    fn a_reordering_is_found_at_either_qos() {
        for stream in [QOS_1, QOS_2] {
            let judgement = judge(stream, &[true, true, true], &[0, 2, 1]);
            assert_eq!((judgement.reordered.count, judgement.lost.count), (1, 0));
            assert!(judgement.verdict().is_err());
        }
    }

    #[test]
    fn a_message_that_nobody_sent_is_found() {
        assert_eq!(judge(QOS_1, &[true], &[0, 1]).ghosts.count, 1);
        let sent = Sent::default();
        let received = Received([(QOS_2, vec![0])].into());
        assert_eq!(Judgement::of(&plan(), &sent, [received].iter()).ghosts.count, 1);
    }

    #[test]
    fn a_message_to_one_who_did_not_subscribe_is_found() {
        let plan = Plan { root: "d".into(), publishers: 2, topics: 1, subscribers: 24 };
        let other = Stream { publisher: 1, ..QOS_1 };
        let sent = Sent([(other, published(&[true]))].into());
        let hears = |subscriber: usize| plan.filter(subscriber).matches(other);
        assert!(!hears(22), "it listens to publisher 0 only");
        let got = |subscriber: usize| Received([(other, vec![0])].into_iter().filter(|_| hears(subscriber)).collect());
        let mut all: Vec<Received> = (0..24).map(got).collect();
        assert!(Judgement::of(&plan, &sent, all.iter()).verdict().is_ok());
        all[22].0.insert(other, vec![0]);
        assert_eq!(Judgement::of(&plan, &sent, all.iter()).ghosts.count, 1);
    }

    #[test]
    fn many_findings_are_all_counted_and_some_are_told() {
        let plan = Plan { root: "d".into(), publishers: 1, topics: 1, subscribers: 20 };
        let sent = Sent([(QOS_2, published(&[true; 100]))].into());
        let again = || Received([(QOS_2, [vec![0; 100], (1..100).collect()].concat())].into());
        let all: Vec<Received> = (0..20).map(|_| again()).collect();
        let judgement = Judgement::of(&plan, &sent, all.iter());
        assert_eq!((judgement.repeated.count, judgement.repeated.examples.len()), (20 * 99, EXAMPLES));
        assert_eq!(
            judgement.repeated.examples.iter().filter(|(subscriber, _)| *subscriber == 3).count(),
            EXAMPLES_EACH
        );
    }
}
