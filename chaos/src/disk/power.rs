//! Power cuts for processes under test: a library preloaded into them (`chaos/disk/powercut.c`) notes how to undo what is
//! not yet durable, and [`PowerCut::cut`] undoes it once they are dead.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::disk::{compile, text};

/// Bytes before the payload of a note: six integers, as in `powercut.c`.
const NOTE: usize = 48;

const WRITE: u64 = 1;
const SYNCED: u64 = 2;
const CREATE: u64 = 3;
const RENAME: u64 = 4;
const UNLINK: u64 = 5;
const MKDIR: u64 = 6;
const RMDIR: u64 = 7;

/// Where spilled messages are, which nobody ever syncs.
const BODIES: &str = "bodies";

/// A directory whose un-synced changes can be lost, and where they are noted.
#[derive(Debug, Clone)]
pub struct PowerCut {
    dir: PathBuf,
    journal: PathBuf,
}

/// What a power cut took away.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Writes, extensions and truncations of files.
    pub writes: usize,
    /// Creations, renames and removals.
    pub names: usize,
}

impl Lost {
    pub fn add(&mut self, other: Lost) {
        self.writes += other.writes;
        self.names += other.names;
    }
}

impl PowerCut {
    /// `dir` may not exist yet. The notes are kept beside it, in a folder of the same name and `.journal`.
    pub fn over(dir: &Path) -> Self {
        assert!(dir.is_absolute(), "{}", dir.display());
        let journal = PathBuf::from(format!("{}.journal", dir.display()));
        fs::create_dir_all(&journal).expect("a folder for the journal");
        Self { dir: dir.into(), journal }
    }

    /// The environment of a process whose un-synced changes can be lost.
    pub fn env(&self) -> Vec<(String, String)> {
        vec![
            ("LD_PRELOAD".into(), text(library())),
            ("POWERCUT_DIR".into(), text(&self.dir)),
            ("POWERCUT_JOURNAL".into(), text(&self.journal)),
            ("POWERCUT_SKIP".into(), BODIES.into()),
        ]
    }

    /// As [`PowerCut::env`], on a disk that does not sync although it says so: with it a test shows that it can fail.
    pub fn env_ignoring_syncs(&self) -> Vec<(String, String)> {
        let mut env = self.env();
        env.push(("POWERCUT_IGNORE_SYNC".into(), "1".into()));
        env
    }

    /// Undoes what was not durable when the processes died: all of them must be dead, and not ended by themselves. Spilled
    /// messages are no promise, and the layer passes them over: nothing of them is left.
    pub fn cut(&self) -> Lost {
        let mut lost = Lost::default();
        let bodies = self.dir.join(BODIES);
        if bodies.exists() {
            fs::remove_dir_all(bodies).expect("spilled messages can be removed");
        }
        let journals = list(&self.journal);
        for path in journals.iter().filter(|path| name(path).starts_with("data-")) {
            let file = self.journal.join(name(path).replace("data-", "file-"));
            lost.writes += undo_data(&notes(path), &file);
        }
        for path in journals.iter().filter(|path| name(path).starts_with("names-")) {
            let notes = notes(path);
            lost.names += notes.iter().rev().filter(|note| undo_name(note)).count();
        }
        for path in list(&self.journal) {
            fs::remove_file(path).expect("the journal can be emptied");
        }
        lost
    }
}

/// One change and how it is undone.
struct Note {
    kind: u64,
    at: u64,
    len: u64,
    size: u64,
    inode: u64,
    payload: Vec<u8>,
}

impl Note {
    /// The names in it: of the changed thing, and what else its kind needs.
    fn names(&self) -> Vec<PathBuf> {
        let text = std::str::from_utf8(&self.payload).expect("the paths of tests are UTF-8");
        text.split_terminator('\0').map(PathBuf::from).collect()
    }
}

/// The notes in a journal that are not void. One that is not whole is of a change that was not made.
fn notes(path: &Path) -> Vec<Note> {
    let bytes = fs::read(path).expect("the journal can be read");
    let mut found: Vec<(u64, Note)> = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + NOTE) {
        let fields: Vec<u64> = header.chunks_exact(8).map(|field| field.iter().rev().fold(0, shift_in)).collect();
        let Some(payload) = bytes.get(at + NOTE..at + NOTE + fields[5] as usize) else { break };
        if fields[0] == SYNCED {
            found.retain(|(place, _)| *place >= fields[1]);
        } else {
            let note = Note {
                kind: fields[0],
                at: fields[1],
                len: fields[2],
                size: fields[3],
                inode: fields[4],
                payload: payload.to_vec(),
            };
            found.push((at as u64, note));
        }
        at += NOTE + payload.len();
    }
    found.into_iter().map(|(_, note)| note).collect()
}

fn shift_in(sum: u64, byte: &u8) -> u64 {
    sum << 8 | u64::from(*byte)
}

/// Brings a file's content back; returns how many changes were undone.
fn undo_data(notes: &[Note], path: &Path) -> usize {
    if notes.is_empty() {
        return 0;
    }
    let file = File::options().write(true).open(path).expect("a file that was written to can be opened");
    for note in notes.iter().rev() {
        assert_eq!(note.kind, WRITE, "{}", path.display());
        let zeros = vec![0; note.len as usize];
        let old = if note.payload.is_empty() { &zeros } else { &note.payload };
        file.write_all_at(old, note.at).expect("what was replaced can be written back");
        file.set_len(note.size).expect("the old length can be set");
    }
    notes.len()
}

/// Undoes a change of names, if it was made.
fn undo_name(note: &Note) -> bool {
    let names = note.names();
    let path = &names[0];
    let inode = fs::symlink_metadata(path).ok().map(|found| found.ino());
    let done = match note.kind {
        CREATE => gone(fs::remove_file(path)),
        MKDIR => gone(fs::remove_dir_all(path)),
        RMDIR if inode.is_none() => Some(fs::create_dir(path)),
        UNLINK if inode.is_none() => names.get(1).map(|saved| fs::hard_link(saved, path)),
        RENAME if inode == Some(note.inode) => {
            let back = fs::rename(path, &names[1]);
            let replaced = names.get(2).filter(|saved| !saved.as_os_str().is_empty());
            Some(back.and_then(|()| replaced.map_or(Ok(()), |saved| fs::hard_link(saved, path))))
        }
        RMDIR | UNLINK | RENAME => None,
        other => panic!("a note of kind {other}"),
    };
    match done {
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => false, // the directory itself is gone by now
        Some(result) => result.map(|()| true).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        None => false,
    }
}

/// `None` if there was nothing to remove.
fn gone(result: std::io::Result<()>) -> Option<std::io::Result<()>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        result => Some(result),
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(dir).expect("the journal can be listed");
    items.map(|item| item.expect("the journal can be listed").path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| compile("powercut", include_str!("../../disk/powercut.c")))
}
