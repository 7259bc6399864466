use super::*;

fn ids(chosen: &[(u64, Bytes)]) -> Vec<u64> {
    chosen.iter().map(|(id, _)| *id).collect()
}

#[test]
fn the_oldest_are_spilled_first_until_it_is_enough() {
    let mut bench = Bench::with(&["x"]);
    for _ in 0..4 {
        bench.enqueue(&["x"], "0123456789");
    }
    let size = bench.shard.memory() / 4;
    let chosen = bench.shard.to_spill(size + 1);
    assert_eq!(ids(&chosen), [1, 2]);
    assert_eq!(ids(&bench.shard.to_spill(1)), [1], "what nobody has confirmed is named again");
    assert!(bench.shard.to_spill(0).is_empty());
    assert!(bench.shard.spilled(&ids(&chosen)).is_empty());
    bench.shard.check();
    assert_eq!(bench.shard.memory(), 2 * size);
    assert_eq!(bench.told("x"), ["1:spilled 1", "2:spilled 2", "3:0123456789", "4:0123456789"]);
    assert_eq!(ids(&bench.shard.to_spill(u64::MAX)), [3, 4]);
}

#[test]
fn some_that_are_spilled_out_of_turn_do_not_hide_those_before_them() {
    let mut bench = Bench::with(&["x"]);
    for _ in 0..4 {
        bench.enqueue(&["x"], "m");
    }
    bench.shard.spilled(&[2, 4]);
    assert_eq!(ids(&bench.shard.to_spill(u64::MAX)), [1, 3]);
    bench.shard.spilled(&[1, 3]);
    bench.enqueue(&["x"], "m");
    assert_eq!(ids(&bench.shard.to_spill(u64::MAX)), [5]);
}

#[test]
fn a_spilled_body_is_named_when_its_last_holder_lets_go() {
    let mut bench = Bench::with(&["x", "y"]);
    bench.enqueue(&["x", "y"], "a");
    bench.enqueue(&["x"], "b");
    bench.shard.spilled(&[1]);
    let done_by = |bench: &mut Bench, client_id, positions: &[u64]| {
        let acknowledge = Acknowledge { done: positions.into(), ..acknowledging(client_id, 1, 1) };
        bench.run(command::Kind::Acknowledge(acknowledge)).1.freed
    };
    assert!(done_by(&mut bench, "x", &[1, 2]).is_empty(), "y still has the one, the other was never spilled");
    assert_eq!(done_by(&mut bench, "y", &[1]), [1]);
}

#[test]
fn a_body_that_went_while_it_was_being_spilled_is_given_back() {
    let mut bench = Bench::with(&["x"]);
    bench.enqueue(&["x"], "a");
    bench.enqueue(&["x"], "b");
    let chosen = bench.shard.to_spill(u64::MAX);
    bench.acknowledge("x", &[1], &[], 1);
    assert_eq!(bench.shard.spilled(&ids(&chosen)), [1]);
}

#[test]
fn a_body_keeps_no_log_entry_alive() {
    let mut bench = Bench::with(&["x"]);
    let entry = Bytes::from(vec![b'e'; 100_000]);
    let enqueue = Enqueue { message: entry.slice(10..20), ..enqueue(&["x"], "") };
    bench.run(command::Kind::Enqueue(enqueue));
    assert!(entry.is_unique());
}

#[test]
fn a_clone_keeps_what_the_shard_frees() {
    let mut bench = Bench::with(&["x"]);
    for number in 0..300 {
        bench.enqueue(&["x"], &number.to_string());
    }
    let snapshot = bench.shard.clone();
    bench.acknowledge("x", &(1..=300).collect::<Vec<_>>(), &[], 300);
    assert_eq!((bench.shard.body_count(), snapshot.body_count()), (0, 300));
    snapshot.check();
    assert_eq!(snapshot.read("x", 1, 299, 10).len(), 1);
}
