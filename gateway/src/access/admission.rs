//! How nodes from outside are let in: what a node's token says, which queue belongs to the node, and why a node may
//! be refused. This file reads no requests and speaks no broker's protocol; RabbitMQ enforces what the token says.
//!
//! A token lets its node read its own queue and publish to the nodes' exchange under keys that begin with the node's
//! id, and nothing else. It lives for minutes, so a revoked node can log in and publish for minutes at most, even
//! where no warden closes its connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::{Queue, topology};
use infera_ledger::{LedgerError, NodeBook, NodeRecord};
use infera_types::ids::{AccountId, Digest, NodeId};
use infera_types::secret::Secret;
use infera_types::time::Timestamp;
use serde::Serialize;

use crate::fastapi::email;

/// The audience of our tokens: RabbitMQ's `auth_oauth2.resource_server_id`, and the prefix of every scope.
const AUDIENCE: &str = "rabbitmq";

/// The claims of a token (RFC 7519). RabbitMQ takes `sub` as the user's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The service that the token is for.
    pub aud: &'static str,
    /// The node's id.
    pub sub: String,
    /// The time from which the token is valid, in seconds since 1970.
    pub iat: u64,
    /// The time at which the token expires, in seconds since 1970.
    pub exp: u64,
    /// What the node may do, in the words of RabbitMQ's OAuth 2 plugin.
    pub scope: Vec<String>,
}

/// The error of a token that could not be signed. The gateway or its key is at fault.
#[derive(Debug, thiserror::Error)]
#[error("a token can't be signed: {0}")]
pub struct SigningError(pub String);

/// Signs tokens with the key that the broker trusts.
pub trait TokenSigner: Send + Sync + fmt::Debug {
    /// Returns a signed token that makes these `claims`.
    ///
    /// # Errors
    /// [`SigningError`]. A retry doesn't help.
    fn sign(&self, claims: &Claims) -> Result<Secret, SigningError>;

    /// Returns the random suffix of a node's queue. It is the same at every gateway that holds the key, and can't be
    /// guessed without the key.
    fn suffix(&self, node: &NodeId) -> String;
}

/// What a node is told once it is let in.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token by which the node logs in at the broker.
    pub token: Secret,
    /// The lifetime of the token, in seconds.
    pub expires_in_s: u64,
    /// The queue that the node reads.
    pub queue: Queue,
}

/// Lets nodes in by giving them tokens.
#[derive(Debug)]
pub struct Admission {
    /// The ledger's part that says whose nodes may come in.
    pub book: Arc<dyn NodeBook>,
    signer: Arc<dyn TokenSigner>,
    token_ttl_s: u64,
    broker: BrokerAddress,
}

impl Admission {
    /// Makes an admission to the broker at `broker`, with tokens that live for `token_ttl_s` seconds.
    #[must_use]
    pub fn new(
        book: Arc<dyn NodeBook>,
        signer: Arc<dyn TokenSigner>,
        token_ttl_s: u64,
        broker: BrokerAddress,
    ) -> Self {
        Self { book, signer, token_ttl_s, broker }
    }

    /// Returns the broker's address as nodes are told it.
    #[must_use]
    pub const fn broker(&self) -> &BrokerAddress {
        &self.broker
    }

    /// Returns when a token that is made at `now` expires.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Timestamp {
        now.after(Duration::from_secs(self.token_ttl_s))
    }

    /// Makes a token for `node` and names its queue, without declaring the queue. Signing runs on a blocking thread:
    /// it delays no other request, and the times of other replies don't show how long it took.
    ///
    /// # Errors
    /// [`SigningError`].
    pub async fn access(&self, node: &NodeId, now: Timestamp) -> Result<Access, SigningError> {
        let (signer, node) = (Arc::clone(&self.signer), node.clone());
        let (broker, ttl_s) = (self.broker.clone(), self.token_ttl_s);
        let signing = tokio::task::spawn_blocking(move || {
            let queue = topology::node(&node, &signer.suffix(&node));
            let claims = claims(&node, &queue.name, &broker, now.as_secs(), ttl_s);
            Ok(Access { token: signer.sign(&claims)?, expires_in_s: ttl_s, queue })
        });
        signing.await.map_err(|error| SigningError(error.to_string()))?
    }
}

/// Returns the claims for a node that reads `queue`. They are valid for `ttl_s` seconds from `now_s` (seconds since
/// 1970).
fn claims(node: &NodeId, queue: &str, broker: &BrokerAddress, now_s: u64, ttl_s: u64) -> Claims {
    let (vhost, exchange) = (broker.vhost(), topology::NODES_EXCHANGE);
    Claims {
        aud: AUDIENCE,
        sub: node.to_string(),
        iat: now_s,
        exp: now_s + ttl_s,
        scope: vec![
            format!("{AUDIENCE}.read:{vhost}/{queue}"),
            // RabbitMQ's `*` is any text. The dot before it keeps n1 from writing as n12.
            format!("{AUDIENCE}.write:{vhost}/{exchange}/{node}.*"),
        ],
    }
}

/// The broker's address as nodes are told it: `amqp(s)://host:port/vhost`, without user and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress(String);

impl BrokerAddress {
    /// Reads the address in `url`.
    ///
    /// # Errors
    /// One sentence for the operator. It doesn't repeat the URL, which may contain a password.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = ["amqp://", "amqps://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
        let (host, vhost) = rest
            .and_then(|rest| rest.split_once('/'))
            .ok_or("isn't of the form amqps://host:port/vhost, where the vhost / is written %2F")?;
        if host.contains('@') {
            return Err(
                "names a user; leave it out, because every node is told this address and logs in by its token",
            );
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
        if host.is_empty() || vhost.is_empty() || !vhost.bytes().all(is_plain) {
            return Err("has no host, or no vhost of plain characters (/ is written %2F)");
        }
        Ok(Self(url.to_owned()))
    }

    /// Returns the whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the vhost as it is written in URLs and scopes.
    fn vhost(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// Gives the scope `fleet` to the account of an e-mail address, in any spelling that signs up, or of an id. Returns none if
/// there is no such account.
///
/// # Errors
/// [`LedgerError`].
pub async fn allow_fleet(book: &dyn NodeBook, address: &str) -> Result<Option<AccountId>, LedgerError> {
    if !address.contains('@') {
        return book.allow_fleet(address, Timestamp::now()).await;
    }
    let Ok(address) = email::normalise(address) else { return Ok(None) };
    book.allow_fleet(&address.to_ascii_lowercase(), Timestamp::now()).await
}

/// Revokes a node for good: it gets no more tokens, and the warden closes its connections. Returns none if there is
/// no such node.
///
/// # Errors
/// [`LedgerError`].
pub async fn revoke(book: &dyn NodeBook, node: &NodeId) -> Result<Option<NodeRecord>, LedgerError> {
    book.revoke_node(node, Timestamp::now()).await
}

/// Returns the digest of a node's secret that the ledger stores. A fast hash is enough, because secrets have to be
/// long and random.
#[must_use]
pub fn secret_digest(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_node_and_its_queue() {
        let broker = BrokerAddress::parse("amqps://broker.example:5671/%2F").unwrap();
        let claims = claims(&NodeId::new("n1"), "node.n1.abc", &broker, 1_000, 600);
        assert_eq!(
            (claims.aud, claims.sub.as_str(), claims.iat, claims.exp),
            ("rabbitmq", "n1", 1_000, 1_600)
        );
        let expected = ["rabbitmq.read:%2F/node.n1.abc", "rabbitmq.write:%2F/infera.nodes/n1.*"];
        assert_eq!(claims.scope, expected);
    }

    #[test]
    fn addresses_tell_no_secret_and_have_a_vhost() {
        for good in ["amqp://127.0.0.1:5672/%2F", "amqps://b.example/infera", "amqps://[::1]:5671/%2f"] {
            assert_eq!(BrokerAddress::parse(good).as_ref().map(BrokerAddress::as_str), Ok(good));
        }
        for wrong in [
            "",
            "http://b/x",
            "amqp://b",
            "amqp://b/",
            "amqp:///x",
            "amqp://u:p@b/%2F",
            "amqp://b/*",
            "amqp://b/a/b",
            "amqp://b/x?heartbeat=1",
        ] {
            assert!(BrokerAddress::parse(wrong).is_err(), "{wrong}");
        }
    }
}
