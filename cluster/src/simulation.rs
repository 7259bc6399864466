//! Whole nodes in one thread: the real roster, shards, Raft, leases and links, on a simulated network with virtual time,
//! and disks that lose what was not synced. Everything follows from a seed, so a seed that fails fails again.
//!
//! Only the crate's own tests have this, for only they may put another clock, network and chance under its code.

mod broker;
mod chance;
mod clients;
mod gates;
mod node;
mod record;
mod run;
mod tests;
mod visit;

use std::cell::Cell;
use std::io;
use std::time::Duration;

use crate::raft::wiring::Wire;

/// What has passed since the machine's start when a simulation begins.
const BOOTED: Duration = Duration::from_secs(1_000);

thread_local! {
    /// What time it is for those who look at nodes while none of them runs.
    static BETWEEN_STEPS: Cell<Option<Duration>> = const { Cell::new(None) };
}

pub(crate) fn is_on() -> bool {
    turmoil::in_simulation()
}

pub(crate) fn boottime() -> Option<Duration> {
    turmoil::sim_elapsed().or_else(|| BETWEEN_STEPS.get()).map(|elapsed| BOOTED + elapsed)
}

pub(crate) fn wall_ms() -> Option<u64> {
    turmoil::since_epoch().map(|since| since.as_millis() as u64)
}

pub(crate) async fn connect(address: String) -> io::Result<Wire> {
    let stream = turmoil::net::TcpStream::connect(address).await?;
    wire(stream)
}

fn wire(stream: turmoil::net::TcpStream) -> io::Result<Wire> {
    Ok(Wire::Encrypted(Box::new(gates::Gated::new(stream)?)))
}
