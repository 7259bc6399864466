//! The numbered events: appended by one, read by many.
//!
//! Events are appended without a sync; the owner calls [`EventLog::sync`] before it gives up what they could be made
//! from again. Numbers have no gaps; the oldest events go with their segment file.

mod error;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

pub use error::EventLogError;

use crate::disk::{DiskFile, create_dir, numbered_files, remove_file};
use crate::failure::{Failure, misuse};
#[cfg(test)]
use crate::fault::Faults;
use record::{RECORD_HEADER, encode};
use segment::{SUFFIX, Segment, View};

/// One read returns about this much at most, so that a reader far behind takes bounded memory.
const READ_BYTES: usize = 4 << 20;
/// The most bytes one event may have.
const MAX_EVENT: usize = 16 << 20;

/// Sizes of an [`EventLog`].
#[derive(Clone, Debug)]
pub struct EventLogOptions {
    /// A segment file is closed once it has this many bytes: 4 KiB to 1 GiB, 4 MiB by default.
    pub segment_size: u64,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

impl Default for EventLogOptions {
    fn default() -> Self {
        EventLogOptions {
            segment_size: 4 << 20,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }
}

impl EventLogOptions {
    #[cfg(test)]
    fn faulty(&self, file: DiskFile) -> DiskFile {
        file.with_faults(&self.faults)
    }

    #[cfg(not(test))]
    fn faulty(&self, file: DiskFile) -> DiskFile {
        file
    }
}

/// The log of numbered events. Numbers begin at 1.
#[derive(Debug)]
pub struct EventLog {
    dir: PathBuf,
    options: EventLogOptions,
    appender: Mutex<Appender>,
    /// Never empty; the last one is being written.
    segments: RwLock<VecDeque<Segment>>,
}

/// Held by whoever changes the log.
#[derive(Debug)]
struct Appender {
    next: u64,
    /// The highest number known to be durable.
    synced: u64,
    /// Counts resets: a sync that began before one says nothing about the log after it.
    resets: u64,
    buf: Vec<u8>,
    failed: Option<Failure>,
}

impl EventLog {
    /// Opens the log in `dir`, creating both if need be. A torn tail is cut, and what remains is durable.
    ///
    /// # Errors
    /// [`EventLogError`] if the disk fails, or what is on it is damaged, incomplete or of a newer format.
    pub fn open(dir: &Path, options: EventLogOptions) -> Result<EventLog, EventLogError> {
        if !(4 << 10..=1 << 30).contains(&options.segment_size) {
            return Err(EventLogError::SegmentSize { found: options.segment_size });
        }
        let failed = |source| EventLogError::Io { path: dir.to_path_buf(), source };
        create_dir(dir).map_err(failed)?;
        let files = remove_void(numbered_files(dir, SUFFIX).map_err(failed)?)?;
        let mut segments: VecDeque<Segment> = VecDeque::new();
        let last = files.len().saturating_sub(1);
        for (at, (ordinal, path)) in files.into_iter().enumerate() {
            let segment = Segment::open(&path, ordinal, at == last, &options)?;
            if let Some(previous) = segments.back()
                && (ordinal != previous.ordinal() + 1 || segment.first() != previous.next())
            {
                return Err(EventLogError::Gap { path, expected: previous.next(), found: segment.first() });
            }
            segments.push_back(segment);
        }
        if segments.is_empty() {
            segments.push_back(Segment::create(dir, 1, 1, true, &options).map_err(failed)?);
        }
        let next = segments.back().map_or(1, Segment::next);
        let appender = Appender { next, synced: next - 1, resets: 0, buf: Vec::new(), failed: None };
        Ok(EventLog {
            dir: dir.to_path_buf(),
            options,
            appender: Mutex::new(appender),
            segments: RwLock::new(segments),
        })
    }

    /// Appends events, to be read at once and durable after the next [`sync`](Self::sync). Numbers up to the last are
    /// ignored, so that events may be made anew.
    ///
    /// # Errors
    /// `InvalidInput`, with nothing appended, if a number is missing before or among them or an event is larger than
    /// 16 MiB; otherwise the disk failed, and the log takes no more.
    pub fn append(&self, events: &[(u64, Bytes)]) -> io::Result<()> {
        let mut appender = self.lock()?;
        let known = events.iter().take_while(|event| event.0 < appender.next).count();
        let events = &events[known..];
        for (expected, (seq, payload)) in (appender.next..).zip(events) {
            if *seq != expected {
                return Err(misuse(format!("event {seq} was appended where {expected} is due")));
            }
            if payload.len() > MAX_EVENT {
                return Err(misuse(format!("event {seq} has {} bytes, more than {MAX_EVENT}", payload.len())));
            }
        }
        let result = self.write(&mut appender, events);
        appender.watch("writing", result)
    }

    fn write(&self, appender: &mut Appender, mut events: &[(u64, Bytes)]) -> io::Result<()> {
        while !events.is_empty() {
            let view = self.active_view()?;
            appender.buf.clear();
            let mut sizes = Vec::new();
            for (seq, payload) in events {
                if view.end + appender.buf.len() as u64 >= self.options.segment_size {
                    break;
                }
                encode(&mut appender.buf, view.salt, *seq, appender.synced, payload);
                sizes.push(RECORD_HEADER + payload.len());
            }
            if sizes.is_empty() {
                self.rotate(appender, &view)?;
                continue;
            }
            view.file.write_all_at(&appender.buf, view.end)?;
            if let Some(active) = self.segments.write().back_mut() {
                active.extend(&sizes);
            }
            appender.next += sizes.len() as u64;
            events = &events[sizes.len()..];
        }
        Ok(())
    }

    fn rotate(&self, appender: &mut Appender, active: &View) -> io::Result<()> {
        active.file.sync_data()?;
        appender.synced = appender.next - 1;
        let segment = Segment::create(&self.dir, active.ordinal + 1, appender.next, false, &self.options)?;
        self.segments.write().push_back(segment);
        Ok(())
    }

    /// Makes everything appended before the call durable.
    ///
    /// # Errors
    /// If the disk fails; the log then takes no more.
    pub fn sync(&self) -> io::Result<()> {
        let appender = self.lock()?;
        let (last, resets) = (appender.next - 1, appender.resets);
        if appender.synced >= last {
            return Ok(());
        }
        let view = self.active_view()?;
        drop(appender);
        let result = view.file.sync_data();
        let mut appender = self.appender.lock();
        if result.is_ok() && appender.resets == resets {
            appender.synced = appender.synced.max(last);
        }
        appender.watch("syncing", result)
    }

    /// The events after number `after`, in order: at most `limit`, and not many more than 4 MiB, but none only if there
    /// is none. If the next one is no longer kept, they begin at [`first`](Self::first).
    ///
    /// # Errors
    /// If the disk fails or an event on it is damaged.
    pub fn read(&self, after: u64, limit: usize) -> io::Result<Vec<(u64, Bytes)>> {
        let mut events: Vec<(u64, Bytes)> = Vec::new();
        let mut bytes = 0;
        let mut next = after.saturating_add(1);
        while events.len() < limit && bytes < READ_BYTES {
            let Some(view) = self.view_of(next) else { break };
            next = next.max(view.first);
            let from = events.len();
            view.read(next, limit - from, READ_BYTES - bytes, &mut events)?;
            bytes += events[from..].iter().map(|event| event.1.len()).sum::<usize>();
            next += (events.len() - from) as u64;
        }
        Ok(events)
    }

    /// The lowest number kept; one more than [`last`](Self::last) if there is none.
    pub fn first(&self) -> u64 {
        self.segments.read().front().map_or(1, Segment::first)
    }

    /// The highest number; 0 in a new log.
    pub fn last(&self) -> u64 {
        self.segments.read().back().map_or(0, |segment| segment.next() - 1)
    }

    /// Drops all events; the next one will be `next` (at least 1). A crash leaves the log as before or as after.
    ///
    /// # Errors
    /// If the disk fails; the log then takes no more.
    pub fn reset(&self, next: u64) -> io::Result<()> {
        let mut appender = self.lock()?;
        let next = next.max(1);
        let result = self.replace_all(next);
        if result.is_ok() {
            appender.next = next;
            appender.synced = next - 1;
            appender.resets += 1;
        }
        appender.watch("resetting", result)
    }

    fn replace_all(&self, next: u64) -> io::Result<()> {
        let ordinal = self.active_view()?.ordinal + 1;
        let fresh = Segment::create(&self.dir, ordinal, next, true, &self.options)?;
        let old = std::mem::replace(&mut *self.segments.write(), VecDeque::from([fresh]));
        old.iter().try_for_each(|segment| remove_file(segment.path()))
    }

    /// Drops the oldest files as long as at least `records` events stay.
    ///
    /// # Errors
    /// If the disk fails; the log then takes no more.
    pub fn retain(&self, records: u64) -> io::Result<()> {
        let mut appender = self.lock()?;
        let result = self.drop_before(appender.next.saturating_sub(records));
        appender.watch("removing old events", result)
    }

    fn drop_before(&self, needed: u64) -> io::Result<()> {
        loop {
            let mut segments = self.segments.write();
            let old = match segments.get(1) {
                Some(second) if second.first() <= needed => segments.pop_front(),
                Some(_) | None => None,
            };
            drop(segments);
            let Some(old) = old else { return Ok(()) };
            remove_file(old.path())?;
        }
    }

    fn lock(&self) -> io::Result<parking_lot::MutexGuard<'_, Appender>> {
        let appender = self.appender.lock();
        match &appender.failed {
            Some(failure) => Err(failure.to_error()),
            None => Ok(appender),
        }
    }

    fn active_view(&self) -> io::Result<View> {
        let gone = || io::Error::other("the event log has no segment");
        self.segments.read().back().map(|segment| segment.view(segment.next())).ok_or_else(gone)
    }

    /// What is needed to read from number `next` on.
    fn view_of(&self, next: u64) -> Option<View> {
        let segments = self.segments.read();
        let at = segments.partition_point(|segment| segment.next() <= next);
        segments.get(at).filter(|segment| segment.next() > segment.first()).map(|segment| segment.view(next))
    }
}

/// Removes what a reset that was cut short has left: the files before the last fresh one, in whatever state they are.
fn remove_void(mut files: Vec<(u64, PathBuf)>) -> Result<Vec<(u64, PathBuf)>, EventLogError> {
    let mut valid = files.len();
    while valid > 0 {
        valid -= 1;
        let (ordinal, path) = &files[valid];
        if Segment::is_fresh(path, *ordinal)? {
            break;
        }
    }
    for (_, path) in files.drain(..valid) {
        remove_file(&path).map_err(|source| EventLogError::Io { path, source })?;
    }
    Ok(files)
}

impl Appender {
    fn watch(&mut self, what: &str, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            tracing::error!(%error, "the event log failed while {what}");
            self.failed.get_or_insert(Failure::new("event log", what, &error)).to_error()
        })
    }
}
