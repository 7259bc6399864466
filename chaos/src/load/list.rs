//! For P6: lists all who are online, page by page, on any node.

use std::time::Duration;

use rand::rngs::SmallRng;
use serde_json::Value;

use crate::history::{Listing, Page};
use crate::load::Scene;

/// Small, so that much happens between the first page and the last.
const PAGE: usize = 10;

pub async fn work(scene: Scene, mut rng: SmallRng) {
    let Ok(http) = reqwest::Client::builder().timeout(Duration::from_secs(10)).build() else { return };
    while scene.working() {
        let port = scene.http[scene.any_node(&mut rng)];
        // A listing that a fault broke off says nothing.
        if let Some(listing) = list(&http, port).await {
            scene.recorder.add(|history| history.listings.push(listing));
        }
        scene.pause(&mut rng, 500..1_500).await;
    }
}

async fn list(http: &reqwest::Client, port: u16) -> Option<Listing> {
    let (mut listing, mut place) = (Listing::new(), String::new());
    loop {
        let url = format!("http://127.0.0.1:{port}/api/v1/sessions?online=true&limit={PAGE}{place}");
        let answer = http.get(url).send().await.ok()?.error_for_status().ok()?;
        let told: Value = answer.json().await.ok()?;
        let item = |item: &Value| Some((item["clientid"].as_str()?.to_owned(), item["epoch"].as_u64()?));
        let items = told["items"].as_array()?.iter().map(item).collect::<Option<Vec<_>>>()?;
        listing.push(Page { seq: told["seq"].as_u64()?, items });
        match told["next"].as_str() {
            None => return Some(listing),
            Some(next) => place = format!("&cursor={next}"),
        }
    }
}
