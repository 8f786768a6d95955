//! Loads the trusted CAs for outbound TLS: those in a file or the system's, with rustls by `ring`. The seams decide
//! where to connect and whether TLS is required; servers' certificates are not handled here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Why there are no trusted CAs. The operator has to mend it; a retry changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be used.
    #[error("ca_file {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No file was given, and the system has no trusted CAs.
    #[error("this system has no trusted CAs: install ca-certificates, or name a ca_file")]
    NoSystem,
    /// The library refused the certificates.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// Returns the CAs that may vouch for a server: only those in the PEM file, or the system's if there is no file.
///
/// # Errors
/// [`TrustError`] says what is wrong with the file, or that the system has none.
pub fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let Some(path) = ca_file else {
        let mut store = RootCertStore::empty();
        // A system's store may hold a certificate that cannot be parsed; the others remain usable.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if store.is_empty() { Err(TrustError::NoSystem) } else { Ok(store) };
    };
    read(path).map(|(store, _)| store)
}

/// Returns the file's bytes, for a library that takes PEM, after checking that they are certificates.
///
/// # Errors
/// [`TrustError::File`] says what is wrong with it.
pub fn authorities_pem(path: &Path) -> Result<Vec<u8>, TrustError> {
    read(path).map(|(_, pem)| pem)
}

/// Returns the TLS configuration of our clients: TLS 1.2 or 1.3, the server's name and certificate checked, no client
/// certificate.
///
/// # Errors
/// As [`authorities`].
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(authorities(ca_file)?).with_no_client_auth())
}

fn read(path: &Path) -> Result<(RootCertStore, Vec<u8>), TrustError> {
    let wrong = |problem: String| TrustError::File { path: path.to_owned(), problem };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok((store, pem)) }
}
