//! One file of the write-ahead log: a header, records, then preallocated zeros.
//!
//! ```text
//! magic [8] | version u32 | crc u32 | number u64 | salt u64 | previous end u64
//! ```
//!
//! A segment gets its name only when its header is durable, so under its name it always has a valid one. `previous end`
//! is where the segment before it ends: that one was sealed, and must be valid up to there.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::LogError;
use super::options::RaftLogOptions;
use super::record::{Found, RECORD_HEADER};
use crate::disk::{DiskFile, Fields, random_salt};

/// Bytes before the first record.
pub(crate) const SEGMENT_HEADER: usize = 40;
/// How a segment's file name ends.
pub(crate) const SUFFIX: &str = ".wal";

const MAGIC: [u8; 8] = *b"rollcWAL";
const VERSION: u32 = 1;

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// Where the segment before this one ends; 0 for the first of a log.
    pub(crate) previous_end: u64,
    pub(crate) file: DiskFile,
}

impl Segment {
    pub(crate) fn path_of(dir: &Path, number: u64) -> PathBuf {
        dir.join(format!("{number:020}{SUFFIX}"))
    }

    /// Creates the durable, empty segment with room for `capacity` bytes, its header included.
    pub(crate) fn create(
        dir: &Path,
        number: u64,
        previous_end: u64,
        capacity: u64,
        options: &RaftLogOptions,
    ) -> std::io::Result<Segment> {
        let path = Segment::path_of(dir, number);
        let mut file = options.faulty(DiskFile::create(&path.with_extension("tmp"))?);
        let salt = random_salt(number);
        file.preallocate(capacity)?;
        file.write_all_at(&header(number, salt, previous_end), 0)?;
        file.sync_all()?;
        file.publish(&path)?;
        Ok(Segment { number, salt, previous_end, file })
    }

    /// Opens the segment and returns it with all its bytes.
    pub(crate) fn open(path: &Path, number: u64, options: &RaftLogOptions) -> Result<(Segment, Vec<u8>), LogError> {
        let failed = |source| LogError::Io { path: path.to_path_buf(), source };
        let file = options.faulty(DiskFile::open(path).map_err(failed)?);
        let bytes = std::fs::read(path).map_err(failed)?;
        let corrupt = || LogError::Corrupt { path: path.to_path_buf(), offset: 0 };
        let mut fields = Fields(bytes.get(..SEGMENT_HEADER).ok_or_else(corrupt)?);
        let magic = fields.u64().ok_or_else(corrupt)?;
        let version = fields.u32().ok_or_else(corrupt)?;
        if magic.to_le_bytes() != MAGIC {
            return Err(corrupt());
        }
        if version > VERSION {
            return Err(LogError::NewerFormat { path: path.to_path_buf(), found: version, known: VERSION });
        }
        fields.u32().ok_or_else(corrupt)?;
        let found_number = fields.u64().ok_or_else(corrupt)?;
        let salt = fields.u64().ok_or_else(corrupt)?;
        let previous_end = fields.u64().ok_or_else(corrupt)?;
        if found_number != number || header(number, salt, previous_end) != bytes[..SEGMENT_HEADER] {
            return Err(corrupt());
        }
        Ok((Segment { number, salt, previous_end, file }, bytes))
    }

    /// The payload of the record at `offset`, checked again.
    pub(crate) fn read(&self, offset: u32, payload_len: u32) -> std::io::Result<Bytes> {
        let mut bytes = vec![0; RECORD_HEADER + payload_len as usize];
        self.file.read_exact_at(&mut bytes, u64::from(offset))?;
        if Found::decode(&bytes, self.salt, offset).is_none_or(|found| found.size() != bytes.len()) {
            let error = LogError::Corrupt { path: self.file.path().to_path_buf(), offset: u64::from(offset) };
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        }
        Ok(Bytes::from(bytes).slice(RECORD_HEADER..))
    }

    /// Cuts everything from `end` on and reserves zeros in its place, so that what was there can never come back.
    pub(crate) fn cut(&self, end: u64, capacity: u64) -> std::io::Result<()> {
        self.file.set_len(end)?;
        self.file.preallocate(capacity.max(end))?;
        self.file.sync_all()
    }
}

fn header(number: u64, salt: u64, previous_end: u64) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..32].copy_from_slice(&salt.to_le_bytes());
    bytes[32..40].copy_from_slice(&previous_end.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Whether a valid record behind `invalid` proves that the bytes there had once been durable.
pub(crate) fn was_durable(bytes: &[u8], salt: u64, invalid: usize) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    (invalid + 1..end).any(|offset| {
        Found::decode(&bytes[offset..], salt, offset as u32).is_some_and(|found| found.began as usize > invalid)
    })
}
