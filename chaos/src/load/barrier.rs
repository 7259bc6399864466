//! For P3: subscribe on one node, publish on another at the SUBACK, and the message must come; unsubscribe, publish, and it
//! must not. By `rumqttc`.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use crate::client::{Client, Lost};
use crate::history::{Action, Round, Wanted};
use crate::load::{DELIVERY, Scene};

/// How long a message that must not come is waited for.
const NOTHING: Duration = Duration::from_millis(150);

pub async fn work(scene: Scene, worker: usize, mut rng: SmallRng) {
    let mut number = 0u64;
    while scene.working() {
        number += 1;
        let (here, there) = scene.two_nodes(&mut rng);
        let topic = format!("barrier/{worker}/{number}");
        let turn = Turn { scene: &scene, worker, topic, here, there };
        if turn.round(rng.random_bool(0.25)).await.is_err() {
            scene.pause(&mut rng, 50..200).await;
        }
    }
}

struct Turn<'a> {
    scene: &'a Scene,
    worker: usize,
    topic: String,
    here: usize,
    there: usize,
}

impl Turn<'_> {
    async fn round(&self, and_nothing: bool) -> Result<(), Lost> {
        let (ports, worker) = (&self.scene.ports, self.worker);
        let mut publisher =
            self.timed(Action::Connect, Client::connect(&format!("publisher-{worker}"), ports[self.there])).await?;
        let mut subscriber =
            self.timed(Action::Connect, Client::connect(&format!("subscriber-{worker}"), ports[self.here])).await?;
        self.timed(Action::Subscribe, subscriber.subscribe(&self.topic)).await?;
        self.message(Wanted::Live, &mut publisher, &mut subscriber, DELIVERY).await?;
        if and_nothing {
            subscriber.unsubscribe(&self.topic).await?;
            self.message(Wanted::Nothing, &mut publisher, &mut subscriber, NOTHING).await?;
        }
        subscriber.leave().await;
        publisher.leave().await;
        Ok(())
    }

    async fn timed<T>(&self, action: Action, operation: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let begun = self.scene.recorder.now();
        let outcome = operation.await;
        self.scene.recorder.operation(action, begun, outcome.is_ok());
        outcome
    }

    async fn message(
        &self,
        wanted: Wanted,
        publisher: &mut Client,
        subscriber: &mut Client,
        limit: Duration,
    ) -> Result<(), Lost> {
        let published = self.scene.recorder.now();
        let payload = format!("{} {wanted:?}", self.topic);
        self.timed(Action::Publish, publisher.publish(&self.topic, &payload)).await?;
        let came = subscriber.message(&payload, limit).await;
        let round = Round {
            wanted,
            topic: self.topic.clone(),
            here: self.here,
            there: self.there,
            published,
            ended: self.scene.recorder.now(),
            arrived: came.is_ok(),
            broke: matches!(came, Err(Lost::Connection(_))),
        };
        self.scene.recorder.add(|history| history.rounds.push(round));
        match came {
            Err(Lost::Connection(why)) => Err(Lost::Connection(why)),
            Ok(()) | Err(Lost::Silence) => Ok(()),
        }
    }
}
