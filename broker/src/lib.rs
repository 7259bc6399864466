//! The program `rollcall`: its configuration, its command line, its MQTT listeners and its HTTP interface.

use std::sync::LazyLock;

pub mod access;
pub mod admin;
pub mod cli;
pub mod config;
pub mod connection;
pub mod ctl;
pub mod dev;
pub mod door;
pub mod events;
pub mod farewell;
pub mod gateway;
pub mod mailbox;
pub mod meters;
pub mod node;
pub mod recover;
pub mod refusals;
pub mod reload;
pub mod router;
pub mod serve;
pub mod telemetry;
pub mod transport;

/// The version, with the commit when the build was told of one by `ROLLCALL_COMMIT`.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| match option_env!("ROLLCALL_COMMIT") {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    });
    &VERSION
}
