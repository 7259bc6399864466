//! The MQTT listeners: they accept, see to what comes before MQTT, and hand over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::connection::{Connection, Shared};
use crate::door::Door;
use crate::telemetry;

/// After an accept that failed for want of something, such as file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Connections that the kernel completes ahead of us.
const BACKLOG: u32 = 4_096;

/// What a listener's next client is met with.
pub struct Terms {
    /// Sockets it may hold.
    pub max_connections: usize,
    pub door: Door,
    pub shared: Arc<Shared>,
}

/// One bound listener.
pub struct Gateway {
    pub name: String,
    pub listener: TcpListener,
    pub terms: Arc<ArcSwap<Terms>>,
    /// Numbers this node's connections, over all listeners.
    pub numbers: Arc<AtomicU64>,
}

/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Gateway {
    /// Accepts until told to stop.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let open = Arc::new(AtomicUsize::new(0));
        let gauge = metrics::gauge!(telemetry::CONNECTIONS, "listener" => self.name.clone());
        let accepted = metrics::counter!(telemetry::ACCEPTED, "listener" => self.name.clone());
        let refused = metrics::counter!(telemetry::REFUSED_SOCKETS, "listener" => self.name.clone());
        loop {
            let (stream, peername) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, listener = self.name, "cannot accept; a limit of the system may be reached");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                () = closed(&mut stop) => return,
            };
            accepted.increment(1);
            let terms = self.terms.load_full();
            if open.load(Ordering::Relaxed) >= terms.max_connections {
                refused.increment(1);
                continue;
            }
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            open.fetch_add(1, Ordering::Relaxed);
            gauge.increment(1.0);
            let (open, gauge, refused) = (open.clone(), gauge.clone(), refused.clone());
            tokio::spawn(async move {
                let entered = terms.door.enter(stream, peername).await;
                let shared = terms.shared.clone();
                drop(terms);
                match entered {
                    Ok(entered) => Connection::new(shared, number, entered).run().await,
                    Err(error) => {
                        tracing::debug!(%error, %peername, "a socket did not come as far as MQTT");
                        refused.increment(1);
                    }
                }
                open.fetch_sub(1, Ordering::Relaxed);
                gauge.decrement(1.0);
            });
        }
    }
}

async fn closed(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can open it again either.
    let _ = stop.wait_for(|stop| *stop).await;
}
