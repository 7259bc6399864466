//! Clients that are sent away, so many in a second.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use rollcall_proto::reason::DisconnectReason;
use tokio::time::interval;

use crate::mailbox::{End, Mailbox};

const STEPS_PER_SECOND: u32 = 20;

/// Tells each of them, where there is one, the next address. At `rate` clients per second; 0 sends all at once.
pub async fn send_away(mailboxes: &[Arc<Mailbox>], mut addresses: impl Iterator<Item = ByteString>, rate: u32) {
    let step = match rate {
        0 => mailboxes.len().max(1),
        rate => rate.div_ceil(STEPS_PER_SECOND) as usize,
    };
    let mut ticks = interval(Duration::from_secs(1) / STEPS_PER_SECOND);
    for some in mailboxes.chunks(step) {
        ticks.tick().await;
        for mailbox in some {
            mailbox.end(End { reason: DisconnectReason::GoAway, server_reference: addresses.next(), released: false });
        }
    }
}
