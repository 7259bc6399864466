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
    let (step, every) = match rate {
        // All in one step: nobody waits for a second.
        0 => (mailboxes.len().max(1), Duration::from_secs(1)),
        rate => {
            let step = rate.div_ceil(STEPS_PER_SECOND);
            (step as usize, Duration::from_secs(1) * step / rate)
        }
    };
    let mut ticks = interval(every);
    for some in mailboxes.chunks(step) {
        ticks.tick().await;
        for mailbox in some {
            mailbox.end(End { reason: DisconnectReason::GoAway, server_reference: addresses.next(), released: false });
        }
    }
}
