//! The seam to the broker, which moves bytes between named queues, at least once, or at most once where a queue is
//! fleeting. It knows nothing of jobs.
//!
//! Read [`Broker`] and [`Fleeting`] for the contract, [`topology`] for the queues, then an implementation.

pub mod connections;
pub mod consuming;
pub mod parking;
pub mod topology;

pub mod measured;
pub mod memory;

use std::fmt;

use async_trait::async_trait;
pub use infera_types::envelope::Message;
use strum::{IntoStaticStr, VariantArray};

/// Where a message is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Straight to one queue. Only the operator's roles use it, because a node could reach every queue with it.
    Queue(String),
    /// To the nodes' topic exchange, under a key whose first word is the sending node's id.
    Nodes(String),
    /// To the operator's topic exchange: broadcasts between roles.
    Network(String),
}

/// The topic exchange that a queue is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Messages of nodes.
    Nodes,
    /// Broadcasts of roles.
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
    /// The queue's name.
    pub name: String,
    /// The bindings that reach the queue, besides its name.
    pub bindings: Vec<Binding>,
    /// Whether the queue is deleted with its consumer; a second consumer is refused.
    pub exclusive: bool,
    /// Whether the queue drops its oldest messages instead of becoming full, and is read without acknowledgements; see
    /// [`Fleeting`]. [`Queue::check`] says what else must then hold; [`Queue::fleeting`] makes such a queue.
    pub fleeting: bool,
    /// Whether the queue survives the broker's restart and is replicated where the broker supports it (quorum
    /// queues).
    pub replicated: bool,
    /// How many messages may wait at most; a publish beyond it ends [`Published::Full`], or drops the oldest message of
    /// a fleeting queue. None: no limit.
    pub length_max: Option<u64>,
    /// How many bytes the bodies of all waiting messages may have; a publish beyond it ends [`Published::Full`], or
    /// drops the oldest messages of a fleeting queue. None: no limit.
    pub bytes_max: Option<u64>,
    /// After how long without a consumer the queue is deleted, in milliseconds. None: never.
    pub idle_ms: Option<u64>,
    /// The queue to which a message goes that was delivered more than [`GIVEN_BACK_MAX`] times without being acked;
    /// while that queue does not exist the message is kept. None: such a message may be dropped. Only `replicated`
    /// queues can have one.
    pub dead_letters: Option<String>,
}

/// How often a message is delivered again; the next time it is returned it becomes a dead letter. This is a backstop
/// against a message that kills every consumer: the ledger counts handouts too and decides long before.
pub const GIVEN_BACK_MAX: u32 = 20;

impl Queue {
    /// Returns a fleeting queue, which holds at most `length_max` messages and `bytes_max` bytes of bodies.
    #[must_use]
    pub const fn fleeting(name: String, bindings: Vec<Binding>, length_max: u64, bytes_max: u64) -> Self {
        Self {
            name,
            bindings,
            exclusive: true,
            fleeting: true,
            replicated: false,
            length_max: Some(length_max),
            bytes_max: Some(bytes_max),
            idle_ms: None,
            dead_letters: None,
        }
    }

    /// Returns whether the queue has a limit at which it refuses messages, so that a publish may find it full.
    #[must_use]
    pub const fn is_limited(&self) -> bool {
        !self.fleeting && (self.length_max.is_some() || self.bytes_max.is_some())
    }

    /// Checks that the description's properties go together.
    ///
    /// # Errors
    /// [`BrokerError::Contradiction`] if they do not.
    pub fn check(&self) -> Result<(), BrokerError> {
        let is_bounded = [self.length_max, self.bytes_max].iter().all(|max| max.is_some_and(|max| max > 0));
        let why = if !self.fleeting {
            return Ok(());
        } else if !is_bounded {
            "a fleeting queue needs length_max and bytes_max above 0"
        } else if !self.exclusive || self.replicated {
            "a fleeting queue is exclusive and not replicated"
        } else if self.idle_ms.is_some() || self.dead_letters.is_some() {
            "a fleeting queue goes with its consumer and what it drops is gone: idle_ms and dead_letters must be none"
        } else {
            return Ok(());
        };
        Err(BrokerError::Contradiction { name: self.name.clone(), why })
    }
}

/// The outcome of a publish, which never waits for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Published {
    /// The broker has the message, in every queue that it matched.
    Confirmed,
    /// The queue is at its limit; nothing was kept. Retry later or answer 503.
    Full,
    /// No queue matched; nothing was kept. Retrying is pointless until the queue exists.
    Unroutable,
    /// The queue has no limit and yet did not accept the message, or did not answer while the broker did: it may be
    /// stuck, see [`BrokerError::Stuck`], or slow. Whether the message arrived is unknown; retry under the same
    /// message id.
    Refused,
    /// The message may or may not have arrived (cut connection, time-out). Retry under the same message id.
    Unknown,
}

impl Published {
    /// Returns the outcome's word in metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// What became of a fleeting message when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Sent {
    /// The message was handed on. Nothing says whether it arrives, nor whether a queue matched.
    HandedOn,
    /// The message was dropped here: the broker is slow or away, or cannot carry it.
    Dropped,
}

impl Sent {
    /// Returns the outcome's word in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// A failure of the broker itself. A retry is safe unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The queue does not exist (yet, or any more).
    #[error("queue {0} does not exist; declare it first")]
    NoSuchQueue(String),
    /// Another consumer has the queue; a retry is pointless until it goes.
    #[error("queue {0} is exclusive and has a consumer")]
    Exclusive(String),
    /// The description of the queue contradicts itself: the program is wrong, and a retry is pointless.
    #[error("queue {name} cannot be declared: {why}")]
    Contradiction {
        /// The queue.
        name: String,
        /// The properties that do not go together.
        why: &'static str,
    },
    /// The queue was declared before with other properties; an operator has to decide.
    #[error(
        "queue {name} exists with other properties: {difference}; delete it (rabbitmqctl delete_queue {name}; what \
         waits in it must be published again) or go back to the version that declared it"
    )]
    Mismatch {
        /// The queue.
        name: String,
        /// The property, its present value and the wanted value.
        difference: String,
    },
    /// The queue does not answer although the broker does: the queue has lost its leader, for good if the broker was
    /// killed just after the queue was declared. A retry is pointless until the queue is deleted and declared again.
    #[error(
        "queue {0} is stuck: it does not answer, though the broker does; delete it, declare it and publish again \
         what waited there"
    )]
    Stuck(String),
    /// The broker is away; a retry is safe.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
}

/// Carries messages of which nothing may depend on a single one, at most once: each is soon followed by another that
/// makes up for it. The promises that every implementation keeps, and that the conformance suite checks, of sending:
///
/// * `publish_fleeting` returns at once: it waits for no confirmation, no consumer and no connection.
/// * What is handed on arrives unchanged and in the order of the calls, except for messages that are dropped on the way.
/// * A message whose address matches no queue is handed on and kept nowhere.
/// * While the broker is slow or away, a bounded number of messages and of bytes waits here; all others are dropped.
/// * A queue that is not fleeting keeps the message like any other, unless it is full.
///
/// And of fleeting queues:
///
/// * A fleeting queue is never full: when more than `length_max` messages wait, or bodies of more than `bytes_max`
///   bytes, it drops the oldest. A single message of more bytes is dropped after all those before it.
/// * A delivery is settled when it is taken: it never comes again, `ack` returns `true`, and `nack` changes nothing.
/// * A slow consumer loses the oldest messages: at most `length_max` messages and `bytes_max` bytes wait in this process
///   beside those that wait in the queue.
/// * The prefetch bounds nothing, but zero pauses; what waits longer than the limits allow is lost meanwhile.
/// * The queue goes with its consumer, and with it all that was not taken.
/// * [`Broker::publish`] reaches fleeting queues too; `Confirmed` then says that such a queue had the message, not that
///   a consumer will get it.
///
/// It is a trait of its own, because what only sends frames needs nothing else of a broker.
pub trait Fleeting: Send + Sync {
    /// Hands one message on, or drops it.
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent;
}

/// Carries messages at least once, and fleeting ones at most once. The promises that every implementation keeps, and
/// that the conformance suite checks, of queues that are not fleeting:
///
/// * `publish` never waits for a consumer and ends in one of five outcomes. Only `Confirmed` means kept.
/// * A message taken and neither acked nor nacked is given out again, marked redelivered, as soon as its consumer
///   is dropped or its connection ends. Order is kept between messages of one queue that were delivered once.
/// * A consumer holds at most `prefetch` unsettled deliveries; further ones wait.
/// * A message with a time to live that was not taken in time is dropped.
/// * A message that comes back too often goes to its queue's dead letters, if the queue has any.
/// * Nothing is said about surviving the broker's own end: the ledger is the truth, and it publishes again.
#[async_trait]
pub trait Broker: Fleeting + fmt::Debug {
    /// Makes sure that the queue exists as described.
    ///
    /// # Errors
    /// [`BrokerError::Mismatch`] if it exists with other properties, [`BrokerError::Stuck`] if it exists and does not
    /// answer, [`BrokerError::Contradiction`] if no queue can be as described.
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError>;

    /// Sends one message. Its time is bounded: a publish that takes too long ends `Unknown`.
    async fn publish(&self, address: &Address, message: Message) -> Published;

    /// Starts consuming a declared queue, with at most `prefetch` deliveries held at once.
    ///
    /// # Errors
    /// [`BrokerError::NoSuchQueue`], [`BrokerError::Exclusive`], or the broker is away.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Returns how many messages wait (not counting those being worked on); none if there is no such queue. Asking
    /// may count as use of the queue, which restarts its idle time.
    ///
    /// # Errors
    /// The broker is away.
    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError>;

    /// Removes a queue and what waits in it. Removing a missing queue succeeds.
    ///
    /// # Errors
    /// The broker is away.
    async fn delete(&self, queue: &str) -> Result<(), BrokerError>;
}

/// A running subscription. Dropping it returns everything that it holds.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next delivery. `None`: the queue or the connection is gone, so consume again. Cancelling the
    /// wait loses no message, so it can be a branch of a `select!`.
    async fn next(&mut self) -> Option<Delivery>;

    /// Changes how many deliveries may be held at once. Zero pauses without losing what is held.
    async fn set_prefetch(&mut self, prefetch: u16);
}

/// One message that a consumer holds.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The key under which it was delivered: in messages of nodes, the first word is the sender.
    pub routing_key: String,
    /// Whether it was delivered before.
    pub redelivered: bool,
    settle: Box<dyn Settle>,
}

/// Tells an implementation how a delivery ends.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Acknowledges the delivery. Returns `false` if it is too late: the message will be delivered again.
    async fn ack(self: Box<Self>) -> bool;
    /// Returns the message to the queue, for any consumer.
    async fn nack(self: Box<Self>);
}

impl Delivery {
    /// Makes a delivery that `settle` ends. Dropping it unsettled holds it until its consumer is dropped.
    #[must_use]
    pub fn new(message: Message, routing_key: String, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { message, routing_key, redelivered, settle }
    }

    /// Makes a delivery of a fleeting queue, which is settled already.
    #[must_use]
    pub fn settled(message: Message, routing_key: String) -> Self {
        Self::new(message, routing_key, false, Box::new(Settled))
    }

    /// Acknowledges the delivery, so that it never comes again. Returns `false` if the broker no longer counted it as
    /// ours, so that it will come again.
    pub async fn ack(self) -> bool {
        self.settle.ack().await
    }

    /// Returns it to the queue at once, marked redelivered.
    pub async fn nack(self) {
        self.settle.nack().await;
    }

    /// Returns the sender: the first word of the delivered key.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.routing_key.split('.').next().unwrap_or_default()
    }
}

/// Settles nothing: the delivery was settled when it was taken.
struct Settled;

#[async_trait]
impl Settle for Settled {
    async fn ack(self: Box<Self>) -> bool {
        true
    }

    async fn nack(self: Box<Self>) {}
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
