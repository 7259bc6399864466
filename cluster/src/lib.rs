//! The replicated roster: pure state machines, Raft over gRPC, leases, membership and the forwarding of publishes.
//!
//! - [`Cluster`]: this node's part in it, the one handle that the program around it uses
//! - [`roster`], [`routes`]: pure; what the log means, and where publishes go
//! - [`replica`], [`feed`], [`pending`]: this node's copy, its events, and who waits for an answer
//! - `raft`: openraft behind one door
//! - `propose`, `desk`, `follow`, [`lease`], `member`: commands on their way, what the leader does for all
//! - [`forward`]: publishes for other nodes' sessions

mod clock;
mod cluster;
mod config;
mod desk;
pub mod feed;
mod follow;
pub mod forward;
pub mod lease;
mod member;
pub mod message;
mod pending;
mod propose;
mod raft;
pub mod replica;
pub mod roster;
pub mod routes;
mod server;
#[cfg(test)]
mod testing;

pub use clock::boottime;
pub use cluster::{Claimed, Cluster, Groups, NotReady, StartError, Subscribed};
pub use config::Config;
pub use propose::Unavailable;
pub use replica::Observer;
