//! A log that has failed stays failed: what the disk holds is unknown until a restart reads it back.

use std::io;

/// Why a log failed; every operation after that fails with the same words.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    pub(crate) fn new(log: &str, what: &str, error: &io::Error) -> Failure {
        let text = format!(
            "the {log} failed while {what} ({error}) and takes no more writes; check the disk, then restart the node"
        );
        Failure { kind: error.kind(), text }
    }

    /// Why, as told to those who watch the log.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn to_error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

pub(crate) fn misuse(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
