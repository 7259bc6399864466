//! TLS 1.2 and 1.3. Certificates can be exchanged while connections stay: the next handshake gets the new one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rollcall_cluster::pem::{Contents, PemError};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientAuth, ListenerTls};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("{path} cannot say which client certificates are good: {why}", path = .path.display())]
    ClientCa { path: PathBuf, why: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// One listener's certificate and key, and what it judges its clients' certificates by, as the files had them when they
/// were last found good.
pub struct Identity {
    files: Files,
    certified: ArcSwap<CertifiedKey>,
    clients: Option<Arc<Clients>>,
    /// The files' contents at the last look, so that one that is bad is told of once.
    seen: Mutex<Found>,
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// Where clients are asked for certificates.
    client_ca: Option<PathBuf>,
}

#[derive(PartialEq, Eq)]
struct Found {
    cert: Contents,
    key: Contents,
    client_ca: Option<Contents>,
}

/// What the contents come to, if all of them are good.
struct Loaded {
    certified: CertifiedKey,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for Identity {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate in {}", self.files.cert.display())
    }
}

impl ResolvesServerCert for Identity {
    /// Whatever name the client asks for.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }
}

impl Identity {
    fn load(files: Files, auth: ClientAuth) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let Loaded { certified, verifier } = files.parse(&contents, auth)?;
        let clients = verifier.map(|verifier| Arc::new(Clients { auth, verifier: ArcSwap::from_pointee(verifier) }));
        Ok(Identity { files, certified: ArcSwap::from_pointee(certified), clients, seen: Mutex::new(contents) })
    }

    /// Looks at the files again; whether something else is in use now.
    ///
    /// # Errors
    /// [`TlsError`] if they have changed and are not good: everything stays as it was.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let contents = self.files.read()?;
        let mut seen = self.seen.lock();
        if *seen == contents {
            return Ok(false);
        }
        let auth = self.clients.as_ref().map_or(ClientAuth::None, |clients| clients.auth);
        let loaded = self.files.parse(&contents, auth);
        *seen = contents;
        let Loaded { certified, verifier } = loaded?;
        self.certified.store(Arc::new(certified));
        if let (Some(clients), Some(verifier)) = (&self.clients, verifier) {
            clients.verifier.store(Arc::new(verifier));
        }
        Ok(true)
    }
}

impl Files {
    fn read(&self) -> Result<Found, TlsError> {
        let client_ca = self.client_ca.as_deref().map(Contents::read).transpose()?;
        Ok(Found { cert: Contents::read(&self.cert)?, key: Contents::read(&self.key)?, client_ca })
    }

    fn parse(&self, found: &Found, auth: ClientAuth) -> Result<Loaded, TlsError> {
        let certified = found.cert.with_key(&found.key)?;
        let verifier = match (&self.client_ca, &found.client_ca) {
            (Some(path), Some(authorities)) => Some(client_verifier(path, authorities, auth)?),
            (_, _) => None,
        };
        Ok(Loaded { certified, verifier })
    }
}

/// Judges clients by whatever authorities are in force at the moment of their handshake.
#[derive(Debug)]
struct Clients {
    auth: ClientAuth,
    verifier: ArcSwap<Arc<dyn ClientCertVerifier>>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    /// None: they are borrowed, and may change. A client then offers the certificate it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier.load().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.load().supported_verify_schemes()
    }
}

/// What a listener needs for its handshakes.
///
/// # Errors
/// [`TlsError`], which names the file.
pub fn acceptor(tls: &ListenerTls, cert: &Path, key: &Path) -> Result<(TlsAcceptor, Arc<Identity>), TlsError> {
    let client_ca = tls.client_ca.clone().filter(|_| tls.client_auth != ClientAuth::None);
    let files = Files { cert: cert.into(), key: key.into(), client_ca };
    let identity = Arc::new(Identity::load(files, tls.client_auth)?);
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match identity.clients.clone() {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
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
    authorities: &Contents,
    auth: ClientAuth,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (roots, provider) = (Arc::new(authorities.authorities()?), Arc::new(ring::default_provider()));
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| TlsError::ClientCa { path: path.into(), why: error.to_string() })
}
