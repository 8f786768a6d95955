//! Tokens signed by RSA with SHA-256, and the settings that lead to them. RabbitMQ holds the public half of the key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_core::config::Secret;
use infera_core::ids::{Digest, NodeId};
use infera_core::ledger::NodeBook;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::{Admission, BrokerAddress, Claims, SigningError, TokenSigner};

/// How nodes from outside are let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The private RSA key (PEM) that signs nodes' tokens; the same at all gateways. None: nodes from outside are not
    /// let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_key_file: Option<PathBuf>,
    /// Under which name RabbitMQ has the public half: `auth_oauth2.signing_keys.<this>`.
    pub token_key_id: String,
    /// How long a token lives, in seconds. Ten minutes: a node that was shut out can't come back for longer, and one
    /// that renews at half of it goes on through five minutes without a gateway.
    pub token_ttl_s: u64,
    /// Where nodes find the broker, as they are told it: no user, no password. On this machine by default; over a
    /// network always `amqps://`, or tokens can be read on the way.
    pub broker_url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_key_file: None,
            token_key_id: "nodes".to_owned(),
            token_ttl_s: 600,
            broker_url: "amqp://127.0.0.1:5672/%2F".to_owned(),
        }
    }
}

/// The settings can't be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The key.
    #[error("nodes.token_key_file {path}: {problem}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it; nothing of its content.
        problem: String,
    },
    /// The address.
    #[error("nodes.broker_url {0}")]
    Broker(&'static str),
    /// The time.
    #[error(
        "nodes.token_ttl_s must be between 30 and 3600: shorter is spent on renewing, longer outlives a revocation"
    )]
    Ttl,
}

/// The admission that the settings ask for; none without a key.
///
/// # Errors
/// [`AdmissionError`].
pub fn open(config: &Config, book: Arc<dyn NodeBook>) -> Result<Option<Admission>, AdmissionError> {
    let Some(path) = &config.token_key_file else { return Ok(None) };
    if !(30..=3600).contains(&config.token_ttl_s) {
        return Err(AdmissionError::Ttl);
    }
    let broker = BrokerAddress::parse(&config.broker_url).map_err(AdmissionError::Broker)?;
    let signer = Rs256::open(path, &config.token_key_id)?;
    Ok(Some(Admission::new(book, Arc::new(signer), config.token_ttl_s, broker)))
}

/// A private RSA key.
pub struct Rs256 {
    header: Header,
    key: EncodingKey,
    /// What queues' names are made of; follows from the key, so that all gateways have the same.
    queues: Digest,
}

impl std::fmt::Debug for Rs256 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rs256").field("key_id", &self.header.kid).finish_non_exhaustive()
    }
}

impl Rs256 {
    /// The key in a PEM file.
    ///
    /// # Errors
    /// [`AdmissionError::Key`].
    pub fn open(path: &Path, key_id: &str) -> Result<Self, AdmissionError> {
        let wrong = |problem: String| AdmissionError::Key { path: path.to_owned(), problem };
        let pem = std::fs::read(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let key =
            EncodingKey::from_rsa_pem(&pem).map_err(|error| wrong(format!("is no RSA key: {error}")))?;
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::RS256) };
        let queues = Digest::of(&[b"infera/queues/v1|".as_slice(), &pem].concat());
        let signer = Self { header, key, queues };
        // A public key, or one too short, is found out now and not by the first node.
        let probe = Claims { aud: "", sub: String::new(), iat: 0, exp: 0, scope: Vec::new() };
        signer.sign(&probe).map_err(|error| wrong(error.to_string()))?;
        Ok(signer)
    }
}

impl TokenSigner for Rs256 {
    fn sign(&self, claims: &Claims) -> Result<Secret, SigningError> {
        let token = jsonwebtoken::encode(&self.header, claims, &self.key);
        token.map(Secret::new).map_err(|error| SigningError(error.to_string()))
    }

    /// 128 bits of a keyed hash: hashed twice, so that no name leads to a longer one's.
    fn suffix(&self, node: &NodeId) -> String {
        let inner = Digest::of(&[self.queues.as_bytes(), node.as_str().as_bytes()].concat());
        let mut word = Digest::of(inner.as_bytes()).to_string();
        word.truncate(32);
        word
    }
}
