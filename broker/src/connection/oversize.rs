//! Publishes larger than the listener takes, where `listeners.NAME.oversize` is `drop`.

use bytes::Buf as _;
use rollcall_proto::codec::{DecodeError, Oversized};
use rollcall_proto::session::DropReason;

use super::{Connection, now_ms};

impl Connection {
    /// Answers the PUBLISH that `input` begins with; its bytes are passed over as they come. Whether that could be done:
    /// more of it may have to come first.
    ///
    /// # Errors
    /// Something else is wrong, or it is another packet than a PUBLISH, or comes before the client may publish.
    pub(super) fn drop_oversized(&mut self, error: DecodeError) -> Result<bool, DecodeError> {
        let is_too_large = matches!(error, DecodeError::PacketTooLarge { .. });
        if !is_too_large || !self.shared.drops_oversized || !self.session.is_online() {
            return Err(error);
        }
        let Some(Oversized { qos, dup, packet_id, size }) = self.decoder.peek_oversized(&self.input)? else {
            return Ok(false);
        };
        self.count_drop(DropReason::TooLarge);
        self.unread = size;
        self.session.handle_oversized(qos, dup, packet_id, now_ms());
        Ok(true)
    }

    /// Passes over what is left of such a publish; whether all of it was there.
    pub(super) fn pass_over(&mut self) -> bool {
        let there = self.unread.min(self.input.len());
        self.input.advance(there);
        self.unread -= there;
        self.unread == 0
    }
}
