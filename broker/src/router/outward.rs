//! What one publish sends beyond this node's own subscribers.

use std::sync::Arc;

use rollcall_cluster::forward::{Link, Parcel};
use rollcall_cluster::targets;
use rollcall_proto::message::{Delivery, Message};
use rollcall_proto::schema::node::Addressee;
use rollcall_proto::schema::shard::{ShardTargets, Target};

use crate::mailbox::Mailbox;

/// How the chosen member of a shared subscription gets its message.
pub(super) enum Way {
    /// It is connected here.
    Mailbox(Arc<Mailbox>, Delivery),
    /// It is connected to another node.
    Link(Arc<Link>, Addressee),
    /// Out of its inbox, in that shard.
    Inbox(u32, Target),
}

#[derive(Default)]
pub(super) struct Outward {
    pub links: Vec<(Arc<Link>, Parcel)>,
    pub targets: Vec<ShardTargets>,
    pub here: Vec<(Arc<Mailbox>, Delivery)>,
}

impl Outward {
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.targets.is_empty() && self.here.is_empty()
    }

    /// Along with what goes the same way.
    pub(super) fn add(&mut self, way: Way, message: &Arc<Message>) {
        match way {
            Way::Mailbox(mailbox, delivery) => self.here.push((mailbox, delivery)),
            Way::Link(link, addressee) => match self.links.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &link)) {
                Some((_, parcel)) => parcel.addressees.push(addressee),
                None => {
                    let parcel = Parcel { message: message.clone(), addressed: true, addressees: vec![addressee] };
                    self.links.push((link, parcel));
                }
            },
            Way::Inbox(shard, target) => targets::add(&mut self.targets, shard, target),
        }
    }
}
