//! The sockets under the node links, plain or encrypted, on both ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::tls::Tls;
use crate::told::Told;

/// After an accept that failed for want of something, such as file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Connections that may be shaking hands at once; the others wait in the kernel.
const HANDSHAKES: usize = 256;
/// Of them from one address, so that silent ones do not keep all the others waiting; more are closed at once.
const HANDSHAKES_EACH: usize = 32;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One end of a link.
pub(crate) enum Wire {
    Plain(TcpStream),
    Encrypted(Box<dyn Duplex>),
}

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(task, into),
            Wire::Encrypted(stream) => Pin::new(stream).poll_read(task, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(task, bytes),
            Wire::Encrypted(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(task),
            Wire::Encrypted(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(task),
            Wire::Encrypted(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(task, bytes),
            Wire::Encrypted(stream) => Pin::new(stream).poll_write_vectored(task, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Encrypted(stream) => stream.is_write_vectored(),
        }
    }
}

/// Connects to `address`, a host and a port. Over TLS the host is the name that the other's certificate must bear.
pub(crate) async fn connect(address: String, tls: Option<Arc<Tls>>) -> io::Result<Wire> {
    #[cfg(test)]
    if crate::simulation::is_on() {
        return crate::simulation::connect(address).await;
    }
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Wire::Plain(stream)) };
    let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| io::Error::other(format!("{host}: {error}")))?;
    let encrypted = tls.connector().connect(name, stream).await;
    let encrypted = encrypted.map_err(|error| io::Error::new(error.kind(), format!("TLS to {address}: {error}")))?;
    Ok(Wire::Encrypted(Box::new(encrypted)))
}

/// The connections of other nodes, each as far as it needs to be for gRPC.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    patience: Duration,
) -> ReceiverStream<io::Result<Wire>> {
    let (accepted, wires) = mpsc::channel(HANDSHAKES);
    tokio::spawn(async move {
        let (places, guests, told) = (Arc::new(Semaphore::new(HANDSHAKES)), Guests::default(), Told::default());
        // Never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept another node; a limit of the system may be reached");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let guest = guests.enter(from.ip());
            let (tls, accepted, told) = (tls.clone(), accepted.clone(), told.clone());
            tokio::spawn(async move {
                let welcomed = match guest {
                    Some(_) => within(patience, welcome(stream, tls)).await,
                    None => Err(io::Error::other("too many from its address have not finished their handshakes")),
                };
                drop(guest);
                match welcomed {
                    Ok(wire) => {
                        // The server has ended with this node.
                        let _ = accepted.send(Ok(wire)).await;
                    }
                    Err(why) if told.is_new(&from.ip().to_string(), &why.to_string()) => {
                        tracing::warn!(%from, %why, "a connection to the port for other nodes was refused");
                    }
                    Err(_) => {}
                }
                drop(place);
            });
        }
    });
    ReceiverStream::new(wires)
}

/// Who is shaking hands, by address.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Guests {
    fn enter(&self, from: IpAddr) -> Option<Guest> {
        let mut counts = self.0.lock();
        let count = counts.entry(from).or_default();
        (*count < HANDSHAKES_EACH).then(|| {
            *count += 1;
            Guest { from, guests: self.clone() }
        })
    }
}

struct Guest {
    from: IpAddr,
    guests: Guests,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock();
        if let Entry::Occupied(mut count) = counts.entry(self.from) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

async fn within<T>(patience: Duration, waited: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, waited).await.unwrap_or_else(|_| Err(io::Error::other("its handshake takes too long")))
}

async fn welcome(stream: TcpStream, tls: Option<Arc<Tls>>) -> io::Result<Wire> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let encrypted = stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE;
    match tls {
        Some(tls) if encrypted => Ok(Wire::Encrypted(Box::new(tls.acceptor().accept(stream).await?))),
        Some(_) => Err(io::Error::other("it does not speak TLS, and this node does: give it cluster.tls too")),
        None if encrypted => {
            Err(io::Error::other("it speaks TLS, and this node does not: give this one cluster.tls too"))
        }
        None => Ok(Wire::Plain(stream)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpSocket;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn silent_callers_keep_nobody_else_waiting() {
        const PATIENCE: Duration = Duration::from_secs(600);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut wires = accept(listener, None, PATIENCE);
        let mut silent = Vec::new();
        for _ in 0..HANDSHAKES + HANDSHAKES_EACH {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(([127, 0, 0, 2], 0).into()).expect("another address of this machine");
            silent.push(socket.connect(address).await.expect("a connection"));
        }
        let mut other = TcpStream::connect(address).await.expect("a connection");
        other.write_all(b"P").await.expect("written");
        let welcomed = timeout(Duration::from_secs(10), wires.next()).await.expect("in time");
        let Some(Ok(Wire::Plain(welcomed))) = welcomed else { panic!("not accepted") };
        assert_eq!(welcomed.peer_addr().expect("an address"), other.local_addr().expect("an address"));
    }
}
