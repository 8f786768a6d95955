//! Signs tokens by ECDSA on P-256 with SHA-256 (JWT's `ES256`), and reads the settings for it. RabbitMQ has the
//! public half of the key.
//!
//! ring signs in constant time. Of `jsonwebtoken`'s own backends, the pure-Rust one brings RSA that leaks its key by
//! timing (RUSTSEC-2023-0071), and the other one is C that takes minutes to build. RabbitMQ 3.10, 4.0 and 4.3 accept
//! ES256; 4.0 fails at `EdDSA`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_gateway::access::{Admission, BrokerAddress, Claims, SigningError, TokenSigner};
use infera_ledger::NodeBook;
use infera_types::ids::{Digest, NodeId};
use infera_types::secret::Secret;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};

/// The settings for letting in nodes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file of the private key that signs nodes' tokens (EC on the curve P-256; PEM, PKCS #8), the same at all
    /// gateways. Without it, nodes from outside are not let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_key_file: Option<PathBuf>,
    /// The name under which RabbitMQ has the public half of the key: `auth_oauth2.signing_keys.<this>`.
    pub token_key_id: String,
    /// How long a token lives, in seconds. The default is ten minutes: a revoked node can come back for no longer,
    /// and a node that renews its token at half its life keeps working through five minutes without a gateway.
    pub token_ttl_s: u64,
    /// The broker's address as nodes are told it, without user and password. The default is on this machine. Over a
    /// network use `amqps://`, or tokens can be read on the way.
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

/// A mistake in these settings, which the operator has to mend.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The key can't be used.
    #[error("nodes.token_key_file {path}: {problem}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with the key. It shows nothing of the file's content.
        problem: String,
    },
    /// The broker's address can't be used.
    #[error("nodes.broker_url {0}")]
    Broker(&'static str),
    /// The lifetime of tokens is out of range.
    #[error(
        "nodes.token_ttl_s must be between 30 and 3600: a shorter one costs too many renewals, and a longer one lets \
         revoked nodes in for too long"
    )]
    Ttl,
}

/// Opens the admission that the settings describe, or returns none if they name no key.
///
/// # Errors
/// [`AdmissionError`].
pub fn open(config: &Config, book: Arc<dyn NodeBook>) -> Result<Option<Admission>, AdmissionError> {
    let Some(path) = &config.token_key_file else { return Ok(None) };
    if !(30..=3600).contains(&config.token_ttl_s) {
        return Err(AdmissionError::Ttl);
    }
    let broker = BrokerAddress::parse(&config.broker_url).map_err(AdmissionError::Broker)?;
    let signer = TokenKey::open(path, &config.token_key_id)?;
    Ok(Some(Admission::new(book, Arc::new(signer), config.token_ttl_s, broker)))
}

/// The commands that make a fitting key, and the settings that go with it.
const MAKE: &str = "make a pair by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out nodes.key` \
                    and `openssl pkey -in nodes.key -pubout -out nodes.pub`; give nodes.key to all gateways and \
                    nodes.pub to RabbitMQ, with `auth_oauth2.algorithms.1 = ES256` in its configuration";

/// A private key on P-256.
pub struct TokenKey {
    header: Header,
    key: EncodingKey,
    /// The seed of the names of nodes' queues. It follows from the key, so that all gateways have the same.
    queues: Digest,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenKey").field("key_id", &self.header.kid).finish_non_exhaustive()
    }
}

impl TokenKey {
    /// Reads the key from a PEM file.
    ///
    /// # Errors
    /// [`AdmissionError::Key`].
    pub fn open(path: &Path, key_id: &str) -> Result<Self, AdmissionError> {
        let wrong = |problem: String| AdmissionError::Key { path: path.to_owned(), problem };
        let pem = std::fs::read(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let is_rsa = || EncodingKey::from_rsa_pem(&pem).is_ok();
        let unfit = || {
            let found = if is_rsa() { "an RSA key, which signed tokens before" } else { "something else" };
            wrong(format!("must be a private EC key on P-256 (PEM, PKCS #8), and this is {found}: {MAKE}"))
        };
        let key = EncodingKey::from_ec_pem(&pem).map_err(|_| unfit())?;
        // Installing it again for a second key changes nothing.
        let _ = BY_RING.install_default();
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::ES256) };
        let queues = Digest::of(&[b"infera/queues/v1|".as_slice(), &pem].concat());
        let opened = Self { header, key, queues };
        // A trial signature finds a key on another curve now and not when the first node comes.
        let probe = Claims { aud: "", sub: String::new(), iat: 0, exp: 0, scope: Vec::new() };
        opened.sign(&probe).map_err(|_| unfit())?;
        Ok(opened)
    }
}

impl TokenSigner for TokenKey {
    fn sign(&self, claims: &Claims) -> Result<Secret, SigningError> {
        let token = jsonwebtoken::encode(&self.header, claims, &self.key);
        token.map(Secret::new).map_err(|error| SigningError(error.to_string()))
    }

    /// Returns 128 bits of a keyed hash. It is hashed twice, so that the result for one name doesn't lead to that for
    /// a longer name.
    fn suffix(&self, node: &NodeId) -> String {
        let inner = Digest::of(&[self.queues.as_bytes(), node.as_str().as_bytes()].concat());
        let mut word = Digest::of(inner.as_bytes()).to_string();
        word.truncate(32);
        word
    }
}

/// The cryptography of `jsonwebtoken` in this program. It has one algorithm and only signs, because gateways read no
/// tokens.
static BY_RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: no_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::ES256 {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &random);
    Ok(Box::new(ByRing(pair.map_err(|_| ErrorKind::InvalidEcdsaKey)?, random)))
}

fn no_verifier(_: &Algorithm, _: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

struct ByRing(EcdsaKeyPair, SystemRandom);

impl Signer<Vec<u8>> for ByRing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let signed = self.0.sign(&self.1, message).map_err(|_| signature::Error::new())?;
        Ok(signed.as_ref().to_vec())
    }
}

impl JwtSigner for ByRing {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}
