//! What waits for sessions that are away comes completely, however much more it is than memory may hold.

use rollcall_tests::backlog::Backlog;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_larger_than_memory_drains_completely_and_gives_the_disk_back() {
    let (messages, inbox_memory) = (150, 4 << 20);
    let backlog = Backlog { nodes: 3, sessions: 100, messages, payload: 8 << 10, inbox_memory };
    let report = backlog.run(|_| {}).await;
    println!("{report}");
    let queued = u64::from(backlog.sessions * backlog.messages) * backlog.payload as u64;
    assert!(report.disk_full > queued, "all of it was on disk");
    assert!(report.memory < 1 << 30);
}
