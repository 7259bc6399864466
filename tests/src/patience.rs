//! Bounded waiting for what other processes bring about.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition in another process is looked at: there is nothing to be woken by.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, and panics with `what` and the last complaint when that takes longer than `limit`.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        let complaint = match ask().await {
            Ok(answer) => return answer,
            Err(complaint) => complaint,
        };
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}: {complaint}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
