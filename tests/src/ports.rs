//! TCP ports for the processes under test.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the kernel takes the source ports of outgoing connections (32768 and up on Linux): a
/// restarted node must find its port free although thousands of clients came and went meanwhile.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_000;

/// The first of `count` consecutive ports of 127.0.0.1 that nobody listens on.
pub fn consecutive(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes start their search at different places.
    let start = (std::process::id() % 900) as u16 * 20;
    for _ in 0..1000 {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + (start + step) % (LAST - FIRST - count);
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports between {FIRST} and {LAST}");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
