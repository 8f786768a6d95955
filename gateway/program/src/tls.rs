//! TLS at the public port, by rustls with `ring`: the certificate, its renewal while connections are open, and
//! handshakes with a time limit. Only this program links it; `infera up` listens on loopback and needs none.
//!
//! Renewed files are found by checking them at intervals and not by a signal, because a mounted secret changes
//! without one.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use infera_gateway::http::{Acceptor, Wire};
use infera_types::shutdown::Shutdown;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The settings of TLS at the public port. Both files are set, or neither is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file with the server's certificate, followed by those that lead to its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// How long a handshake may take, in milliseconds; a slower one ends its connection. During the handshake the
    /// connection takes one of the places. It needs two round trips and some arithmetic, so 10 s is enough even on a
    /// bad line.
    pub handshake_timeout_ms: u64,
    /// How often the files are checked for renewal, in milliseconds. A certificate is renewed days before the old one
    /// expires, and a minute is soon enough for an operator who waits for it.
    pub reload_ms: u64,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { certificate_file: None, key_file: None, handshake_timeout_ms: 10_000, reload_ms: 60_000 }
    }
}

/// The reason why the port can't speak TLS. The operator has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Only one of the two files is set.
    #[error("tls.certificate_file and tls.key_file are set together, or neither is")]
    Half,
    /// A file can't be used.
    #[error("{key} {}: {problem}", path.display())]
    File {
        /// The setting that names the file.
        key: &'static str,
        /// The file's path.
        path: PathBuf,
        /// What is wrong with the file. It shows nothing of its content.
        problem: String,
    },
    /// The certificate and the key don't belong together, or are of an unknown kind.
    #[error("tls.certificate_file and tls.key_file: {0}")]
    Pair(#[from] rustls::Error),
}

/// Makes connections secure. It is cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    handshake: Duration,
    credentials: Arc<Credentials>,
    reload: Duration,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("files", &self.credentials.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, or returns none if no files are set.
    ///
    /// # Errors
    /// [`TlsError`], which names the setting and what is wrong with it.
    pub fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let files = match (&config.certificate_file, &config.key_file) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => Files { certificate: certificate.clone(), key: key.clone() },
            _ => return Err(TlsError::Half),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let read = files.read()?;
        let current = ArcSwap::from_pointee(read.certified(&provider)?);
        let credentials = Arc::new(Credentials { files, current, provider: Arc::clone(&provider) });
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&credentials) as _);
        // The server speaks only HTTP/1.1; a client that insists on HTTP/2 is told so in the handshake.
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            handshake: Duration::from_millis(config.handshake_timeout_ms.max(1)),
            credentials,
            reload: Duration::from_millis(config.reload_ms.max(1)),
        }))
    }

    /// Checks for renewed files until `end`. A renewed certificate that can't be used is logged once, and the present
    /// one stays in use.
    pub async fn keep_fresh(self, end: Shutdown) {
        let mut last_problem = None;
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(self.reload) => {}
            }
            let credentials = Arc::clone(&self.credentials);
            // Reading files blocks, so it is done on a blocking thread.
            let renewed = tokio::task::spawn_blocking(move || credentials.renew()).await;
            let problem = match renewed {
                Ok(Ok(false)) => None,
                Ok(Ok(true)) => {
                    tracing::info!("the certificate was renewed");
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if problem != last_problem
                && let Some(problem) = &problem
            {
                tracing::error!(
                    problem,
                    "the renewed certificate can't be used; the present one stays in use"
                );
            }
            last_problem = problem;
        }
    }
}

#[async_trait]
impl Acceptor for Tls {
    async fn accept(&self, stream: TcpStream) -> Option<Box<dyn Wire>> {
        match tokio::time::timeout(self.handshake, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(Secured(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("handshake took too long");
                None
            }
        }
    }
}

/// A connection whose bytes go through TLS.
struct Secured(TlsStream<TcpStream>);

impl Wire for Secured {
    fn error(&self) -> Option<io::Error> {
        self.0.get_ref().0.error()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The paths of certificate and key.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// The content of these files.
struct Read {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    fn read(&self) -> Result<Read, TlsError> {
        let wrong_certificate = |problem: String| TlsError::File {
            key: "tls.certificate_file",
            path: self.certificate.clone(),
            problem,
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong_certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong_certificate("no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| TlsError::File {
            key: "tls.key_file",
            path: self.key.clone(),
            problem: error.to_string(),
        })?;
        Ok(Read { chain, key })
    }
}

impl Read {
    /// Returns the certificate with its key. It fails if they don't belong together, which is also the case while
    /// only one of the files has been renewed.
    fn certified(self, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
        CertifiedKey::from_der(self.chain, self.key, provider)
    }
}

/// The certificate that new connections get.
struct Credentials {
    files: Files,
    current: ArcSwap<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Credentials {
    fn current(&self) -> Arc<CertifiedKey> {
        self.current.load_full()
    }

    /// Replaces the certificate if the files have another one, and returns whether they had.
    fn renew(&self) -> Result<bool, TlsError> {
        let read = self.files.read()?;
        // A key is renewed only together with its certificate.
        if read.chain == self.current().cert {
            return Ok(false);
        }
        let renewed = Arc::new(read.certified(&self.provider)?);
        self.current.store(renewed);
        Ok(true)
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
