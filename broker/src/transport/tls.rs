//! TLS 1.2 and 1.3. Certificates can be exchanged while connections stay: the next handshake gets the new one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientAuth, ListenerTls};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is no PEM file with what is needed: {source}", path = .path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} has no certificate in it", path = .path.display())]
    NoCertificate { path: PathBuf },
    #[error("the certificate in {cert} and the key in {key} cannot be used together: {source}", cert = .cert.display(), key = .key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("{path} cannot say which client certificates are good: {why}", path = .path.display())]
    ClientCa { path: PathBuf, why: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// One listener's certificate and key, as the files had them when they were last found good.
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    /// The files' contents at the last look, so that one that is bad is told of once.
    seen: Mutex<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Identity {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate in {}", self.cert.display())
    }
}

impl ResolvesServerCert for Identity {
    /// Whatever name the client asks for.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Identity {
    fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let contents = (read(cert)?, read(key)?);
        let current = ArcSwap::from_pointee(pair(cert, key, &contents)?);
        Ok(Identity { cert: cert.into(), key: key.into(), current, seen: Mutex::new(contents) })
    }

    /// Looks at the files again; whether there is another certificate now.
    ///
    /// # Errors
    /// [`TlsError`] if they have changed and are not good: the earlier ones stay.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = (read(&self.cert)?, read(&self.key)?);
        let mut seen = self.seen.lock();
        if *seen == contents {
            return Ok(false);
        }
        let loaded = pair(&self.cert, &self.key, &contents);
        *seen = contents;
        self.current.store(Arc::new(loaded?));
        Ok(true)
    }
}

/// What a listener needs for its handshakes.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn acceptor(tls: &ListenerTls, cert: &Path, key: &Path) -> Result<(TlsAcceptor, Arc<Identity>), TlsError> {
    let identity = Arc::new(Identity::load(cert, key)?);
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        Some(ca) if tls.client_auth != ClientAuth::None => {
            builder.with_client_cert_verifier(client_verifier(ca, tls.client_auth, provider)?)
        }
        Some(_) | None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(identity.clone());
    if tls.client_auth != ClientAuth::None {
        // A resumed session would not be asked for its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok((TlsAcceptor::from(Arc::new(config)), identity))
}

fn client_verifier(
    path: &Path,
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let failed = |why: String| TlsError::ClientCa { path: path.into(), why };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| failed(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.into(), source })
}

fn certificates(path: &Path, contents: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
    let found = found.map_err(|source| TlsError::Pem { path: path.into(), source })?;
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.into() }) } else { Ok(found) }
}

fn pair(cert: &Path, key: &Path, contents: &(Vec<u8>, Vec<u8>)) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert, &contents.0)?;
    let secret = PrivateKeyDer::from_pem_slice(&contents.1);
    let secret = secret.map_err(|source| TlsError::Pem { path: key.into(), source })?;
    let pair = CertifiedKey::from_der(chain, secret, &ring::default_provider());
    pair.map_err(|source| TlsError::Pair { cert: cert.into(), key: key.into(), source })
}

/// Looks for another certificate again and again.
pub async fn keep_fresh(listener: String, identity: Arc<Identity>, every: std::time::Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_bad = false;
    loop {
        ticks.tick().await;
        let looking = identity.clone();
        match tokio::task::spawn_blocking(move || looking.reload()).await {
            Ok(Ok(true)) => {
                was_bad = false;
                tracing::info!(listener, "another certificate is in use");
            }
            Ok(Ok(false)) => {}
            Ok(Err(error)) if was_bad => tracing::debug!(listener, %error, "the certificate is still not good"),
            Ok(Err(error)) => {
                was_bad = true;
                tracing::error!(listener, %error, "the certificate has changed and is not good: the earlier one stays");
            }
            Err(error) => tracing::error!(listener, %error, "the certificate could not be looked at"),
        }
    }
}
