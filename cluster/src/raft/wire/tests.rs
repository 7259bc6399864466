use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>(), any::<u64>())
        .prop_map(|(term, node, index)| to_log_id(&wire::LogId { term, node, index }))
}

fn vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>())
        .prop_map(|(term, node_id, committed)| Vote { leader_id: LeaderId { term, node_id }, committed })
}

fn membership() -> impl Strategy<Value = Membership<u64, Member>> {
    let member = ("[a-z0-9.:]{0,20}", "\\PC{0,8}").prop_map(|(rpc_address, name)| Member { rpc_address, name });
    (btree_map(any::<u64>(), member, 1..6), vec(vec(any::<prop::sample::Index>(), 1..6), 1..3)).prop_map(
        |(members, configs)| {
            let ids: Vec<u64> = members.keys().copied().collect();
            let configs: Vec<BTreeSet<u64>> =
                configs.iter().map(|config| config.iter().map(|at| *at.get(&ids)).collect()).collect();
            Membership::new(configs, members).unwrap()
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let stamped = (any::<u64>(), vec(any::<u8>(), 0..50))
        .prop_map(|(time, batch)| EntryPayload::Normal(Stamped { time, batch: batch.into() }));
    let payload = prop_oneof![Just(EntryPayload::Blank), stamped, membership().prop_map(EntryPayload::Membership)];
    (log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

fn over_the_wire<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_is_the_same_behind_the_wire(entry in entry()) {
        let arrived = to_entry(over_the_wire(&from_entry(&entry))).unwrap();
        prop_assert_eq!(arrived.log_id, entry.log_id);
        prop_assert_eq!(arrived.payload, entry.payload);
    }

    #[test]
    fn a_vote_is_the_same_behind_the_wire(vote in vote()) {
        prop_assert_eq!(to_vote(Some(over_the_wire(&from_vote(&vote)))).unwrap(), vote);
    }

    #[test]
    fn a_snapshots_description_is_the_same_behind_the_wire(
        last_log_id in proptest::option::of(log_id()),
        at in proptest::option::of(log_id()),
        membership in membership(),
        seq in any::<u64>(),
    ) {
        let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::new(at, membership) };
        let arrived = over_the_wire(&from_snapshot_meta(&meta, seq));
        prop_assert_eq!((to_snapshot_meta(&arrived).unwrap(), arrived.seq), (meta, seq));
    }
}

#[test]
fn what_is_missing_is_named() {
    assert!(to_vote(None).unwrap_err().to_string().contains("vote"));
    assert!(to_entry(wire::Entry::default()).unwrap_err().to_string().contains("log id"));
    assert!(to_snapshot_meta(&wire::SnapshotMeta::default()).unwrap_err().to_string().contains("membership"));
}

#[test]
fn a_voter_that_is_no_member_is_refused() {
    let membership = wire::Membership { configs: vec![wire::Voters { ids: vec![1] }], members: Vec::new() };
    assert!(matches!(to_membership(&membership), Err(WireError::Membership(_))));
}
