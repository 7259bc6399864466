//! Ways between nodes that can be closed, each direction by itself: what is sent meanwhile comes later and in order, as
//! with TCP over a network that is cut for a while.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

#[derive(Default)]
struct Gates {
    closed: BTreeSet<(IpAddr, IpAddr)>,
    waiting: Vec<Waker>,
}

thread_local! {
    static GATES: RefCell<Gates> = RefCell::default();
}

pub(super) fn close(from: IpAddr, to: IpAddr) {
    GATES.with_borrow_mut(|gates| gates.closed.insert((from, to)));
}

pub(super) fn open(from: IpAddr, to: IpAddr) {
    let waiting = GATES.with_borrow_mut(|gates| {
        gates.closed.remove(&(from, to));
        std::mem::take(&mut gates.waiting)
    });
    waiting.into_iter().for_each(Waker::wake);
}

/// One end of a connection.
pub(super) struct Gated {
    stream: TcpStream,
    way: (IpAddr, IpAddr),
}

impl Gated {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let way = (stream.peer_addr()?.ip(), stream.local_addr()?.ip());
        Ok(Gated { stream, way })
    }
}

impl AsyncRead for Gated {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let way = self.way;
        let is_closed = GATES.with_borrow_mut(|gates| {
            let is_closed = gates.closed.contains(&way);
            if is_closed {
                gates.waiting.push(task.waker().clone());
            }
            is_closed
        });
        if is_closed { Poll::Pending } else { Pin::new(&mut self.stream).poll_read(task, into) }
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
