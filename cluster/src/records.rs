//! Records of a snapshot: each with its length before it.

use std::io::{self, Read, Write};

use prost::Message;

/// No record is larger: a session of the most subscriptions that fit stays far below.
const MAX_RECORD: usize = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the snapshot has a record that does not decode ({0}): it was written by another version")]
    Decode(#[from] prost::DecodeError),
    #[error("the snapshot has a record of {0} bytes, more than any may have: it is damaged")]
    TooLarge(usize),
    #[error("the snapshot contradicts itself ({0}): it is damaged")]
    Contradiction(&'static str),
}

/// `buffer` is emptied; who writes many records lends the same one.
pub(crate) fn write_record(record: &impl Message, buffer: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    buffer.clear();
    record.encode(buffer).map_err(io::Error::other)?;
    out.write_all(&(buffer.len() as u32).to_le_bytes())?;
    out.write_all(buffer)
}

pub(crate) fn read_record<M: Message + Default>(input: &mut impl Read) -> Result<M, SnapshotError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_RECORD {
        return Err(SnapshotError::TooLarge(length));
    }
    let mut record = vec![0; length];
    input.read_exact(&mut record)?;
    Ok(M::decode(record.as_slice())?)
}
