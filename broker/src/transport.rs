//! What lies between a connection and its client: a plain socket, or layers on one (TLS, WebSocket).
//!
//! A plain socket is read and written when the kernel says so, without a buffer in between. Layers have no such moments:
//! there reading and writing are tried when the task is woken, and what came of it is kept for the next call.

pub mod proxy_protocol;
pub mod tls;
pub mod websocket;

use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What layers are to a connection.
pub trait Layers: AsyncRead + AsyncWrite + Send + Unpin {
    /// Whether the client has ended the stream in the way its layer has for that.
    fn has_said_goodbye(&self) -> bool {
        false
    }
}

impl Layers for tokio_rustls::server::TlsStream<TcpStream> {}

pub enum Transport {
    Tcp(TcpStream),
    Layered(Box<Layered>),
}

pub struct Layered {
    layers: Box<dyn Layers>,
    /// Read and not yet asked for.
    ahead: BytesMut,
    ended: bool,
    /// Bytes that were written before they were asked to be.
    written: usize,
    unflushed: bool,
}

/// What a connection can go on with.
#[derive(Debug)]
pub enum Ready {
    Readable(io::Result<()>),
    Writable(io::Result<()>),
}

/// Bytes of a read into layers.
const READ: usize = 4 << 10;

impl Transport {
    pub fn layered(layers: impl Layers + 'static) -> Self {
        let layers = Box::new(layers);
        let layered = Layered { layers, ahead: BytesMut::new(), ended: false, written: 0, unflushed: false };
        Transport::Layered(Box::new(layered))
    }

    /// Waits until there is something to read, if that is wanted, or some of the `unsent` can be written. It may be
    /// dropped and called again; what is unsent may only grow at its end until it is written.
    pub async fn ready(&mut self, reading: bool, unsent: &[u8]) -> Ready {
        match self {
            Transport::Tcp(stream) => match (reading, !unsent.is_empty()) {
                (true, false) => Ready::Readable(stream.readable().await),
                (false, true) => Ready::Writable(stream.writable().await),
                (true, true) => tokio::select! {
                    ready = stream.readable() => Ready::Readable(ready),
                    ready = stream.writable() => Ready::Writable(ready),
                },
                (false, false) => pending().await,
            },
            Transport::Layered(layered) => poll_fn(|task| layered.poll(task, reading, unsent)).await,
        }
    }

    /// Whether [`Self::ready`] has to be waited for although nothing is to be read or written.
    pub fn is_unflushed(&self) -> bool {
        match self {
            Transport::Tcp(_) => false,
            Transport::Layered(layered) => layered.unflushed,
        }
    }

    /// Reads about `most` bytes, as far as they are there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the stream.
    pub fn try_read(&mut self, into: &mut BytesMut, most: usize) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => {
                into.reserve(most);
                stream.try_read_buf(into)
            }
            Transport::Layered(layered) => layered.try_read(into, most),
        }
    }

    /// # Errors
    /// `WouldBlock` when no more is taken now; anything else ends the stream.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(stream) => stream.try_write(bytes),
            Transport::Layered(layered) => layered.try_write(bytes),
        }
    }

    pub fn has_said_goodbye(&self) -> bool {
        match self {
            Transport::Tcp(_) => false,
            Transport::Layered(layered) => layered.layers.has_said_goodbye(),
        }
    }

    /// Writes the last bytes and closes.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn close(&mut self, last: &[u8]) -> io::Result<()> {
        match self {
            Transport::Tcp(stream) => {
                stream.write_all(last).await?;
                stream.shutdown().await
            }
            Transport::Layered(layered) => {
                let rest = last.get(layered.written..).unwrap_or_default();
                layered.layers.write_all(rest).await?;
                layered.layers.shutdown().await
            }
        }
    }
}

impl Layered {
    fn poll(&mut self, task: &mut Context<'_>, reading: bool, unsent: &[u8]) -> Poll<Ready> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.layers).poll_flush(task)
        {
            self.unflushed = false;
            if flushed.is_err() {
                return Poll::Ready(Ready::Writable(flushed));
            }
        }
        if reading && let Poll::Ready(read) = self.poll_read(task) {
            return Poll::Ready(Ready::Readable(read));
        }
        let unsent = unsent.get(self.written..).unwrap_or_default();
        if !unsent.is_empty()
            && let Poll::Ready(written) = Pin::new(&mut self.layers).poll_write(task, unsent)
        {
            let written = written.map(|count| {
                self.written += count;
                self.unflushed = true;
            });
            return Poll::Ready(Ready::Writable(written));
        }
        Poll::Pending
    }

    fn poll_read(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() || self.ended {
            return Poll::Ready(Ok(()));
        }
        self.ahead.reserve(READ);
        let read = pin!(self.layers.read_buf(&mut self.ahead)).poll(task);
        if read.is_pending() {
            // Who waits holds no buffer.
            self.ahead = BytesMut::new();
        }
        read.map_ok(|count| self.ended = count == 0)
    }

    fn try_read(&mut self, into: &mut BytesMut, most: usize) -> io::Result<usize> {
        let mut count = self.ahead.len();
        if into.is_empty() {
            *into = std::mem::take(&mut self.ahead);
        } else {
            into.extend_from_slice(&std::mem::take(&mut self.ahead));
        }
        // Nobody is woken by this: before its task rests, it waits in `ready`.
        let mut task = Context::from_waker(Waker::noop());
        while count < most && !self.ended {
            into.reserve(READ.min(most - count));
            match pin!(self.layers.read_buf(into)).poll(&mut task) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(more)) => count += more,
                // What came before it is handled first; whoever reads again is told again.
                Poll::Ready(Err(error)) if count == 0 => return Err(error),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        if count == 0 && !self.ended { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written > 0 {
            let count = self.written.min(bytes.len());
            self.written -= count;
            return Ok(count);
        }
        // Nobody is woken by this: before its task rests, it waits in `ready`.
        let mut task = Context::from_waker(Waker::noop());
        let Poll::Ready(written) = Pin::new(&mut self.layers).poll_write(&mut task, bytes) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let count = written?;
        match Pin::new(&mut self.layers).poll_flush(&mut task) {
            Poll::Ready(flushed) => flushed?,
            Poll::Pending => self.unflushed = true,
        }
        Ok(count)
    }
}
