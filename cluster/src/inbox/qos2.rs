//! QoS 2 from persistent publishers: received once, and handed on to other shards once.

use std::sync::Arc;

use rollcall_proto::schema::shard::{Complete, HandOn, HandedOn, Origin, OriginKind, Receive, ShardTargets, outcome};

use super::bodies::Parcel;
use super::{Effects, Shard, done, stale};

impl Shard {
    pub(super) fn receive(&mut self, receive: &Receive, effects: &mut Effects) -> outcome::Kind {
        let Ok(packet_id) = u16::try_from(receive.packet_id) else { return stale() };
        if !self.is_held_by(&receive.client_id, receive.incarnation, receive.epoch) {
            return stale();
        }
        let Some(inbox) = self.inboxes.get_mut(&receive.client_id) else { return stale() };
        let Err(place) = inbox.held.binary_search(&packet_id) else { return done(0) };
        inbox.held.insert(place, packet_id);
        inbox.handed += 1;
        let origin = Origin {
            kind: OriginKind::ExactlyOnce.into(),
            client_id: receive.client_id.clone(),
            incarnation: receive.incarnation,
            number: inbox.handed,
        };
        let mut parcel = Parcel::new(&receive.message, self.expiry(receive.expires_in));
        let here = self.number;
        for targets in receive.targets.iter().filter(|targets| targets.shard == here) {
            self.put(&mut parcel, &targets.targets, effects);
        }
        self.keep_hand_on(&mut parcel, origin, &receive.targets, effects);
        parcel.close(&mut self.bodies, effects);
        done(1)
    }

    /// One for all other shards, if there are any among the targets.
    fn keep_hand_on(
        &mut self,
        parcel: &mut Parcel<'_>,
        origin: Origin,
        targets: &[ShardTargets],
        effects: &mut Effects,
    ) {
        let others: Vec<_> = targets.iter().filter(|targets| targets.shard != self.number).cloned().collect();
        if others.is_empty() {
            return;
        }
        let body = parcel.body(&mut self.bodies);
        self.bodies.hold(body);
        let number = self.next_hand_on;
        self.next_hand_on += 1;
        self.hand_ons.insert(number, Arc::new(HandOn { number, body, origin: Some(origin), targets: others }));
        effects.hand_ons = true;
    }

    pub(super) fn complete(&mut self, complete: &Complete) -> outcome::Kind {
        if !self.is_held_by(&complete.client_id, complete.incarnation, complete.epoch) {
            return stale();
        }
        let Ok(packet_id) = u16::try_from(complete.packet_id) else { return stale() };
        let Some(inbox) = self.inboxes.get_mut(&complete.client_id) else { return stale() };
        if let Ok(place) = inbox.held.binary_search(&packet_id) {
            inbox.held.remove(place);
        }
        done(0)
    }

    pub(super) fn handed_on(&mut self, handed_on: &HandedOn, effects: &mut Effects) -> outcome::Kind {
        let mut gone = 0;
        while let Some((number, body)) = self.hand_ons.first().map(|(number, hand_on)| (*number, hand_on.body))
            && number <= handed_on.up_to
        {
            self.hand_ons.remove(&number);
            self.bodies.release(body, &mut effects.freed);
            gone += 1;
        }
        done(gone)
    }
}
