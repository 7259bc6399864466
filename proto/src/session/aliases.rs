//! Topic aliases towards the client.

use std::collections::HashMap;

use bytestring::ByteString;

use super::connect::detach;
use crate::message::{Outgoing, TopicAlias};

/// Bytes that an alias takes in a packet: a topic has to be longer.
const COST: usize = 3;

/// The topics that were sent first have aliases until the connection ends: giving these to others would cost as much as
/// it saves where more topics than aliases take turns.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    numbers: HashMap<ByteString, u16>,
    most: u16,
}

impl Aliases {
    pub(super) fn new(most: u16) -> Self {
        Aliases { numbers: HashMap::new(), most }
    }

    /// What `outgoing` says instead of its topic, or besides it.
    fn find(&mut self, topic: &ByteString) -> Option<TopicAlias> {
        if self.most == 0 || topic.len() <= COST {
            return None;
        }
        if let Some(&number) = self.numbers.get(topic) {
            return Some(TopicAlias { number, is_known: true });
        }
        let number = u16::try_from(self.numbers.len() + 1).ok().filter(|number| *number <= self.most)?;
        Some(TopicAlias { number, is_known: false })
    }

    /// Gives a PUBLISH that leaves next its alias, unless it is a new one and `has_room` says that the packet may not
    /// become as large as it would with it.
    pub(super) fn apply(&mut self, outgoing: &mut Outgoing, has_room: impl FnOnce(&Outgoing) -> bool) {
        let topic = &outgoing.delivery.message.topic;
        let Some(alias) = self.find(topic) else { return };
        outgoing.alias = Some(alias);
        if alias.is_known {
            return;
        }
        if has_room(outgoing) {
            let topic = detach(&outgoing.delivery.message.topic);
            self.numbers.insert(topic, alias.number);
        } else {
            outgoing.alias = None;
        }
    }
}
