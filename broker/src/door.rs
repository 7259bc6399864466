//! What comes before MQTT on a listener: the word of a load balancer, TLS, the WebSocket handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{Listener, ListenerType, ProxyProtocol};
use crate::connection::now_ms;
use crate::transport::proxy_protocol::{self, ProxyError};
use crate::transport::tls::{self, Identity, TlsError};
use crate::transport::{Transport, websocket};

/// One listener's.
pub struct Door {
    proxy_protocol: ProxyProtocol,
    trusted: Vec<IpNet>,
    tls: Option<(TlsAcceptor, Arc<Identity>)>,
    /// The path, of WebSockets.
    websocket: Option<String>,
    max_packet: usize,
    patience: Duration,
}

/// A client that may begin with its CONNECT.
pub struct Entered {
    pub stream: Transport,
    /// The client's own address, as far as it is known.
    pub peername: SocketAddr,
    pub sockname: SocketAddr,
    /// Milliseconds of [`now_ms`]. What came since then counts as time that its CONNECT has taken.
    pub accepted_at: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is none of trusted_proxies")]
    NotTrusted,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("WebSocket: {0}")]
    WebSocket(Box<tokio_tungstenite::tungstenite::Error>),
    #[error("not in time (session.connect_timeout)")]
    TooSlow,
}

impl Door {
    /// # Errors
    /// [`TlsError`] when a certificate cannot be used.
    pub fn new(listener: &Listener, patience: Duration) -> Result<Self, TlsError> {
        let (files, kind) = (&listener.tls, listener.r#type);
        let tls = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) if kind.is_encrypted() => Some(tls::acceptor(files, cert, key)?),
            // The rules of the configuration have seen to it that they are there where they are needed.
            (_, _) => None,
        };
        Ok(Self::with(tls, listener, patience))
    }

    /// The same listener's, as it is configured now. What TLS shows stays.
    pub fn changed(&self, listener: &Listener, patience: Duration) -> Self {
        Self::with(self.tls.clone(), listener, patience)
    }

    fn with(tls: Option<(TlsAcceptor, Arc<Identity>)>, listener: &Listener, patience: Duration) -> Self {
        let network = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let is_websocket = matches!(listener.r#type, ListenerType::Ws | ListenerType::Wss);
        Door {
            proxy_protocol: listener.proxy_protocol,
            trusted: listener.trusted_proxies.iter().filter_map(network).collect(),
            tls,
            websocket: is_websocket.then(|| listener.path.clone()),
            max_packet: listener.max_packet as usize,
            patience,
        }
    }

    /// The certificate that is kept fresh.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.tls.as_ref().map(|(_, identity)| identity)
    }

    /// # Errors
    /// [`DoorError`]: the socket is closed.
    pub async fn enter(&self, stream: TcpStream, peername: SocketAddr) -> Result<Entered, DoorError> {
        stream.set_nodelay(true)?;
        let (sockname, accepted_at) = (stream.local_addr()?, now_ms());
        if self.proxy_protocol == ProxyProtocol::Off && self.tls.is_none() && self.websocket.is_none() {
            return Ok(Entered { stream: Transport::Tcp(stream), peername, sockname, accepted_at });
        }
        // On the heap: a plain connection's task would have room for handshakes all its life.
        let entering = timeout(self.patience, Box::pin(self.shake_hands(stream, peername))).await;
        let (stream, peername) = entering.unwrap_or(Err(DoorError::TooSlow))?;
        Ok(Entered { stream, peername, sockname, accepted_at })
    }

    async fn shake_hands(
        &self,
        mut stream: TcpStream,
        mut peername: SocketAddr,
    ) -> Result<(Transport, SocketAddr), DoorError> {
        if self.proxy_protocol != ProxyProtocol::Off {
            let from = peername.ip().to_canonical();
            if !self.trusted.iter().any(|network| network.contains(&from)) {
                return Err(DoorError::NotTrusted);
            }
            peername = proxy_protocol::read(&mut stream, self.proxy_protocol).await?.unwrap_or(peername);
        }
        let transport = match (&self.tls, &self.websocket) {
            (None, None) => Transport::Tcp(stream),
            (Some((acceptor, _)), None) => Transport::layered(acceptor.accept(stream).await.map_err(DoorError::Tls)?),
            (None, Some(path)) => {
                let accepted = websocket::accept(stream, path, self.max_packet).await;
                Transport::layered(accepted.map_err(DoorError::WebSocket)?)
            }
            (Some((acceptor, _)), Some(path)) => {
                let encrypted = acceptor.accept(stream).await.map_err(DoorError::Tls)?;
                let accepted = websocket::accept(encrypted, path, self.max_packet).await;
                Transport::layered(accepted.map_err(DoorError::WebSocket)?)
            }
        };
        Ok((transport, peername))
    }
}
