//! P3: what is published on any node after the SUBACK reaches the subscriber, after the UNSUBACK nothing does, and a
//! retained message is there for everybody after its PUBACK.

use crate::check::Verdict;
use crate::history::{History, Wanted};
use crate::run::schedule::Fault;

pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::new("P3 SUBACK means everywhere");
    for round in &history.rounds {
        let (topic, here, there, published) = (&round.topic, round.here, round.there, round.published);
        match round.wanted {
            Wanted::Nothing => verdict.expect(!round.arrived, || {
                format!(
                    "{topic} from node-{there} came to node-{here}, published at {published:.1?} after the UNSUBACK"
                )
            }),
            // What a node had taken for clean sessions dies with it; what was retained is kept by a majority.
            Wanted::Live if !round.arrived && history.hurt(there, published, round.ended, Fault::ends_processes) => {}
            Wanted::Live | Wanted::Retained if round.broke => {}
            Wanted::Live => verdict.expect(round.arrived, || {
                format!("{topic} from node-{there}, published at {published:.1?}, did not come to node-{here}")
            }),
            Wanted::Retained => verdict.expect(round.arrived, || {
                format!("{topic}, retained by node-{there} at {published:.1?}, was not there at node-{here}")
            }),
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{s, span};
    use crate::history::Round;

    fn judge(wanted: Wanted, arrived: bool, broke: bool, fault: Option<(Fault, usize)>) -> (u64, u64) {
        let (published, ended) = (s(10), s(40));
        let round = Round { wanted, topic: "t".into(), here: 0, there: 1, published, ended, arrived, broke };
        let spans = fault.map(|(fault, node)| span(fault, &[node], 20, 22)).into_iter().collect();
        let verdict = check(&History { rounds: vec![round], spans, ..History::default() });
        (verdict.checked, verdict.broken)
    }

    #[test]
    fn what_arrives_passes_and_a_subscriber_that_misses_a_publish_is_found() {
        assert_eq!(judge(Wanted::Live, true, false, None), (1, 0));
        assert_eq!(judge(Wanted::Live, false, false, None), (1, 1));
        assert_eq!(judge(Wanted::Live, false, true, None), (0, 0), "the subscriber had lost its connection");
    }

    #[test]
    fn only_the_death_of_the_publishers_node_excuses_a_loss() {
        assert_eq!(judge(Wanted::Live, false, false, Some((Fault::Kill, 1))), (0, 0));
        assert_eq!(judge(Wanted::Live, false, false, Some((Fault::Kill, 2))), (1, 1));
        assert_eq!(judge(Wanted::Live, false, false, Some((Fault::Partition, 1))), (1, 1));
        assert_eq!(judge(Wanted::Retained, false, false, Some((Fault::Kill, 1))), (1, 1));
    }

    #[test]
    fn what_comes_after_an_unsuback_is_found() {
        assert_eq!(judge(Wanted::Nothing, false, false, None), (1, 0));
        assert_eq!(judge(Wanted::Nothing, true, true, None), (1, 1));
    }
}
