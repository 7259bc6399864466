//! Certificates and keys out of PEM files, and out of those that take their place.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};

use crate::blocking::blocking;

#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("{path}: {source}", path = .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is no PEM file with what is needed: {source}", path = .path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} has no certificate in it", path = .path.display())]
    NoCertificate { path: PathBuf },
    #[error("{path} has a certificate that can be no authority's: {source}", path = .path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("the certificate in {cert} and the key in {key} cannot be used together: {source}", cert = .cert.display(), key = .key.display())]
    Pair { cert: PathBuf, key: PathBuf, source: rustls::Error },
}

/// A file and what it held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Contents {
    /// # Errors
    /// [`PemError::File`]
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let failed = |source| PemError::File { path: path.into(), source };
        Ok(Contents { path: path.into(), bytes: std::fs::read(path).map_err(failed)? })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let path = || self.path.clone();
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|source| PemError::Pem { path: path(), source })?;
        if found.is_empty() { Err(PemError::NoCertificate { path: path() }) } else { Ok(found) }
    }

    /// The authorities in it.
    ///
    /// # Errors
    /// [`PemError`]
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            let failed = |source| PemError::Authority { path: self.path.clone(), source };
            roots.add(certificate).map_err(failed)?;
        }
        Ok(roots)
    }

    /// The chain in it with its private key.
    ///
    /// # Errors
    /// [`PemError`]
    pub fn with_key(&self, key: &Contents) -> Result<CertifiedKey, PemError> {
        let secret = PrivateKeyDer::from_pem_slice(&key.bytes);
        let secret = secret.map_err(|source| PemError::Pem { path: key.path.clone(), source })?;
        let failed = |source| PemError::Pair { cert: self.path.clone(), key: key.path.clone(), source };
        CertifiedKey::from_der(self.certificates()?, secret, &ring::default_provider()).map_err(failed)
    }
}

/// Looks at files again and again: `reload` says whether something else is in use now. What is wrong is told once, until it
/// changes.
pub async fn keep_fresh<E: std::error::Error + Send + 'static>(
    of: &str,
    every: Duration,
    reload: impl Fn() -> Result<bool, E> + Clone + Send + 'static,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told: Option<String> = None;
    loop {
        ticks.tick().await;
        match blocking(reload.clone()).await {
            Ok(Ok(is_new)) => {
                told = None;
                if is_new {
                    tracing::info!(of, "other certificates are in use");
                }
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::error!(of, error, "the certificates are not good: the earlier ones stay in use");
                }
                told = Some(error);
            }
            Err(error) => tracing::error!(of, %error, "the certificates could not be looked at"),
        }
    }
}
