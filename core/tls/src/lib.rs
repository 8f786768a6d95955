//! Loads the trusted CAs for outbound TLS: the system's and those in a file, with rustls by `ring`. The seams decide
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

/// Returns the CAs that may vouch for a server: the system's, and those in the PEM file if there is one. Every setting called
/// `ca_file` has this meaning.
///
/// # Errors
/// [`TrustError`] says what is wrong with the file, or that there is no file and the system has none.
pub fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    // A system's store may hold a certificate that cannot be parsed; the others remain usable.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        for certificate in read(path)?.0 {
            store.add(certificate)?;
        }
    }
    if store.is_empty() { Err(TrustError::NoSystem) } else { Ok(store) }
}

/// Returns the same CAs in DER, for a library that makes its own store of them. Those of the system's that rustls can't use are
/// left out.
///
/// # Errors
/// As [`authorities`].
pub fn authority_certificates(ca_file: Option<&Path>) -> Result<Vec<Vec<u8>>, TrustError> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    certificates.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if let Some(path) = ca_file {
        certificates.extend(read(path)?.0);
    }
    if certificates.is_empty() {
        return Err(TrustError::NoSystem);
    }
    Ok(certificates.iter().map(|certificate| certificate.to_vec()).collect())
}

/// Returns the file's bytes, for a library that takes PEM, after checking that they are certificates.
///
/// # Errors
/// [`TrustError::File`] says what is wrong with it.
pub fn authorities_pem(path: &Path) -> Result<Vec<u8>, TrustError> {
    read(path).map(|(_, pem)| pem)
}

/// Returns what is wrong with a `ca_file`; none if there is none, or if it can be used.
#[must_use]
pub fn mistake_in(ca_file: Option<&Path>) -> Option<TrustError> {
    ca_file.and_then(|path| read(path).err())
}

/// Returns the TLS configuration of our clients: TLS 1.2 or 1.3, the server's name and certificate checked, no client
/// certificate.
///
/// # Errors
/// As [`authorities`].
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TrustError> {
    trusting(authorities(ca_file)?)
}

/// Returns the TLS configuration of a client of HTTP, of which only some servers speak TLS (`is_tls`: at least one does).
/// Where none does, a system without trusted CAs is good enough.
///
/// # Errors
/// As [`authorities`].
pub fn client_of_http(ca_file: Option<&Path>, is_tls: bool) -> Result<ClientConfig, TrustError> {
    match authorities(ca_file) {
        Err(TrustError::NoSystem) if !is_tls => trusting(RootCertStore::empty()),
        authorities => trusting(authorities?),
    }
}

fn trusting(authorities: RootCertStore) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(authorities).with_no_client_auth())
}

/// Returns the file's certificates, each of which may vouch for a server, and its bytes.
fn read(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), TrustError> {
    let wrong = |problem: String| TrustError::File { path: path.to_owned(), problem };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        RootCertStore::empty().add(certificate.clone()).map_err(|error| wrong(error.to_string()))?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(wrong("no certificate in PEM form in it".to_owned()));
    }
    Ok((certificates, pem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_fault() {
        let manifest = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let folder = tempfile::tempdir().expect("a folder");
        let torn = folder.path().join("torn.pem");
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&torn, text).expect("written");
        for (path, fault) in [
            (Path::new("/nowhere"), "No such file"),
            (manifest, "no certificate"),
            (torn.as_path(), "invalid"),
        ] {
            let told = mistake_in(Some(path)).map(|mistake| mistake.to_string()).unwrap_or_default();
            assert!(told.contains(&*path.to_string_lossy()), "{told}");
            assert!(told.to_lowercase().contains(&fault.to_lowercase()), "{told}");
            assert!(authorities(Some(path)).is_err() && client(Some(path)).is_err());
            assert!(authority_certificates(Some(path)).is_err());
        }
        assert!(mistake_in(None).is_none());
    }
}
