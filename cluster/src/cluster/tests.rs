//! One node alone, with a real disk and port.

mod shards;

use futures_util::FutureExt as _;
use rollcall_proto::schema::roster::{Event, event};
use tempfile::TempDir;

use super::*;
use crate::testing::{Nobody, config};

const PATIENCE: Duration = Duration::from_secs(20);

async fn started(dir: &TempDir) -> Cluster {
    let config = Config { data_dir: dir.path().into(), ..config(Duration::from_secs(2)) };
    let cluster = Cluster::start(config, Arc::new(Nobody)).await.unwrap();
    let mut lease = cluster.leases().watch();
    timeout(PATIENCE, lease.wait_for(|_| cluster.readiness().is_ok())).await.unwrap().unwrap();
    cluster
}

fn claim(client_id: &str) -> Claim {
    Claim { client_id: client_id.into(), session_expiry: 60, ..Claim::default() }
}

async fn granted(cluster: &Cluster, client_id: &str) -> u64 {
    match cluster.claim(claim(client_id)).await {
        Ok(Claimed::Granted { epoch, .. }) => epoch,
        Ok(Claimed::Refused(reason)) => panic!("refused: {reason:?}"),
        Err(error) => panic!("{error}"),
    }
}

/// The events up to that number, once they are there.
async fn events(cluster: &Cluster, until: u64) -> Vec<Event> {
    let mut last = cluster.events().watch();
    timeout(PATIENCE, last.wait_for(|last| *last >= until)).await.unwrap().unwrap();
    cluster.events().read(0, 1000).unwrap().iter().map(|record| record.event.clone()).collect()
}

fn ends(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.body, Some(event::Body::Disconnected(_)))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_caller_goes_is_given_back_though_nothing_else_happens() {
    let dir = TempDir::new().unwrap();
    let cluster = started(&dir).await;
    let mut asking = Box::pin(cluster.claim(claim("gone")));
    assert!(asking.as_mut().now_or_never().is_none());
    drop(asking);
    let events = events(&cluster, 2).await;
    assert_eq!((events.len(), ends(&events)), (2, 1));
    assert_eq!(cluster.roster().connections(), 0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_answered_and_never_read_is_given_back() {
    let dir = TempDir::new().unwrap();
    let cluster = started(&dir).await;
    let mut asking = Box::pin(cluster.claim(claim("gone")));
    assert!(asking.as_mut().now_or_never().is_none());
    let applied = events(&cluster, 1).await;
    assert_eq!(ends(&applied), 0);
    // Answered behind the event: another command's answer says that it was.
    cluster.kick("nobody", false).await.unwrap();
    drop(asking);
    assert_eq!(ends(&events(&cluster, 2).await), 1);
    assert_eq!(cluster.roster().connections(), 0);
    cluster.shutdown().await;
}

/// Of all groups.
fn terms(cluster: &Cluster) -> Vec<u64> {
    cluster.groups().iter().map(|group| group.term).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let cluster = started(&dir).await;
    let epoch = granted(&cluster, "x").await;
    let to = Subscription { filter: "a/b".into(), options: None };
    assert_eq!(
        cluster.subscribe("x", epoch, vec![to], 0).await,
        Ok(Subscribed::After { seq: 1, existed: vec![false] })
    );
    let before = events(&cluster, 2).await;
    let terms = terms(&cluster);
    cluster.shutdown().await;
    let config = cluster.config().clone();
    drop(cluster);
    // The old node's tasks end in their own time, and with them its lock on the directory.
    let again = timeout(PATIENCE, async {
        loop {
            match Cluster::start(config.clone(), Arc::new(Nobody)).await {
                Ok(cluster) => return cluster,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let again = again.await.unwrap();
    let mut lease = again.leases().watch();
    timeout(PATIENCE, lease.wait_for(|_| again.readiness().is_ok())).await.unwrap().unwrap();
    assert_eq!(events(&again, 2).await[..2], before[..]);
    let session = again.roster().session("x").cloned().unwrap();
    assert_eq!(session.subscriptions.keys().map(|filter| &**filter).collect::<Vec<_>>(), ["a/b"]);
    let ended = events(&again, 3).await;
    assert_eq!(ends(&ended), 1, "the connection died with its node");
    // What it had logged last and not synced may be known to others: only a new term keeps the two apart.
    let later = self::terms(&again);
    assert!(terms.iter().zip(&later).all(|(old, new)| old < new), "{terms:?} {later:?}");
    assert_eq!(terms.len(), later.len());
    again.shutdown().await;
}
