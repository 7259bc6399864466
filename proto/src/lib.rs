//! Everything that crosses a wire, and no I/O.

pub mod codec;
pub mod message;
pub mod packet;
pub mod properties;
pub mod reason;
pub mod schema;
pub mod session;
pub mod topic;
pub mod trie;
