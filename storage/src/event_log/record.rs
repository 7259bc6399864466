//! One event on disk.
//!
//! ```text
//! length u32 | crc u32 | seq u64 | synced u64 | payload
//! ```
//!
//! All integers are little-endian. `length` counts the payload; the crc covers the segment's salt and all but itself.
//! `synced` is the highest number known to be durable when the event was written: a valid event proves that those up to
//! its `synced` had been on disk, so that one of them found damaged was no torn write.

use crate::disk::Fields;

/// Bytes before the payload.
pub(super) const RECORD_HEADER: usize = 24;

pub(super) fn encode(buf: &mut Vec<u8>, salt: u64, seq: u64, synced: u64, payload: &[u8]) {
    let start = buf.len();
    // An event's length is limited far below 4 GiB where it enters the log.
    buf.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    buf.extend_from_slice(&seq.to_le_bytes());
    buf.extend_from_slice(&synced.to_le_bytes());
    buf.extend_from_slice(payload);
    let crc = checksum(&buf[start..], salt);
    buf[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// A record as found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) seq: u64,
    pub(super) synced: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Found<'a> {
    pub(super) fn size(&self) -> usize {
        RECORD_HEADER + self.payload.len()
    }

    /// Bytes of the record that begins with `header`, valid or not; `None` if the header is not all there.
    pub(super) fn size_of(header: &[u8]) -> Option<usize> {
        RECORD_HEADER.checked_add(Fields(header).u32()? as usize).filter(|_| header.len() >= RECORD_HEADER)
    }

    /// The record that `bytes` begin with; `None` if there is no valid one.
    pub(super) fn decode(bytes: &'a [u8], salt: u64) -> Option<Found<'a>> {
        let whole = bytes.get(..Found::size_of(bytes)?)?;
        let mut fields = Fields(&whole[4..]);
        let crc = fields.u32()?;
        let (seq, synced) = (fields.u64()?, fields.u64()?);
        if synced >= seq || checksum(whole, salt) != crc {
            return None;
        }
        Some(Found { seq, synced, payload: &whole[RECORD_HEADER..] })
    }
}

fn checksum(record: &[u8], salt: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}
