//! The seam to the broker: moves bytes between named queues, at least once. It knows no job.
//!
//! Read [`Broker`] for the contract, [`topology`] for which queues there are, then an implementation.

pub mod connections;
pub mod consuming;
pub mod parking;
pub mod topology;

pub mod measured;
pub mod memory;

use std::fmt;

use async_trait::async_trait;
pub use infera_types::envelope::Message;

/// Where a message is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Straight to one queue. For the operator's roles only: a node could reach every queue with it.
    Queue(String),
    /// To the nodes' topic exchange, under a key whose first word is the sending node's id.
    Nodes(String),
    /// To the operator's topic exchange: broadcasts between roles.
    Network(String),
}

/// Which topic exchange a queue listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// What nodes say.
    Nodes,
    /// What roles say to all.
    Network,
}

/// One binding of a queue. Patterns are AMQP's: words between dots, `*` one word, `#` any number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The exchange.
    pub exchange: Exchange,
    /// The pattern.
    pub pattern: String,
}

/// A queue as it must be declared. Declaring the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What else reaches it beside its name.
    pub bindings: Vec<Binding>,
    /// Goes away with its consumer; a second consumer is refused.
    pub exclusive: bool,
    /// Survives the broker's restart and is replicated where the broker can (quorum queues).
    pub replicated: bool,
    /// How many messages may wait at most; a publish beyond it ends [`Published::Full`]. None: no limit.
    pub length_max: Option<u64>,
    /// How many bytes the bodies of all that wait may have at most; a publish beyond it ends [`Published::Full`]. None: no
    /// limit.
    pub bytes_max: Option<u64>,
    /// After how long without a consumer the queue goes away, in milliseconds.
    pub idle_ms: Option<u64>,
    /// The queue where a message goes that was given out more than [`GIVEN_BACK_MAX`] times without being acked; while
    /// that queue isn't there the message is kept. None: such a message may be dropped. Only `replicated` queues can
    /// have one.
    pub dead_letters: Option<String>,
}

/// How often a message is given out again; the next time it comes back it is a dead letter. A backstop against a message
/// that kills every consumer: the ledger counts handouts too and decides long before.
pub const GIVEN_BACK_MAX: u32 = 20;

impl Queue {
    /// Whether it has a limit, so that a publish may find it full.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        self.length_max.is_some() || self.bytes_max.is_some()
    }
}

/// How a publish ended. It never waits for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker has it, in every queue that it matched.
    Confirmed,
    /// The queue is at its limit; nothing was kept. Retry later or answer 503.
    Full,
    /// No queue matched; nothing was kept. Retrying is pointless until the queue exists.
    Unroutable,
    /// The queue has no limit and took nothing all the same, or said nothing while the broker answered: it may be stuck,
    /// see [`BrokerError::Stuck`], or slow. Whether the message arrived isn't known; retry under the same message id.
    Refused,
    /// It may or may not have arrived (cut connection, time out). Retry under the same message id.
    Unknown,
}

/// What went wrong with the broker itself. Safe to retry unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Not there (yet, or any more).
    #[error("queue {0} does not exist; declare it first")]
    NoSuchQueue(String),
    /// Someone else has it; not retryable until they go.
    #[error("queue {0} is exclusive and has a consumer")]
    Exclusive(String),
    /// Declared before with other properties; an operator's decision.
    #[error(
        "queue {name} exists with other properties: {difference}; delete it (rabbitmqctl delete_queue {name}; what \
         waits in it must be published again) or go back to the version that declared it"
    )]
    Mismatch {
        /// The queue.
        name: String,
        /// Property, value there, value wanted.
        difference: String,
    },
    /// The queue doesn't answer and the broker does: it has lost its leader, for good if the broker was killed just after
    /// the queue was made. Retrying is pointless until it is deleted and declared again.
    #[error(
        "queue {0} is stuck: it doesn't answer, though the broker does; delete it, declare it anew and publish again \
         what waited there"
    )]
    Stuck(String),
    /// The broker is away; retry.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
}

/// Carries messages at least once. The promises that every implementation keeps (and the conformance suite tries):
///
/// * `publish` never waits for a consumer and ends in one of five outcomes. Only `Confirmed` means kept.
/// * A message taken and neither acked nor nacked is given out again, marked redelivered, as soon as its consumer
///   is dropped or its connection ends. Order is kept between messages of one queue that were delivered once.
/// * A consumer holds at most `prefetch` unsettled deliveries; further ones wait.
/// * A message with a time to live that was not taken in time is dropped.
/// * A message that comes back too often goes to its queue's dead letters, if the queue has any.
/// * Nothing is said about surviving the broker's own end: the ledger is the truth, and it publishes again.
#[async_trait]
pub trait Broker: Send + Sync + fmt::Debug {
    /// Makes sure the queue is there, as described.
    ///
    /// # Errors
    /// [`BrokerError::Mismatch`] if it is there and different, [`BrokerError::Stuck`] if it is there and dead.
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError>;

    /// Sends one message. Bounded in time: what takes too long ends `Unknown`.
    async fn publish(&self, address: &Address, message: Message) -> Published;

    /// Starts taking from a declared queue, at most `prefetch` at once.
    ///
    /// # Errors
    /// [`BrokerError::NoSuchQueue`], [`BrokerError::Exclusive`], or the broker being away.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Returns how many messages wait (not counting those being worked on); none if there is no such queue. Asking may
    /// count as use of the queue, which restarts its idle time.
    ///
    /// # Errors
    /// The broker being away.
    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError>;

    /// Removes a queue and what waits in it. Removing what isn't there is fine.
    ///
    /// # Errors
    /// The broker being away.
    async fn delete(&self, queue: &str) -> Result<(), BrokerError>;
}

/// A running subscription. Dropping it gives back everything that it holds.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery; waits for one. `None`: the queue or the connection is gone, consume again. Giving up the
    /// wait loses no message, so it can be a branch of a `select!`.
    async fn next(&mut self) -> Option<Delivery>;

    /// Changes how many deliveries may be held at once. Zero pauses without losing what is held.
    async fn set_prefetch(&mut self, prefetch: u16);
}

/// One message in a consumer's hands.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The key that it was delivered under: for messages of nodes, the first word is who sent it.
    pub routing_key: String,
    /// Whether it was given out before.
    pub redelivered: bool,
    settle: Box<dyn Settle>,
}

/// How an implementation is told of a delivery's fate.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Done with it. `false`: too late, it will be given out again.
    async fn ack(self: Box<Self>) -> bool;
    /// Put it back for anyone.
    async fn nack(self: Box<Self>);
}

impl Delivery {
    /// A delivery whose fate is told to `settle`. Dropping it unsettled holds it until its consumer goes.
    #[must_use]
    pub fn new(message: Message, routing_key: String, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { message, routing_key, redelivered, settle }
    }

    /// Done with it; it never comes again. `false`: the broker no longer counted it as ours, so it will.
    pub async fn ack(self) -> bool {
        self.settle.ack().await
    }

    /// Puts it back at once, marked redelivered.
    pub async fn nack(self) {
        self.settle.nack().await;
    }

    /// Returns the sender: the first word of the delivered key.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.routing_key.split('.').next().unwrap_or_default()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Delivery")
            .field("id", &self.message.id)
            .field("kind", &self.message.kind)
            .field("routing_key", &self.routing_key)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
