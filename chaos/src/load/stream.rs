//! For P5, P6 and P8: readers of the event stream over HTTP, which go on where they stopped, on another node after a break.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::history::{Watch, digest};
use crate::load::Scene;
use crate::mqtt::wire::Publish;

const AGAIN: Duration = Duration::from_millis(100);
/// A comment comes at least every so often from a node that lives.
const SILENCE: Duration = Duration::from_secs(20);

/// Follows from the very first event until told that it is over.
pub async fn follow(scene: Scene, first: usize, over: watch::Receiver<bool>) -> Watch {
    let mut watch = Watch { name: format!("the stream that began at node-{first}"), ..Watch::default() };
    let mut stop = over.clone();
    let Ok(http) = reqwest::Client::builder().connect_timeout(Duration::from_secs(2)).build() else { return watch };
    let mut node = first;
    while !*over.borrow() {
        tokio::select! {
            // However it ended, it goes on from what it has.
            _ = stream(&http, scene.http[node], &mut watch) => {}
            _ = stop.wait_for(|over| *over) => break,
        }
        node = (node + 1) % scene.nodes();
        tokio::time::sleep(AGAIN).await;
    }
    watch
}

async fn stream(http: &reqwest::Client, port: u16, watch: &mut Watch) -> Option<()> {
    let after = watch.seen.last().map_or(watch.after, |(seq, _)| *seq);
    let url = format!("http://127.0.0.1:{port}/api/v1/events?after={after}");
    let asked = http.get(url).header("accept", "text/event-stream").send();
    let mut answer = tokio::time::timeout(SILENCE, asked).await.ok()?.ok()?.error_for_status().ok()?;
    let mut text = Vec::new();
    loop {
        text.extend(tokio::time::timeout(SILENCE, answer.chunk()).await.ok()?.ok()??);
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = text.drain(..=end).collect();
        let lines = String::from_utf8(lines).ok()?;
        for data in lines.lines().filter_map(|line| line.strip_prefix("data:")) {
            if let Some(seen) = event(data.as_bytes()) {
                watch.seen.push(seen);
            }
        }
    }
}

fn event(json: &[u8]) -> Option<(u64, u64)> {
    let event: Value = serde_json::from_slice(json).ok()?;
    Some((event["seq"].as_u64()?, digest(&event)))
}

/// What a subscriber of `$events/#` saw: it begins with the first event that came.
pub fn take(watch: &mut Watch, message: &Publish) {
    if let Some((seq, digest)) = event(&message.payload) {
        if watch.seen.is_empty() {
            watch.after = seq - 1;
        }
        watch.seen.push((seq, digest));
    }
}
