//! Which process is at the other end of a connection on this machine.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The table is read while it changes, and may miss a line.
const LOOKS: usize = 3;

/// Which of the processes holds the socket at `theirs` that is connected to `ours`.
pub fn find(theirs: SocketAddr, ours: SocketAddr, pids: &[Option<u32>]) -> Option<usize> {
    (0..LOOKS).find_map(|_| {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = inode(&table, &written(theirs)?, &written(ours)?)?;
        pids.iter().position(|pid| pid.is_some_and(|pid| holds(pid, &inode)))
    })
}

/// An address as `/proc/net/tcp` has it: the four bytes as a number of the machine's own order, in hexadecimal.
fn written(address: SocketAddr) -> Option<String> {
    match address.ip() {
        IpAddr::V4(ip) => Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())),
        IpAddr::V6(_) => None,
    }
}

/// The inode of the socket with these addresses.
fn inode(table: &str, local: &str, remote: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let it = fields.next()? == local && fields.next()? == remote;
        if it { fields.nth(6).map(str::to_owned) } else { None }
    })
}

fn holds(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&wanted)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_process_at_the_other_end_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (server, theirs) = listener.accept().expect("a connection");
        let ours = server.local_addr().expect("connected");
        assert_eq!(find(theirs, ours, &[None, Some(1), Some(std::process::id())]), Some(2));
        assert_eq!(find(theirs, ours, &[None]), None);
    }
}
