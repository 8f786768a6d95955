//! RabbitMQ over AMQP 0-9-1. This crate settles what AMQP leaves open; [`topology`](infera_broker::topology) alone
//! says which queues exist.
//!
//! * Two connections: publishes on one, everything else on the other, because the broker stops reading from a
//!   connection that publishes while it is short of memory or disk. Each is made when it is first needed, and again
//!   after a loss.
//! * Publishing: one task owns the channel. Messages are mandatory and confirmed, with a time limit of our own
//!   (`publisher`, `returns`).
//! * Consuming: a channel and a task per consumer; the prefetch can change while messages are held (`consumer`,
//!   `credit`).
//! * Fleeting messages: published without confirmations on a channel of their own, and read without acknowledgements
//!   (`sender`, `reader`). They share both connections with all else, so neither side keeps more than a bound.
//! * `replicated` queues are quorum queues. All others are classic, and durable unless exclusive. An exclusive queue
//!   belongs to the consuming connection and is deleted with its consumer.
//!
//! Beyond the contract: asking for a queue's depth counts as use and so restarts the queue's idle time; and bindings
//! that an earlier version declared and this one does not want stay until the queue is deleted.

mod access;
mod claims;
mod consumer;
mod credit;
mod declaring;
mod in_flight;
mod inbox;
mod line;
mod link;
pub mod management;
mod publisher;
mod reader;
mod returns;
mod sender;
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
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use access::Access;
pub use access::Token;
use claims::{Claims, Leaving, Limits};
use infera_broker::{Address, Broker, BrokerError, Consumer, Fleeting, Message, Published, Queue, Sent};
use infera_types::secret::Secret;
use line::{answer, answer_of_deletion, answer_of_queue};
use link::{Endpoint, Link};
use publisher::Request;
use reader::Reading;
use sender::Sender;
use terms::{Refusal, exchange_name, short};

/// The frame size. The client library keeps 32 buffers of this size for each direction of a connection. 16 KiB
/// instead of its default of 128 KiB reduced a connection from 22 to 7 MiB, with no measurable loss for messages of 1
/// KiB; longer messages are sent in pieces.
const FRAME_MAX: u32 = 16 * 1024;

/// The heartbeat in seconds. A peer that is silent for twice as long is taken for dead.
const HEARTBEAT_S: u16 = 10;

/// How long making a connection may take, in milliseconds.
const CONNECT_MS: u64 = 5_000;

/// The pause between tries for an exclusive queue that a lost connection of ours may still hold.
const HEIR_WAITS: Duration = Duration::from_millis(250);

/// How to reach the broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS; the vhost `/` is written `%2F`. It is hidden
    /// because of the password. A node logs in with its token, so it leaves out user and password.
    pub url: Secret,
    /// With `amqps://`: a PEM file of CAs to trust in addition to the system's, such as a private one. None: the
    /// system's alone.
    pub ca_file: Option<PathBuf>,
    /// After how long a publish without an answer ends `Unknown`, in milliseconds.
    pub publish_timeout_ms: u64,
}

impl Default for Config {
    /// Returns a broker on this machine with its package's defaults. Five seconds for a publish: confirmations wait
    /// for a disk, which may stall for a second or two, and a broker that is short of memory or disk gives none at
    /// all.
    fn default() -> Self {
        Self {
            url: Secret::new("amqp://guest:guest@127.0.0.1:5672/%2F"),
            ca_file: None,
            publish_timeout_ms: 5_000,
        }
    }
}

/// The configuration cannot be used; the operator has to mend it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The URL is wrong. It is not quoted, because it holds a password.
    #[error("the broker's url {0}")]
    Url(&'static str),
    /// The CA file cannot be used.
    #[error("broker.{0}")]
    Authorities(String),
}

/// A RabbitMQ server, or a cluster of them behind one address.
pub struct RabbitBroker {
    consuming: Link,
    publishing: Arc<Link>,
    /// Whether this is a node, which declares nothing.
    as_node: bool,
    requests: mpsc::Sender<Request>,
    sender: Sender,
    publish_timeout: Duration,
    claims: Claims,
    limits: Limits,
    leaving: Leaving,
}

impl RabbitBroker {
    /// Makes the broker as the operator's roles see it. It connects when it is first used, and again after a loss. It
    /// must be called inside a Tokio runtime, which runs its tasks.
    ///
    /// # Errors
    /// The configuration is wrong. A broker that is away is no error here.
    pub fn start(config: &Config) -> Result<Arc<Self>, ConfigError> {
        Self::start_as(config, Access::Operator)
    }

    /// Makes the broker as a node sees it. It logs in with the newest of `tokens`, and hands each newer token to the
    /// broker on the open connections, so the sender must send the next token before the last one expires. It
    /// declares nothing: declaring a queue only checks that the gateway did, or ends with
    /// [`BrokerError::NoSuchQueue`]. It publishes under the node's id, which the broker checks against the token.
    ///
    /// # Errors
    /// The same as of [`RabbitBroker::start`]. A token that the broker refuses is no error here either; every call
    /// then ends with [`BrokerError::Unavailable`].
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
            sender: Sender::start(Arc::clone(&publishing)),
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
            let (options, arguments) = (declaring::options(queue), declaring::arguments(queue));
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
            self.claims.declared(queue, line.epoch);
        }
        Ok(())
    }

    async fn open(&self, name: ShortString, prefetch: u16) -> Result<Box<dyn Consumer>, Refusal> {
        let (line, channel) = self.consuming.channel().await?;
        let (claim, leaving) = (self.claims.take(name.as_str(), line.epoch)?, self.leaving.clone());
        let bounds = claim.as_ref().and_then(|claim| claim.fleeting);
        match (claim, bounds) {
            (Some(claim), Some(bounds)) => {
                let reading = Reading { queue: name, prefetch, bounds, claim };
                reader::open(reading, (line, channel), leaving).await
            }
            (claim, _) => consumer::open(name, prefetch, (line, channel), claim, leaving).await,
        }
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

/// Returns the endpoint that the configuration describes.
fn endpoint(config: &Config, access: Access) -> Result<Endpoint, ConfigError> {
    // The parser's own error may quote the URL, and with it the password.
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
        let wrong = |problem: String| ConfigError::Authorities(problem);
        let pem = infera_tls::authorities_pem(path).map_err(|error| wrong(error.to_string()))?;
        tls.cert_chain = Some(String::from_utf8(pem).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(Endpoint { uri, tls, access })
}

impl fmt::Debug for RabbitBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RabbitBroker").finish_non_exhaustive()
    }
}

impl Fleeting for RabbitBroker {
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        match terms::parcel(address, message) {
            Ok(parcel) => self.sender.send(parcel),
            Err(error) => {
                tracing::error!(%error, "AMQP cannot carry a fleeting message; it was not sent");
                Sent::Dropped
            }
        }
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        queue.check()?;
        let name = terms::name(&queue.name)?;
        // An exclusive queue of this name may be about to end.
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
                tracing::error!(%error, "AMQP cannot carry a message; it was not sent");
                return Published::Unroutable;
            }
        };
        let (reply, answer) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        // Publishes that waited behind those to a stuck queue give up together with them; sent just before that, they
        // would fill the broker's read-ahead buffer.
        let send_until = Instant::now() + self.publish_timeout.mul_f32(0.75);
        let request = Request { parcel, reply, sent: Arc::clone(&sent), send_until };
        let asked = async {
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        match timeout(self.publish_timeout, asked).await {
            Ok(outcome) => outcome.unwrap_or(Published::Unknown),
            // The message was sent and the broker answers, so it is the queue that does not.
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
        // Messages that dropped consumers held must be back in the queue first.
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

    /// A broker that is away costs a sender of frames no time and a bounded number of messages.
    #[tokio::test]
    async fn frames_for_a_broker_that_is_away_are_dropped() {
        let config = Config { url: Secret::new("amqp://u:p@127.0.0.1:1/%2F"), ..Config::default() };
        let broker = RabbitBroker::start(&config).unwrap();
        let send = |bytes: usize, key: &str| {
            let body = vec![b'x'; bytes].into();
            let message =
                Message { id: "f".to_owned(), kind: "f".to_owned(), body, ttl_ms: None, trace: None };
            usize::from(broker.publish_fleeting(&Address::Network(key.to_owned()), message) == Sent::HandedOn)
        };
        assert_eq!(send(1, &"k".repeat(256)), 0, "AMQP has no such key");
        // The task that sends has not run yet: this test has one thread.
        let large: usize = (0..9).map(|_| send(1024 * 1024, "k")).sum();
        assert_eq!(large, 4);
        let began = Instant::now();
        while send(0, "k") > 0 {
            assert!(began.elapsed() < Duration::from_secs(10), "still handed on");
            sleep(Duration::from_millis(1)).await;
        }
        let mut handed_on = 0;
        for _ in 0..1_000 {
            handed_on += send(1, "k");
            sleep(Duration::from_millis(1)).await;
        }
        assert!(handed_on <= 20, "{handed_on} of 1,000 were handed on");
    }
}
