//! Moves messages of kinds and versions that this program doesn't know to where an operator finds them. A task of its
//! own does it, behind a short queue: one publish may take the broker seconds, and a task that reads messages has others
//! to handle meanwhile. A message that finds no place in the queue is dropped and counted, so that a sender can't keep a
//! verifier busy with what it doesn't know.

use std::sync::Arc;

use infera_broker::parking::park;
use infera_broker::{Broker, Delivery, Published, consuming, topology};
use infera_types::messages::DecodeError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::counters::Counters;
use super::log_throttles::LogThrottles;

/// Bounds the messages that wait to be parked. They are unsettled meanwhile: a quarter of what the reader of replicas may hold,
/// and 64 MiB of the largest there are.
const WAITING_MAX: usize = 64;

/// The messages that wait to be parked, and what is needed to park them.
#[derive(Debug)]
pub(crate) struct Parking {
    broker: Arc<dyn Broker>,
    counters: Arc<Counters>,
    throttles: Arc<LogThrottles>,
    waiting: mpsc::Sender<Delivery>,
    /// Belongs to the task for as long as it runs.
    next: tokio::sync::Mutex<mpsc::Receiver<Delivery>>,
}

impl Parking {
    /// Begins with no message waiting.
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        counters: Arc<Counters>,
        throttles: Arc<LogThrottles>,
    ) -> Self {
        let (waiting, next) = mpsc::channel(WAITING_MAX);
        Self { broker, counters, throttles, waiting, next: tokio::sync::Mutex::new(next) }
    }

    /// Lets a message wait to be parked that this program doesn't know, or drops it.
    pub(crate) async fn park(&self, delivery: Delivery, error: &DecodeError) {
        if let Some(times) = self.throttles.unknown.count(Instant::now()) {
            tracing::warn!(sender = delivery.sender(), times, %error, "unknown messages are parked");
        }
        let refused = self.waiting.try_send(delivery);
        if let Err(mpsc::error::TrySendError::Full(delivery) | mpsc::error::TrySendError::Closed(delivery)) =
            refused
        {
            self.dropped("no_room");
            delivery.ack().await;
        }
    }

    /// Parks what comes until the tenure ends. It also makes sure that there is a queue for what nodes don't know: they
    /// declare none.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut next = self.next.lock().await;
        let mut is_declared = false;
        loop {
            if !is_declared {
                is_declared = self.declare().await;
            }
            tokio::select! {
                Some(delivery) = next.recv() => {
                    let published = park(&*self.broker, &delivery.message).await;
                    is_declared = published != Published::Unroutable;
                    self.note(published);
                    delivery.ack().await;
                }
                () = tokio::time::sleep(consuming::RETRY), if !is_declared => {}
            }
        }
    }

    async fn declare(&self) -> bool {
        let declared = self.broker.declare(&topology::parked()).await;
        if let Err(error) = &declared {
            tracing::warn!(%error, "the queue for unknown messages can't be declared; trying again");
        }
        declared.is_ok()
    }

    fn note(&self, published: Published) {
        match published {
            Published::Confirmed => self.counters.messages_parked.add_one(),
            unparked => self.dropped(unparked.word()),
        }
    }

    /// Counts and reports a message that is dropped.
    fn dropped(&self, outcome: &str) {
        self.counters.messages_unparked.add_one();
        if let Some(times) = self.throttles.unparked.count(Instant::now()) {
            tracing::warn!(times, outcome, "unknown messages could not be parked and are dropped");
        }
    }
}
