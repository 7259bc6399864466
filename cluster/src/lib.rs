//! The replicated roster and the shards: pure state machines, Raft over gRPC, leases, membership and the forwarding of
//! publishes.
//!
//! - [`Cluster`]: this node's part in it, the one handle that the program around it uses
//! - [`roster`], [`routes`]: pure; what the log means, and where publishes go
//! - [`inbox`]: pure; a shard, what persistent sessions still have to receive
//! - [`pages`], [`sorted`], [`records`]: maps that are cheap to clone, and how snapshots write them
//! - [`replica`], [`feed`], [`pending`]: this node's copy, its events, and who waits for an answer
//! - [`shard`]: this node's copies of shards, and the way to those it has none of
//! - `raft`, `groups`: openraft behind one door; the groups that run on this node
//! - `propose`, `courier`, `desk`, `scribe`: commands on their way, and what leaders do with them
//! - `follow`, [`lease`], `reach`, `division`, `housekeeper`, `snapshotter`, `upgrade`: what every node does all the time, and the leader for all
//! - `member`, `join`, `placement`: who is in the cluster, and which shards are where
//! - [`tls`], [`pem`]: what nodes show each other
//! - [`balance`]: which connections should go where
//! - [`recover`]: a cluster made anew from what one node has on its disk
//! - [`forward`]: publishes for other nodes' sessions

pub mod balance;
mod blocking;
mod clock;
mod cluster;
mod config;
mod courier;
mod desk;
mod disk;
mod division;
mod durable;
pub mod feed;
mod follow;
pub mod forward;
mod groups;
mod housekeeper;
pub mod inbox;
mod join;
pub mod lease;
mod member;
pub mod message;
pub mod pages;
pub mod pem;
mod pending;
mod placement;
mod propose;
mod raft;
mod reach;
pub mod records;
pub mod recover;
pub mod replica;
pub mod roster;
pub mod routes;
mod scribe;
mod server;
pub mod shard;
#[cfg(test)]
mod simulation;
mod snapshotter;
pub mod sorted;
pub mod targets;
#[cfg(test)]
mod testing;
pub mod tls;
mod told;
mod upgrade;
pub mod wanted;
mod wills;

pub use clock::boottime;
pub use cluster::{Claimed, Cluster, GroupStatus, NotReady, Refused, StartError, Subscribed};
pub use config::Config;
pub use groups::GroupError;
pub use propose::Unavailable;
pub use replica::Observer;
pub use shard::{Answer, InboxMessage, InboxReader, InboxState, RetainedMessages, ShardAnswer};
