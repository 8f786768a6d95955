//! RabbitMQ, over AMQP 0-9-1. What AMQP leaves open is closed here; which queues there are is [`topology`](infera_broker::topology)'s
//! alone.
//!
//! * Two connections: publishes on one, everything else on the other, because the broker stops reading from a connection
//!   that publishes while it is short of memory or disk. Each is made when first needed and again when it is gone.
//! * Publishing: one task owns the channel; mandatory, confirmed, with a time limit of its own (`publisher`, `returns`).
//! * Consuming: a channel and a task per consumer; the prefetch can change while messages are held (`consumer`,
//!   `credit`).
//! * `replicated` queues are quorum queues. All others are classic, and durable unless exclusive. An exclusive queue
//!   belongs to the consuming connection and is deleted with its consumer.
//!
//! Beyond the contract: asking for a queue's depth counts as using it, so it restarts the queue's idle time; and bindings
//! that an earlier version declared and this one doesn't want stay until the queue is deleted.

mod access;
mod claims;
mod consumer;
mod credit;
mod in_flight;
mod inbox;
mod line;
mod link;
pub mod management;
mod publisher;
mod returns;
mod terms;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use access::Access;
pub use access::Token;
use claims::{Claims, Leaving, Limits};
use infera_broker::{Address, Broker, BrokerError, Consumer, Message, Published, Queue};
use infera_types::secret::Secret;
use line::{answer, answer_of_deletion, answer_of_queue};
use link::{Endpoint, Link};
use publisher::Request;
use terms::{Refusal, exchange_name, short};

/// The client library keeps 32 buffers of this size for each direction of a connection. 16 KiB instead of its 128 KiB
/// took a connection from 22 to 7 MiB at no measurable loss for messages of 1 KiB; longer ones are sent in pieces.
const FRAME_MAX: u32 = 16 * 1024;

/// A peer that is silent for twice as long is taken for dead.
const HEARTBEAT_S: u16 = 10;

/// How long making a connection may take.
const CONNECT_MS: u64 = 5_000;

/// Between tries for an exclusive queue that a lost connection of ours may still hold.
const HEIR_WAITS: Duration = Duration::from_millis(250);

/// Where the broker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS; the vhost `/` is written `%2F`. Hidden because of
    /// the password. A node logs in by its token: user and password are left out.
    pub url: Secret,
    /// With `amqps://`: a PEM file of certificates to trust beside the system's, such as a private authority's. None:
    /// the system's alone.
    pub ca_file: Option<PathBuf>,
    /// When a publish without an answer ends `Unknown`, in milliseconds.
    pub publish_timeout_ms: u64,
}

impl Default for Config {
    /// A broker on this machine as its package leaves it. Five seconds: confirmations wait for a disk, which may stall
    /// for a second or two, and a broker that is short of memory or disk gives none at all.
    fn default() -> Self {
        Self {
            url: Secret::new("amqp://guest:guest@127.0.0.1:5672/%2F"),
            ca_file: None,
            publish_timeout_ms: 5_000,
        }
    }
}

/// The configuration can't be used; the operator's to mend.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// What is wrong with the URL, without quoting it: it holds a password.
    #[error("the broker's url {0}")]
    Url(&'static str),
    /// The file of authorities can't be used.
    #[error("the broker's ca_file {0}")]
    Authorities(String),
}

/// A RabbitMQ server, or a cluster of them behind one address.
pub struct RabbitBroker {
    consuming: Link,
    publishing: Arc<Link>,
    /// A node declares nothing.
    as_node: bool,
    requests: mpsc::Sender<Request>,
    publish_timeout: Duration,
    claims: Claims,
    limits: Limits,
    leaving: Leaving,
}

impl RabbitBroker {
    /// The broker as the operator's roles see it. It connects when it is first used, and again whenever it has to.
    /// Must be called inside a Tokio runtime, which runs its tasks.
    ///
    /// # Errors
    /// A configuration that can't be right. A broker that is away is no error here.
    pub fn start(config: &Config) -> Result<Arc<Self>, ConfigError> {
        Self::start_as(config, Access::Operator)
    }

    /// The broker as a node sees it: it logs in by the newest of `tokens`, and shows the broker each newer one on the
    /// connections that are open, so whoever sends them has to send the next before one expires. It declares nothing:
    /// declaring a queue only makes sure that the gateway did, or ends [`BrokerError::NoSuchQueue`]; and what it
    /// publishes goes out under the node's id, which the broker checks against the token.
    ///
    /// # Errors
    /// Like [`RabbitBroker::start`]. A token that the broker refuses is no error here either; every call then ends
    /// [`BrokerError::Unavailable`].
    pub fn start_as_node(config: &Config, tokens: watch::Receiver<Token>) -> Result<Arc<Self>, ConfigError> {
        Self::start_as(config, Access::Node(tokens))
    }

    fn start_as(config: &Config, access: Access) -> Result<Arc<Self>, ConfigError> {
        let as_node = access.is_node();
        let endpoint = endpoint(config, access)?;
        let (requests, waiting) = mpsc::channel(publisher::WAITING);
        let limits = Limits::default();
        let publishing = Arc::new(Link::new(endpoint.clone(), "publishing"));
        tokio::spawn(publisher::run(Arc::clone(&publishing), limits.clone(), waiting));
        Ok(Arc::new(Self {
            consuming: Link::new(endpoint, "consuming"),
            publishing,
            as_node,
            requests,
            publish_timeout: Duration::from_millis(config.publish_timeout_ms),
            claims: Claims::default(),
            limits,
            leaving: Leaving::default(),
        }))
    }

    async fn declare_and_bind(&self, queue: &Queue, name: &ShortString) -> Result<(), Refusal> {
        let line = loop {
            let (line, channel) = self.consuming.channel().await?;
            let (options, arguments) = (terms::declare_options(queue), terms::arguments(queue));
            let declared =
                answer_of_queue(&line, channel.queue_declare(name.clone(), options, arguments)).await;
            match declared {
                Ok(_) => {}
                Err(Refusal::Taken) if queue.exclusive && line.is_fresh_heir() => {
                    sleep(HEIR_WAITS).await;
                    continue;
                }
                Err(refusal) => return Err(refusal),
            }
            for binding in &queue.bindings {
                let pattern = ShortString::try_new(binding.pattern.as_str())
                    .map_err(|error| Refusal::Different(error.to_string()))?;
                let (exchange, options) =
                    (short(exchange_name(binding.exchange)), QueueBindOptions::default());
                answer(channel.queue_bind(name.clone(), exchange, pattern, options, FieldTable::default()))
                    .await?;
            }
            break line;
        };
        self.limits.declared(&queue.name, queue.is_limited());
        if queue.exclusive {
            self.claims.declared(&queue.name, line.epoch);
        }
        Ok(())
    }

    async fn open(&self, name: ShortString, prefetch: u16) -> Result<Box<dyn Consumer>, Refusal> {
        let (line, channel) = self.consuming.channel().await?;
        let claim = self.claims.take(name.as_str(), line.epoch)?;
        consumer::open(name, prefetch, (line, channel), claim, self.leaving.clone()).await
    }

    async fn count(&self, name: ShortString) -> Result<Option<u64>, Refusal> {
        let (line, channel) = self.consuming.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match answer_of_queue(&line, channel.queue_declare(name, options, FieldTable::default())).await {
            Ok(queue) => Ok(Some(u64::from(queue.message_count()))),
            Err(Refusal::Missing) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn remove(&self, name: ShortString) -> Result<(), Refusal> {
        let (_line, channel) = self.consuming.channel().await?;
        match answer_of_deletion(channel.queue_delete(name, QueueDeleteOptions::default())).await {
            Ok(_) | Err(Refusal::Missing) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Where the configuration leads.
fn endpoint(config: &Config, access: Access) -> Result<Endpoint, ConfigError> {
    // The parser's own words may quote the URL, and with it the password.
    let parsed: Result<AMQPUri, _> = config.url.expose().parse();
    let mut uri =
        parsed.map_err(|_| ConfigError::Url("isn't of the form amqp(s)://user:password@host:port/vhost"))?;
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
    uri.query.connection_timeout.get_or_insert(CONNECT_MS);
    let mut tls = OwnedTLSConfig::default();
    if let Some(path) = &config.ca_file {
        if uri.scheme != AMQPScheme::AMQPS {
            return Err(ConfigError::Url("doesn't ask for TLS (amqps://), but there is a ca_file"));
        }
        let wrong = |problem: &dyn fmt::Display| {
            ConfigError::Authorities(format!("{} can't be used: {problem}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        match CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => tls.cert_chain = Some(text),
            Ok(_) => return Err(wrong(&"it holds no certificate in PEM form")),
            Err(error) => return Err(wrong(&error)),
        }
    }
    Ok(Endpoint { uri, tls, access })
}

impl fmt::Debug for RabbitBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RabbitBroker").finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        let name = terms::name(&queue.name)?;
        // An exclusive queue of this name may be going just now.
        self.leaving.left().await;
        if self.as_node {
            let there = self.count(name).await.map_err(|refusal| refusal.of(&queue.name))?;
            return there.map(|_| ()).ok_or_else(|| BrokerError::NoSuchQueue(queue.name.clone()));
        }
        self.declare_and_bind(queue, &name).await.map_err(|refusal| refusal.of(&queue.name))
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        let parcel = match terms::parcel(address, message) {
            Ok(parcel) => parcel,
            Err(error) => {
                tracing::error!(%error, "a message that AMQP can't carry");
                return Published::Unroutable;
            }
        };
        let (reply, answer) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        // Those that waited behind a stuck queue's give up with them; sent just before, they would fill what the broker
        // reads ahead.
        let send_until = Instant::now() + self.publish_timeout.mul_f32(0.75);
        let request = Request { parcel, reply, sent: Arc::clone(&sent), send_until };
        let asked = async {
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        match timeout(self.publish_timeout, asked).await {
            Ok(outcome) => outcome.unwrap_or(Published::Unknown),
            // It is out, and the broker answers: so it is the queue that doesn't.
            Err(_)
                if matches!(address, Address::Queue(_))
                    && sent.load(Ordering::Relaxed)
                    && self.publishing.answers().await =>
            {
                Published::Refused
            }
            Err(_) => Published::Unknown,
        }
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let name = terms::name(queue)?;
        // What consumers held that were dropped before must be there first.
        self.leaving.left().await;
        self.open(name, prefetch).await.map_err(|refusal| refusal.of(queue))
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        self.count(terms::name(queue)?).await.map_err(|refusal| refusal.of(queue))
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.remove(terms::name(queue)?).await.map_err(|refusal| refusal.of(queue))?;
        self.claims.gone(queue);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_used_says_why_without_the_password() {
        let start = |url: &str, ca_file: Option<&str>| {
            let ca_file = ca_file.map(PathBuf::from);
            let config = Config { url: Secret::new(url), ca_file, ..Config::default() };
            RabbitBroker::start(&config).map(|_| ()).map_err(|error| error.to_string())
        };
        let this_file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
        for (url, ca_file, word) in [
            ("http://u:hunter2@h", None, "form"),
            ("", None, "form"),
            ("amqp://u:hunter2@h/%2F", Some("/nowhere"), "TLS"),
            ("amqps://u:hunter2@h/%2F", Some("/nowhere"), "/nowhere"),
            ("amqps://u:hunter2@h/%2F", Some(this_file), "no certificate"),
        ] {
            let error = start(url, ca_file).unwrap_err();
            assert!(error.contains(word) && !error.contains("hunter2"), "{url}: {error}");
        }
        for url in ["amqp://u:p@127.0.0.1:1/%2F", "amqps://u:p@127.0.0.1:1/%2F"] {
            assert_eq!(start(url, None), Ok(()), "{url}");
        }
    }
}
