//! The way of a client that knows plain TCP alone to a listener that speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// # Errors
/// No connection, or a handshake that fails. With TLS 1.3 the server's no may come only after it.
pub async fn encrypted(node: SocketAddr, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(node).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config).connect(name, stream).await
}

/// An address that leads one connection through TLS to the node; it ends when either side does.
pub async fn tls(node: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let (mut inner, _) = listener.accept().await.expect("a client comes");
        if let Ok(mut outer) = encrypted(node, config).await {
            // Whichever end closes first, the other learns it by the end of its stream.
            let _ = copy_bidirectional(&mut inner, &mut outer).await;
        }
    });
    address
}
