//! The network between the nodes: each node is known to the others by an address of this program's own, which carries
//! every byte on to it, or holds it up, one way between two nodes at a time. It needs no privileges, and nothing but the
//! nodes' own traffic on 127.0.0.1 passes here: clients reach every node, whatever it is cut off from.
//!
//! What is held up comes later and in order, as TCP makes of lost packets; what is closed meanwhile is closed when the way
//! is open again. A connection that is begun while its way is cut stays silent, and is closed then.

mod source;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const CHUNK: usize = 16 * 1024;
/// Chunks on their way at most; what comes beyond waits in the sender's kernel.
const ON_THE_WAY: usize = 64;
/// How long a sender waits before it sends a lost packet again: Linux's least.
const RETRANSMISSION: Duration = Duration::from_millis(200);
/// Each further loss of the same packet doubles the wait, so many times at most.
const LOSSES: u32 = 3;

/// What the way from one node to another is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    pub open: bool,
    pub delay: Duration,
    /// The part of the chunks that have to be sent again.
    pub loss: f64,
}

impl Condition {
    pub const GOOD: Self = Self { open: true, delay: Duration::ZERO, loss: 0.0 };
    pub const CUT: Self = Self { open: false, ..Self::GOOD };
}

pub struct Net {
    size: usize,
    /// From each node to each other one.
    ways: Arc<[watch::Sender<Condition>]>,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
    doors: Vec<JoinHandle<()>>,
}

impl Net {
    /// `fronts` are the addresses that the nodes advertise, `backs` those that they listen on.
    pub async fn start(fronts: &[u16], backs: &[u16]) -> Result<Self, String> {
        let size = fronts.len();
        let ways = (0..size * size).map(|_| watch::channel(Condition::GOOD).0).collect();
        let mut net = Self { size, ways, pids: Arc::new(Mutex::new(vec![None; size])), doors: Vec::new() };
        for (node, (&front, &back)) in fronts.iter().zip(backs).enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", front)).await.map_err(|error| error.to_string())?;
            let door = Door { node, back, size, ways: Arc::clone(&net.ways), pids: Arc::clone(&net.pids) };
            net.doors.push(tokio::spawn(door.keep(listener)));
        }
        Ok(net)
    }

    /// Says which process the node is now.
    pub fn born(&self, node: usize, pid: u32) {
        self.pids.lock()[node] = Some(pid);
    }

    pub fn set(&self, from: usize, to: usize, condition: Condition) {
        self.ways[from * self.size + to].send_replace(condition);
    }

    /// Both ways between two nodes.
    pub fn set_pair(&self, one: usize, other: usize, condition: Condition) {
        self.set(one, other, condition);
        self.set(other, one, condition);
    }

    /// All ways to and from a node.
    pub fn set_around(&self, node: usize, condition: Condition) {
        for other in (0..self.size).filter(|&other| other != node) {
            self.set_pair(node, other, condition);
        }
    }

    pub fn heal(&self) {
        for way in self.ways.iter() {
            way.send_replace(Condition::GOOD);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for door in &self.doors {
            door.abort();
        }
    }
}

/// Where the other nodes reach one node.
struct Door {
    node: usize,
    back: u16,
    size: usize,
    ways: Arc<[watch::Sender<Condition>]>,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
}

impl Door {
    async fn keep(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.let_in(stream),
                // Out of file descriptors, most likely: some will be free again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn let_in(&self, stream: TcpStream) {
        let (node, back, size) = (self.node, self.back, self.size);
        let (ways, pids) = (Arc::clone(&self.ways), self.pids.lock().clone());
        tokio::spawn(async move {
            let Ok((stream, Some(from))) = whose(stream, pids).await else { return };
            let there = ways[from * size + node].subscribe();
            let here = ways[node * size + from].subscribe();
            carry(stream, back, there, here).await;
        });
    }
}

/// The node whose process holds the other end.
async fn whose(stream: TcpStream, pids: Vec<Option<u32>>) -> std::io::Result<(TcpStream, Option<usize>)> {
    let (theirs, ours) = (stream.peer_addr()?, stream.local_addr()?);
    let found = tokio::task::spawn_blocking(move || source::find(theirs, ours, &pids)).await;
    Ok((stream, found.ok().flatten()))
}

async fn carry(
    near: TcpStream,
    back: u16,
    mut there: watch::Receiver<Condition>,
    mut here: watch::Receiver<Condition>,
) {
    let cut = |way: &watch::Receiver<Condition>| !way.borrow().open;
    if cut(&there) || cut(&here) {
        // No handshake gets through: the first packet of it, or the answer, is lost.
        passable(&mut there).await;
        passable(&mut here).await;
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", back)).await else { return };
    if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(pump(near_in, far_out, there), pump(far_in, near_out, here));
}

async fn passable(way: &mut watch::Receiver<Condition>) {
    // An error says that the net is gone: the nodes are, too.
    let _ = way.wait_for(|condition| condition.open).await;
}

async fn pump(mut input: OwnedReadHalf, mut output: OwnedWriteHalf, mut way: watch::Receiver<Condition>) {
    let (line, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let now = way.clone();
    let reading = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if !input.read_buf(&mut chunk).await.is_ok_and(|length| length > 0) {
                return;
            }
            let condition = *now.borrow();
            if line.send((Instant::now() + condition.delay + resent(condition.loss), chunk)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = arriving.recv().await {
            sleep_until(due).await;
            passable(&mut way).await;
            if output.write_all(&chunk).await.is_err() {
                return;
            }
        }
        passable(&mut way).await;
        // If the other end is gone it has nothing to be told.
        let _ = output.shutdown().await;
    };
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => {}
        () = reading => writing.await,
    }
}

/// For how long a chunk is held up by being lost.
fn resent(loss: f64) -> Duration {
    let mut rng = rand::rng();
    let losses = (0..LOSSES).take_while(|_| loss > 0.0 && rng.random_bool(loss)).count() as u32;
    RETRANSMISSION * (2u32.pow(losses) - 1)
}

#[cfg(test)]
mod tests;
