//! The PROXY protocol, versions 1 and 2: a load balancer says whose connection it passes on, before anything else. As
//! specified by HAProxy, "The PROXY protocol, versions 1 & 2".

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::config::ProxyProtocol;

/// Bytes of the longest header of version 1, its CRLF included.
const LONGEST_V1: usize = 107;
const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses of version 2.
const HEAD_V2: usize = 16;
/// Bytes of addresses and further fields of version 2; what is longer is refused.
const LONGEST_V2: usize = 2_048;

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no proper PROXY header: {0}")]
    Malformed(&'static str),
}

/// Reads the header and nothing behind it; `None` where the proxy speaks for itself or cannot say for whom.
///
/// # Errors
/// [`ProxyError`] if there is none, or one that is not right.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    version: ProxyProtocol,
) -> Result<Option<SocketAddr>, ProxyError> {
    let first = stream.read_u8().await?;
    match (first, version) {
        (b'P', ProxyProtocol::V1 | ProxyProtocol::Any) => read_v1(stream, first).await,
        (b'\r', ProxyProtocol::V2 | ProxyProtocol::Any) => read_v2(stream, first).await,
        _ => Err(ProxyError::Malformed("it begins with something else")),
    }
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin), first: u8) -> Result<Option<SocketAddr>, ProxyError> {
    let mut line = vec![first];
    // Byte by byte: what follows the line is the client's.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_V1 {
            return Err(ProxyError::Malformed("the line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| ProxyError::Malformed("it is no text"))?;
    parse_v1(line).map_err(ProxyError::Malformed)
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin), first: u8) -> Result<Option<SocketAddr>, ProxyError> {
    let mut head = [first; HEAD_V2];
    stream.read_exact(&mut head[1..]).await?;
    if head[..SIGNATURE_V2.len()] != SIGNATURE_V2 {
        return Err(ProxyError::Malformed("the signature is another"));
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > LONGEST_V2 {
        return Err(ProxyError::Malformed("it is too long"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    parse_v2(head[12], head[13], &rest).map_err(ProxyError::Malformed)
}

/// A line without its CRLF: `PROXY TCP4 source destination source-port destination-port`.
fn parse_v1(line: &str) -> Result<Option<SocketAddr>, &'static str> {
    let mut words = line.split(' ');
    if words.next() != Some("PROXY") {
        return Err("it does not begin with PROXY");
    }
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let (Some(source), Some(destination), Some(port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err("it has not six words");
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            Some("TCP4") => text.parse().map(IpAddr::V4).ok(),
            Some("TCP6") => text.parse().map(IpAddr::V6).ok(),
            _ => None,
        }
    };
    match (address(source), address(destination), port.parse(), to_port.parse::<u16>()) {
        (Some(source), Some(_), Ok(port), Ok(_)) => Ok(Some(SocketAddr::new(source, port))),
        _ => Err("an address or a port is not right"),
    }
}

/// What follows the signature.
fn parse_v2(version_and_command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    match (version_and_command, family) {
        (LOCAL, _) => Ok(None),
        (PROXY, TCP_OVER_IPV4) => {
            // Source, destination, source port, destination port.
            let (address, rest) = rest.split_first_chunk::<4>().ok_or("the addresses are cut")?;
            let port = rest.get(4..6).filter(|_| rest.len() >= 8).ok_or("the addresses are cut")?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            Ok(Some(SocketAddr::new(Ipv4Addr::from(*address).into(), port)))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let (address, rest) = rest.split_first_chunk::<16>().ok_or("the addresses are cut")?;
            let port = rest.get(16..18).filter(|_| rest.len() >= 20).ok_or("the addresses are cut")?;
            let port = u16::from_be_bytes([port[0], port[1]]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*address).into(), port)))
        }
        // Of no family that a client of ours could have.
        (PROXY, _) => Ok(None),
        (_, _) => Err("the version or the command is unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    /// The header's meaning and the bytes that are left for the client.
    async fn read_all(mut bytes: &[u8], version: ProxyProtocol) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let read = read(&mut bytes, version).await;
        (read, bytes.len())
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE_V2[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x07, 0x5B];

    #[tokio::test]
    async fn a_line_of_version_1_names_the_source_and_takes_nothing_of_what_follows() {
        let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n\x10\x00";
        for version in [ProxyProtocol::V1, ProxyProtocol::Any] {
            let (read, left) = read_all(line, version).await;
            assert_eq!((read.unwrap(), left), (address("192.0.2.1:4660"), 2));
        }
        assert!(read_all(line, ProxyProtocol::V2).await.0.is_err());
        let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        assert_eq!(read_all(six, ProxyProtocol::V1).await.0.unwrap(), address("[2001:db8::1]:1"));
        assert_eq!(read_all(b"PROXY UNKNOWN whatever\r\n", ProxyProtocol::V1).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn a_header_of_version_2_names_the_source_and_its_further_fields_are_passed_over() {
        let (read, left) = read_all(&[&v2(0x21, 0x11, &FOUR), &b"\x10"[..]].concat(), ProxyProtocol::V2).await;
        assert_eq!((read.unwrap(), left), (address("192.0.2.1:4660"), 1));
        let fields = [&FOUR[..], &[0x04, 0, 2, 0, 0]].concat();
        let (read, left) = read_all(&v2(0x21, 0x11, &fields), ProxyProtocol::Any).await;
        assert_eq!((read.unwrap(), left), (address("192.0.2.1:4660"), 0));
        let six = [&[0x20, 1, 0x0D, 0xB8][..], &[0; 11], &[1], &[0; 16], &[0, 7, 0, 8]].concat();
        assert_eq!(read_all(&v2(0x21, 0x21, &six), ProxyProtocol::V2).await.0.unwrap(), address("[2001:db8::1]:7"));
        assert_eq!(read_all(&v2(0x20, 0, &[]), ProxyProtocol::V2).await.0.unwrap(), None, "it speaks for itself");
        assert_eq!(read_all(&v2(0x21, 0x31, &[0; 216]), ProxyProtocol::V2).await.0.unwrap(), None, "a UNIX socket");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let cut = v2(0x21, 0x11, &FOUR[..11]);
        let other_version = v2(0x31, 0x11, &FOUR);
        let too_long = [&SIGNATURE_V2[..], &[0x21, 0x11, 0xFF, 0xFF]].concat();
        let connect = b"\x10\x0C\x00\x04MQTT".to_vec();
        let wrong: [&[u8]; 9] = [
            &long,
            &cut,
            &other_version,
            &too_long,
            &connect,
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n",
            b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ];
        for bytes in wrong {
            assert!(read_all(bytes, ProxyProtocol::Any).await.0.is_err(), "{bytes:?}");
        }
        for whole in [&v2(0x21, 0x11, &FOUR)[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n"] {
            for length in 0..whole.len() {
                assert!(read_all(&whole[..length], ProxyProtocol::Any).await.0.is_err(), "{length} bytes");
            }
        }
    }
}
