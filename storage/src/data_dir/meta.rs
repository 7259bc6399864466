//! The meta file: lines of text, so that a person can see whose directory it is.
//!
//! ```text
//! rollcall data format 1
//! node-id 00000000000000f7
//! cluster fleet
//! node node-0
//! crc32 89abcdef
//! ```
//!
//! The checksum covers all lines before it. The first line stays what it is in every later format.

use std::path::Path;

use super::{DataDirError, Identity};

const FORMAT: u32 = 1;
const TITLE: &str = "rollcall data format ";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) node_id: u64,
    pub(super) identity: Identity,
}

impl Meta {
    pub(super) fn render(&self) -> String {
        let Identity { cluster, node } = &self.identity;
        let mut text = format!("{TITLE}{FORMAT}\nnode-id {:016x}\ncluster {cluster}\nnode {node}\n", self.node_id);
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("crc32 {crc:08x}\n"));
        text
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Meta, DataDirError> {
        let damaged = || DataDirError::Damaged { path: path.to_path_buf() };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let found: u32 = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(TITLE))
            .and_then(|format| format.parse().ok())
            .ok_or_else(damaged)?;
        if found > FORMAT {
            return Err(DataDirError::NewerFormat { path: path.to_path_buf(), found, known: FORMAT });
        }
        let meta = Meta::fields(text).ok_or_else(damaged)?;
        // Rendering it again checks the checksum and every byte besides.
        if meta.render() == text { Ok(meta) } else { Err(damaged()) }
    }

    fn fields(text: &str) -> Option<Meta> {
        let mut lines = text.lines().skip(1);
        let node_id = u64::from_str_radix(lines.next()?.strip_prefix("node-id ")?, 16).ok()?;
        let cluster = lines.next()?.strip_prefix("cluster ")?.to_owned();
        let node = lines.next()?.strip_prefix("node ")?.to_owned();
        Some(Meta { node_id, identity: Identity { cluster, node } })
    }
}
