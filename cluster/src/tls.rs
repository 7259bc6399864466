//! TLS between nodes: each shows a certificate of the cluster's own authority, and sees the other's.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pem::{Contents, PemError, keep_fresh};

/// `cluster.tls.*`
#[derive(Debug, Clone)]
pub struct NodeTls {
    /// The authority of all nodes' certificates.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// How often the files are looked at.
    pub reload: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeTlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("TLS between nodes cannot be set up: {0}")]
    Setup(String),
}

/// Both ends, by the files as they were when they were last found good.
pub(crate) struct Tls {
    files: NodeTls,
    current: ArcSwap<Ends>,
    /// So that files that are bad are told of once.
    seen: Mutex<[Contents; 3]>,
}

impl fmt::Debug for Tls {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate in {}", self.files.cert.display())
    }
}

struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Ends {
    fn new([ca, cert, key]: &[Contents; 3]) -> Result<Self, NodeTlsError> {
        let setup = |error: &dyn fmt::Display| NodeTlsError::Setup(error.to_string());
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(ca.authorities()?);
        let own = Arc::new(SingleCertAndKey::from(cert.with_key(key)?));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier = verifier.build().map_err(|error| setup(&error))?;
        let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
        let server = server.map_err(|error| setup(&error))?;
        let mut server = server.with_client_cert_verifier(verifier).with_cert_resolver(own.clone());
        // A resumed session would not be asked for its certificate again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let client = client.map_err(|error| setup(&error))?;
        let mut client = client.with_root_certificates(roots).with_client_cert_resolver(own);
        client.resumption = Resumption::disabled();
        for alpn in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
            *alpn = vec![b"h2".to_vec()];
        }
        Ok(Ends { server: Arc::new(server), client: Arc::new(client) })
    }
}

impl Tls {
    pub(crate) fn load(files: &NodeTls) -> Result<Arc<Self>, NodeTlsError> {
        let contents = read(files)?;
        let current = ArcSwap::from_pointee(Ends::new(&contents)?);
        Ok(Arc::new(Tls { files: files.clone(), current, seen: Mutex::new(contents) }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load().server.clone())
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(self.current.load().client.clone())
    }

    /// Whether something else is in use now.
    fn reload(&self) -> Result<bool, NodeTlsError> {
        let contents = read(&self.files)?;
        let mut seen = self.seen.lock();
        if *seen == contents {
            return Ok(false);
        }
        let ends = Ends::new(&contents);
        *seen = contents;
        self.current.store(Arc::new(ends?));
        Ok(true)
    }

    /// New files are used by the next connection.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let every = self.files.reload;
        keep_fresh("cluster.tls", every, move || self.reload()).await;
    }
}

fn read(files: &NodeTls) -> Result<[Contents; 3], PemError> {
    Ok([Contents::read(&files.ca)?, Contents::read(&files.cert)?, Contents::read(&files.key)?])
}
