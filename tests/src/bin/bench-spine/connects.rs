//! Connects in waves: everybody connects, then everybody leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rollcall_tests::bench::{Broker, Figure};
use rollcall_tests::client::{Options, RawClient};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const WAVE: usize = 1_000;
/// Connects, and disconnects, under way at one moment.
const AT_ONCE: usize = 100;

/// What a connect costs, and what a connect and its disconnect cost together.
pub async fn measure(broker: &Broker, time: Duration) -> (Figure, Figure) {
    let (mut connecting, mut cycle) = (Figure::default(), Figure::default());
    let until = Instant::now() + time;
    let mut wave = 0;
    while Instant::now() < until {
        let (started, cpu) = (Instant::now(), broker.cpu());
        let clients = connect_all(broker, wave).await;
        connecting.add(WAVE, started.elapsed(), broker.cpu() - cpu);
        disconnect_all(clients).await;
        cycle.add(WAVE, started.elapsed(), broker.cpu() - cpu);
        wave += 1;
    }
    (connecting, cycle)
}

async fn disconnect_all(clients: Vec<RawClient>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for client in clients {
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await.expect("the semaphore stays open");
            client.disconnect().await;
        });
    }
    tasks.join_all().await;
}

async fn connect_all(broker: &Broker, wave: usize) -> Vec<RawClient> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for index in 0..WAVE {
        let address = broker.node(index);
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire().await.expect("the semaphore stays open");
            RawClient::connect(address, &Options::v311(format!("bench-{wave}-{index}"))).await
        });
    }
    tasks.join_all().await
}
