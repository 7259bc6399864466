//! The configuration: one table of keys, four sources (defaults, a TOML file, the environment, `--set`), one typed value.

mod change;
mod error;
mod grace;
mod kind;
mod reference;
mod resolve;
mod rules;
mod source;
mod table;
mod typed;
mod units;

pub use change::Changes;
pub use error::{Problem, Problems};
pub use grace::KeepAliveGrace;
pub use reference::reference;
pub use resolve::{Effective, Setting};
pub use source::{Origin, Sources, key_of};
pub use typed::{
    Access, ClientAuth, ClientIdPolicy, Cluster, ClusterTls, Config, Drain, EventNode, Events, Http, Inbox, Limits,
    Listener, ListenerTls, ListenerType, Node, Overflow, Oversize, ProxyProtocol, Session,
};
pub use units::{format_duration, format_size, parse_duration, parse_size};

#[cfg(test)]
mod tests;
