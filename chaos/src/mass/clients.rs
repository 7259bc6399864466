//! Clients that do nothing but be there, in processes of their own that can be killed.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::visit::clean;
use crate::mqtt::link::{Link, Lost};
use crate::mqtt::wire::{Connect, Version};
use crate::sockets;

/// Connects that a process has under way.
const AT_ONCE: usize = 64;
/// Seconds: nobody pings.
const KEEP_ALIVE: u16 = 3_600;
/// Until all are connected.
const CONNECTED: Duration = Duration::from_secs(180);
const OTHER_FILES: u64 = 100;
/// A connect that failed is tried again, so often.
const ATTEMPTS: usize = 5;
const READY: &str = "ready";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where they connect to.
    #[arg(long)]
    port: u16,
    /// The address that they come from: one alone has too few ports for many.
    #[arg(long)]
    source: Ipv4Addr,
    #[arg(long)]
    count: u32,
    /// Of their client ids.
    #[arg(long)]
    prefix: String,
}

/// Connects all, says so, and keeps them until its input ends.
///
/// # Errors
/// One could not connect.
pub async fn run(arguments: &Arguments) -> Result<(), String> {
    sockets::make_room(u64::from(arguments.count) + OTHER_FILES)?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = JoinSet::new();
    for number in 0..arguments.count {
        let (turns, source, port) = (Arc::clone(&turns), arguments.source, arguments.port);
        let connect = Connect { keep_alive: KEEP_ALIVE, ..clean(format!("{}{number}", arguments.prefix), Version::V5) };
        connecting.spawn(async move {
            let _turn = turns.acquire().await;
            let mut last = Lost::Gone("never tried".into());
            for _ in 0..ATTEMPTS {
                match open(source, port, &connect).await {
                    Ok(link) => return Ok(link),
                    Err(lost) => last = lost,
                }
            }
            Err(format!("{}: {last:?}", connect.client_id))
        });
    }
    let mut links = Vec::new();
    while let Some(link) = connecting.join_next().await {
        links.push(link.map_err(|error| error.to_string())??);
    }
    println!("{READY}");
    // Whoever started it holds the other end: if that one dies, this ends too.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    drop(links);
    Ok(())
}

async fn open(source: Ipv4Addr, port: u16, connect: &Connect) -> Result<Link, Lost> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.set_nodelay(true)?;
    Ok(Link::open(stream, connect).await?.0)
}

/// The processes, as their parent has them.
pub struct Clients {
    processes: Vec<Child>,
}

impl Clients {
    /// # Errors
    /// Not all of them could connect.
    pub async fn start(port: u16, count: u32, processes: u8, prefix: &str) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut clients = Self { processes: Vec::new() };
        let (each, rest) = (count / u32::from(processes), count % u32::from(processes));
        for number in 0..processes {
            let count = each + u32::from(u32::from(number) < rest);
            let mut command = Command::new(&program);
            command
                .arg("mass-clients")
                .args(["--port", &port.to_string(), "--source", &format!("127.0.0.{}", number + 2)])
                .args(["--count", &count.to_string(), "--prefix", &format!("{prefix}{number}-")])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true);
            clients.processes.push(command.spawn().map_err(|error| error.to_string())?);
        }
        for process in &mut clients.processes {
            let output = process.stdout.take().ok_or("a process without an output")?;
            let line = timeout(CONNECTED, BufReader::new(output).lines().next_line()).await;
            match line {
                Ok(Ok(Some(line))) if line == READY => {}
                Ok(Ok(_) | Err(_)) => return Err("a process of clients has failed".into()),
                Err(_) => return Err(format!("not all clients are connected within {CONNECTED:?}")),
            }
        }
        Ok(clients)
    }

    /// SIGKILL for all of them.
    pub fn kill(&mut self) -> Result<(), String> {
        self.processes.iter_mut().try_for_each(|process| process.start_kill().map_err(|error| error.to_string()))
    }
}
