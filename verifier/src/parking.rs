//! Moves messages of kinds and versions that this program doesn't know to where an operator finds them. A task of its
//! own does it, behind a short line: one publish may take the broker seconds, and a task that reads a queue has other
//! messages to handle meanwhile. A message that finds no place in the line is dropped and counted, so that a sender
//! can't keep a verifier busy with what it doesn't know.

use std::sync::Arc;

use infera_broker::{Address, Delivery, Message, Published, topology};
use infera_types::messages::DecodeError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::counters::Counted;
use crate::queues::RETRY;
use crate::tenure::Tenure;

/// Bounds the messages that wait. They are unsettled until they are parked: a quarter of what the collector may hold, and
/// 64 MiB of the largest there are.
const LINE: usize = 64;

/// Where they wait.
pub(crate) struct Parking {
    line: mpsc::Sender<Delivery>,
    /// The task's, as long as it runs.
    waiting: tokio::sync::Mutex<mpsc::Receiver<Delivery>>,
}

impl Default for Parking {
    fn default() -> Self {
        let (line, waiting) = mpsc::channel(LINE);
        Self { line, waiting: tokio::sync::Mutex::new(waiting) }
    }
}

/// Puts a message into the line that this version doesn't know, or drops it.
pub(crate) async fn park(tenure: &Tenure, delivery: Delivery, error: &DecodeError) {
    if let Some(times) = tenure.complaints.unknown.again(Instant::now()) {
        tracing::warn!(sender = delivery.sender(), times, %error, "unknown messages are parked");
    }
    let refused = tenure.parking.line.try_send(delivery);
    if let Err(mpsc::error::TrySendError::Full(delivery) | mpsc::error::TrySendError::Closed(delivery)) =
        refused
    {
        not_parked(tenure, None);
        delivery.ack().await;
    }
}

/// Parks what comes until the tenure ends. Makes sure too that there is a queue for what nodes don't know: they declare
/// none.
pub(crate) async fn run(tenure: Arc<Tenure>) {
    let tenure = &tenure;
    let mut waiting = tenure.parking.waiting.lock().await;
    let mut is_declared = false;
    loop {
        if !is_declared {
            is_declared = declare(tenure).await;
        }
        tokio::select! {
            Some(delivery) = waiting.recv() => {
                is_declared = move_away(tenure, &delivery.message).await;
                delivery.ack().await;
            }
            () = tokio::time::sleep(RETRY), if !is_declared => {}
        }
    }
}

async fn declare(tenure: &Tenure) -> bool {
    let declared = tenure.seams.broker.declare(&topology::parked()).await;
    if let Err(error) = &declared {
        tracing::warn!(%error, "the queue for unknown messages can't be declared; trying again");
    }
    declared.is_ok()
}

/// Publishes one message to the queue of parked ones, which is declared again if it is gone. Returns whether the queue is
/// there as far as is known.
async fn move_away(tenure: &Tenure, message: &Message) -> bool {
    let address = Address::Queue(topology::parked().name);
    let message = Message { ttl_ms: None, ..message.clone() };
    let mut published = tenure.seams.broker.publish(&address, message.clone()).await;
    if published == Published::Unroutable && declare(tenure).await {
        published = tenure.seams.broker.publish(&address, message).await;
    }
    if published == Published::Confirmed {
        tenure.counters.count(Counted::MessageParked);
    } else {
        not_parked(tenure, Some(published));
    }
    published != Published::Unroutable
}

fn not_parked(tenure: &Tenure, published: Option<Published>) {
    tenure.counters.count(Counted::MessageUnparked);
    if let Some(times) = tenure.complaints.unparked.again(Instant::now()) {
        tracing::warn!(times, ?published, "unknown messages could not be parked and are dropped");
    }
}
