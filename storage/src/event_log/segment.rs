//! One file of the event log: a header, then events.
//!
//! ```text
//! magic [8] | version u32 | crc u32 | ordinal u64 | salt u64 | first seq u64 | fresh u64
//! ```
//!
//! A segment gets its name only when its header is durable, and a successor only when its events are. A fresh one voids
//! all before it: so the log is emptied in one step.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::EventLogOptions;
use super::error::EventLogError;
use super::record::{Found, RECORD_HEADER};
use crate::disk::{DiskFile, Fields, random_salt};

/// How a segment's file name ends.
pub(super) const SUFFIX: &str = ".events";

const MAGIC: [u8; 8] = *b"rollcEVT";
const VERSION: u32 = 1;
const SEGMENT_HEADER: usize = 48;
/// The offset of every so many events is kept in memory.
const STRIDE: u64 = 64;
/// Bytes read at once while following events.
const CHUNK: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
struct Header {
    ordinal: u64,
    salt: u64,
    first: u64,
    fresh: bool,
}

/// A segment and where its events are.
#[derive(Debug)]
pub(super) struct Segment {
    file: Arc<DiskFile>,
    header: Header,
    next: u64,
    end: u64,
    /// Offsets of the first event and every `STRIDE`th after it.
    marks: Vec<u64>,
}

/// Enough of a segment to read or write it without holding on to the log.
#[derive(Debug)]
pub(super) struct View {
    pub(super) file: Arc<DiskFile>,
    pub(super) ordinal: u64,
    pub(super) salt: u64,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Where an event at or before the wanted one begins.
    offset: u64,
}

impl Segment {
    pub(super) fn create(
        dir: &Path,
        ordinal: u64,
        first: u64,
        fresh: bool,
        options: &EventLogOptions,
    ) -> std::io::Result<Segment> {
        let path = dir.join(format!("{ordinal:020}{SUFFIX}"));
        let header = Header { ordinal, salt: random_salt(ordinal), first, fresh };
        let mut file = options.faulty(DiskFile::create(&path.with_extension("tmp"))?);
        file.write_all_at(&header.render(), 0)?;
        file.sync_all()?;
        file.publish(&path)?;
        Ok(Segment::empty(file, header))
    }

    fn empty(file: DiskFile, header: Header) -> Segment {
        Segment { file: Arc::new(file), header, next: header.first, end: SEGMENT_HEADER as u64, marks: Vec::new() }
    }

    /// Opens the segment. Of the last one a torn tail is cut, and the rest made durable.
    pub(super) fn open(
        path: &Path,
        ordinal: u64,
        last: bool,
        options: &EventLogOptions,
    ) -> Result<Segment, EventLogError> {
        let failed = |source| EventLogError::Io { path: path.to_path_buf(), source };
        let file = options.faulty(DiskFile::open(path).map_err(failed)?);
        let bytes = std::fs::read(path).map_err(failed)?;
        let header = Header::parse(path, &bytes, ordinal)?;
        let mut segment = Segment::empty(file, header);
        let mut sizes = Vec::new();
        let mut rest = &bytes[SEGMENT_HEADER..];
        let mut next = header.first;
        while let Some(found) = Found::decode(rest, header.salt) {
            if found.seq != next {
                return Err(EventLogError::Gap { path: path.to_path_buf(), expected: next, found: found.seq });
            }
            next += 1;
            sizes.push(found.size());
            rest = &rest[found.size()..];
        }
        segment.extend(&sizes);
        if !rest.is_empty() {
            if !last || was_durable(rest, header.salt, next) {
                return Err(EventLogError::Corrupt { path: path.to_path_buf(), offset: segment.end });
            }
            tracing::warn!(path = %path.display(), offset = segment.end, "cut a write that was never finished");
            segment.file.set_len(segment.end).map_err(failed)?;
        }
        if last {
            segment.file.sync_all().map_err(failed)?;
        }
        Ok(segment)
    }

    pub(super) fn ordinal(&self) -> u64 {
        self.header.ordinal
    }

    /// Whether the segment in this file voids all before it.
    pub(super) fn is_fresh(path: &Path, ordinal: u64) -> Result<bool, EventLogError> {
        let failed = |source| EventLogError::Io { path: path.to_path_buf(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(SEGMENT_HEADER as u64).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Header::parse(path, &bytes, ordinal)?.fresh)
    }

    /// The number of its first event.
    pub(super) fn first(&self) -> u64 {
        self.header.first
    }

    /// The number after its last event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Takes in events of these sizes, written at the end.
    pub(super) fn extend(&mut self, sizes: &[usize]) {
        for &size in sizes {
            if (self.next - self.header.first).is_multiple_of(STRIDE) {
                self.marks.push(self.end);
            }
            self.next += 1;
            self.end += size as u64;
        }
    }

    /// What is needed to read from number `seq` on.
    pub(super) fn view(&self, seq: u64) -> View {
        let mark = (seq.saturating_sub(self.header.first) / STRIDE) as usize;
        View {
            file: self.file.clone(),
            ordinal: self.header.ordinal,
            salt: self.header.salt,
            first: self.header.first,
            end: self.end,
            offset: self.marks.get(mark).copied().unwrap_or(self.end),
        }
    }
}

impl View {
    /// Adds the events from number `seq` on, at most `limit` and until they have `max_bytes`.
    pub(super) fn read(
        &self,
        seq: u64,
        limit: usize,
        max_bytes: usize,
        events: &mut Vec<(u64, Bytes)>,
    ) -> std::io::Result<()> {
        let (mut offset, mut left, mut room) = (self.offset, limit, max_bytes);
        while offset < self.end && left > 0 && room > 0 {
            let chunk = self.chunk(offset)?;
            let mut at = 0;
            while left > 0 && room > 0 {
                let Some(found) = Found::decode(&chunk[at..], self.salt) else { break };
                if found.seq >= seq {
                    events.push((found.seq, chunk.slice(at + RECORD_HEADER..at + found.size())));
                    left -= 1;
                    room = room.saturating_sub(found.payload.len());
                }
                at += found.size();
            }
            if at == 0 {
                let error = EventLogError::Corrupt { path: self.file.path().to_path_buf(), offset };
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
            }
            offset += at as u64;
        }
        Ok(())
    }

    /// The bytes at `offset`: at least one whole record.
    fn chunk(&self, offset: u64) -> std::io::Result<Bytes> {
        let available = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let mut bytes = vec![0; CHUNK.min(available)];
        self.file.read_exact_at(&mut bytes, offset)?;
        let size = Found::size_of(&bytes).unwrap_or(0).min(available);
        if size > bytes.len() {
            bytes.resize(size, 0);
            self.file.read_exact_at(&mut bytes, offset)?;
        }
        Ok(bytes.into())
    }
}

impl Header {
    fn render(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&u64::from(self.fresh).to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the front of `bytes`, which must be that of segment `ordinal`.
    fn parse(path: &Path, bytes: &[u8], ordinal: u64) -> Result<Header, EventLogError> {
        let path: PathBuf = path.to_path_buf();
        let Some(bytes) = bytes.get(..SEGMENT_HEADER).filter(|bytes| bytes[..8] == MAGIC) else {
            return Err(EventLogError::Corrupt { path, offset: 0 });
        };
        match Fields(&bytes[8..]).u32() {
            Some(found) if found > VERSION => Err(EventLogError::NewerFormat { path, found, known: VERSION }),
            Some(_) | None => Header::fields(&bytes[16..])
                .filter(|header| header.ordinal == ordinal && header.render() == bytes)
                .ok_or(EventLogError::Corrupt { path, offset: 0 }),
        }
    }

    fn fields(bytes: &[u8]) -> Option<Header> {
        let mut fields = Fields(bytes);
        let (ordinal, salt, first) = (fields.u64()?, fields.u64()?, fields.u64()?);
        Some(Header { ordinal, salt, first, fresh: fields.u64()? == 1 })
    }
}

/// Whether a valid record in `rest` proves that number `seq`, which is not there, had once been durable.
fn was_durable(rest: &[u8], salt: u64, seq: u64) -> bool {
    (1..rest.len()).any(|at| Found::decode(&rest[at..], salt).is_some_and(|found| found.synced >= seq))
}
