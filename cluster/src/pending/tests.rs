use futures_util::FutureExt as _;
use rollcall_proto::schema::roster::{Claim, Done, Granted, Kick};

use super::*;

fn asked(kind: command::Kind) -> (Asked, oneshot::Receiver<Answer>) {
    let (reply, answer) = oneshot::channel();
    (Asked { command: Command { kind: Some(kind) }, reply }, answer)
}

fn claim(client_id: &str) -> (Asked, oneshot::Receiver<Answer>) {
    asked(command::Kind::Claim(Claim { client_id: client_id.into(), ..Claim::default() }))
}

fn kick() -> (Asked, oneshot::Receiver<Answer>) {
    asked(command::Kind::Kick(Kick::default()))
}

fn granted(epoch: u64) -> Outcome {
    Outcome { kind: Some(outcome::Kind::Granted(Granted { epoch, session_present: false, ..Granted::default() })) }
}

fn done() -> Outcome {
    Outcome { kind: Some(outcome::Kind::Done(Done {})) }
}

/// Client ids and epochs that are to be released.
fn given_back(pending: &Pending) -> Vec<(String, u64)> {
    pending
        .take_abandoned()
        .into_iter()
        .map(|command| match command.kind {
            Some(command::Kind::Release(release)) => (release.client_id, release.epoch),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn each_caller_gets_the_outcome_of_its_own_command() {
    let pending = Pending::default();
    let ((first, mut one), (second, mut two)) = (claim("x"), kick());
    pending.put(1, 4, vec![first, second]);
    assert!(pending.is_for(1, 4) && !pending.flight().is_empty());
    pending.settle(1, 4, 99, &[granted(7), done()]);
    let one = one.try_recv().unwrap();
    assert!(matches!(one.outcome, outcome::Kind::Granted(Granted { epoch: 7, .. })));
    assert_eq!(one.index, 99);
    assert!(matches!(two.try_recv().unwrap().outcome, outcome::Kind::Done(_)));
    assert!(pending.flight().is_empty());
}

#[test]
fn the_outcomes_of_another_batch_answer_nobody() {
    let pending = Pending::default();
    let (first, mut answer) = kick();
    pending.put(2, 4, vec![first]);
    for (epoch, number) in [(2, 3), (2, 5), (1, 4), (0, 4)] {
        pending.settle(epoch, number, 99, &[done()]);
        assert!(answer.try_recv().is_err() && !pending.flight().is_empty());
    }
    pending.settle(2, 4, 100, &[done()]);
    assert_eq!(answer.try_recv().unwrap().index, 100);
    pending.settle(2, 4, 101, &[done()]);
}

#[test]
fn a_claim_granted_after_its_caller_had_gone_is_given_back() {
    let pending = Pending::default();
    let ((first, gone), (second, kept), (third, also_gone)) = (claim("x"), claim("y"), kick());
    drop((gone, also_gone));
    pending.put(1, 1, vec![first, second, third]);
    pending.settle(1, 1, 9, &[granted(3), granted(4), done()]);
    assert_eq!(given_back(&pending), [("x".into(), 3)]);
    drop(kept);
    assert_eq!(given_back(&pending), [("y".into(), 4)], "an answer that nobody reads is no connection either");
}

#[test]
fn a_claim_whose_caller_goes_with_the_answer_in_its_hands_is_given_back() {
    let pending = Pending::default();
    let ((first, mut taken), (second, mut dropped)) = (claim("x"), claim("y"));
    pending.put(1, 1, vec![first, second]);
    pending.settle(1, 1, 9, &[granted(3), granted(4)]);
    taken.try_recv().unwrap().ticket.unwrap().take();
    assert!(!pending.has_abandoned());
    drop(dropped.try_recv().unwrap());
    assert!(pending.has_abandoned());
    assert_eq!(given_back(&pending), [("y".into(), 4)]);
    assert!(!pending.has_abandoned());
}

#[test]
fn whoever_sends_batches_hears_of_a_claim_left_behind_without_any_other_command() {
    let pending = Pending::default();
    assert!(pending.left_behind().now_or_never().is_none());
    let (first, gone) = claim("x");
    drop(gone);
    pending.put(1, 1, vec![first]);
    pending.settle(1, 1, 9, &[granted(3)]);
    assert!(pending.left_behind().now_or_never().is_some());
}

#[test]
fn a_refused_claim_leaves_nothing_to_give_back() {
    let pending = Pending::default();
    let (first, gone) = claim("x");
    drop(gone);
    pending.put(1, 1, vec![first]);
    let refused = Outcome { kind: Some(outcome::Kind::Refused(Reason::TooManyConnection.into())) };
    pending.settle(1, 1, 9, &[refused]);
    assert!(!pending.has_abandoned());
}

#[test]
fn abandoning_a_batch_ends_its_replies_and_wakes_who_waits_for_it() {
    let pending = Pending::default();
    let settled = pending.flight().watch();
    let (first, mut answer) = kick();
    pending.put(1, 1, vec![first]);
    pending.abandon();
    assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(settled.has_changed().unwrap() && pending.flight().is_empty());
}

#[test]
fn an_ended_epoch_has_nothing_to_give_back() {
    let pending = Pending::default();
    let (first, gone) = claim("x");
    drop(gone);
    pending.put(1, 1, vec![first]);
    pending.settle(1, 1, 9, &[granted(3)]);
    pending.abandon();
    assert!(!pending.has_abandoned(), "its sessions are orphans now");
}

#[test]
fn callers_beyond_the_outcomes_learn_that_there_is_no_answer() {
    let pending = Pending::default();
    let ((first, mut one), (second, mut two)) = (kick(), kick());
    pending.put(1, 1, vec![first, second]);
    pending.settle(1, 1, 9, &[done()]);
    assert!(one.try_recv().is_ok());
    assert!(matches!(two.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}
