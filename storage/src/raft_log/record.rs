//! One record of the write-ahead log.
//!
//! ```text
//! length u32 | crc u32 | kind u8 | group u32 | index u64 | began u32 | payload
//! ```
//!
//! All integers are little-endian. `length` counts the payload. `began` is the offset at which the write that carried
//! this record began: a write begins only after all before it were synced, so a valid record proves that every byte
//! before its `began` had been durable. The crc covers the segment's salt and the record's offset as well, so that
//! bytes of another segment, another place or another life never pass for a record.

use bytes::Bytes;

use crate::disk::Fields;

/// Bytes before the payload.
pub(crate) const RECORD_HEADER: usize = 25;

/// What a record says about its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `index` is the entry's, the payload its bytes.
    Entry,
    /// The payload is the group's vote; `index` is 0.
    Vote,
    /// The payload says what is committed; `index` is 0.
    Committed,
    /// Entries from `index` on are void.
    Truncate,
    /// Entries up to and including `index` are void; the payload describes the last of them.
    Purge,
    /// Everything of the group before it is void.
    Forget,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Entry => 1,
            Kind::Vote => 2,
            Kind::Committed => 3,
            Kind::Truncate => 4,
            Kind::Purge => 5,
            Kind::Forget => 6,
        }
    }

    fn of(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Entry),
            2 => Some(Kind::Vote),
            3 => Some(Kind::Committed),
            4 => Some(Kind::Truncate),
            5 => Some(Kind::Purge),
            6 => Some(Kind::Forget),
            _ => None,
        }
    }
}

/// A record before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) group: u32,
    pub(crate) index: u64,
    pub(crate) payload: Bytes,
}

impl Record {
    /// Bytes on disk.
    pub(crate) fn size(&self) -> usize {
        RECORD_HEADER + self.payload.len()
    }

    /// Appends the record to `buf`. It will stand at `offset` of the segment with this `salt`.
    pub(crate) fn encode(&self, buf: &mut Vec<u8>, salt: u64, began: u32, offset: u32) {
        let start = buf.len();
        // Payloads are limited to less than 4 GiB where they enter the log.
        buf.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
        buf.extend_from_slice(&[0; 4]);
        buf.push(self.kind.code());
        buf.extend_from_slice(&self.group.to_le_bytes());
        buf.extend_from_slice(&self.index.to_le_bytes());
        buf.extend_from_slice(&began.to_le_bytes());
        buf.extend_from_slice(&self.payload);
        let crc = checksum(&buf[start..], salt, offset);
        buf[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A record as found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) kind: Kind,
    pub(crate) group: u32,
    pub(crate) index: u64,
    pub(crate) began: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Found<'a> {
    /// Bytes on disk.
    pub(crate) fn size(&self) -> usize {
        RECORD_HEADER + self.payload.len()
    }

    /// The record that `bytes` begin with, standing at `offset`; `None` if there is no valid one.
    pub(crate) fn decode(bytes: &'a [u8], salt: u64, offset: u32) -> Option<Found<'a>> {
        let mut fields = Fields(bytes.get(..RECORD_HEADER)?);
        let length = fields.u32()? as usize;
        let crc = fields.u32()?;
        let kind = Kind::of(fields.u8()?)?;
        let (group, index, began) = (fields.u32()?, fields.u64()?, fields.u32()?);
        let whole = bytes.get(..RECORD_HEADER.checked_add(length)?)?;
        if began > offset || checksum(whole, salt, offset) != crc {
            return None;
        }
        Some(Found { kind, group, index, began, payload: &whole[RECORD_HEADER..] })
    }
}

fn checksum(record: &[u8], salt: u64, offset: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record { kind: Kind::Entry, group: 7, index: 42, payload: Bytes::from_static(b"payload") }
    }

    fn encoded(salt: u64, offset: u32) -> Vec<u8> {
        let mut buf = Vec::new();
        sample().encode(&mut buf, salt, 40, offset);
        buf
    }

    #[test]
    fn a_record_comes_back_as_written() {
        let buf = encoded(9, 100);
        let found = Found::decode(&buf, 9, 100).unwrap();
        assert_eq!((found.kind, found.group, found.index, found.began), (Kind::Entry, 7, 42, 40));
        assert_eq!(found.payload, b"payload");
        assert_eq!(found.size(), sample().size());
    }

    #[test]
    fn a_record_of_another_segment_or_place_is_none() {
        let buf = encoded(9, 100);
        assert!(Found::decode(&buf, 8, 100).is_none());
        assert!(Found::decode(&buf, 9, 101).is_none());
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_is_noticed() {
        let buf = encoded(9, 100);
        for bit in 0..buf.len() * 8 {
            let mut bad = buf.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Found::decode(&bad, 9, 100).is_none(), "bit {bit}");
        }
        for len in 0..buf.len() {
            assert!(Found::decode(&buf[..len], 9, 100).is_none(), "length {len}");
        }
    }
}
