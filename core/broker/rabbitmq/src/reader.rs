//! Reads a fleeting queue: a subscription without acknowledgements on a channel of its own, and the task that owns it.
//!
//! RabbitMQ pushes such a queue's messages as fast as they come, whatever the prefetch. What bounds them on their way:
//! at the broker the queue's limits, and 200 messages that its connection to us has not taken, after which a classic
//! queue keeps the rest (its own flow control); here the task, which takes each delivery from the client library at once,
//! and the buffer, which has the queue's limits and drops the oldest. The connection is shared with all other consumers,
//! so it is always read: a slow reader fills the buffer and never the connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use lapin::Channel;
use lapin::message::Delivery as Delivered;
use lapin::options::{BasicConsumeOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{Notify, oneshot};
use tokio::task::consume_budget;
use tokio::time::timeout;

use super::claims::{Bounds, Claim, Leave, Leaving};
use super::consumer::{FAREWELL, LOOK, count_dropped};
use super::line::{Line, answer_of_queue};
use super::terms::{Refusal, message, short};
use infera_broker::{Consumer, Delivery, Message};
use infera_telemetry::metrics::BROKER_FLEETING_LOST;

/// What is read, and how.
pub(super) struct Reading {
    pub(super) queue: ShortString,
    pub(super) prefetch: u16,
    pub(super) bounds: Bounds,
    /// The claim to the queue, which ends with its consumer.
    pub(super) claim: Claim,
}

/// The task of a reader.
struct Subscription {
    queue: ShortString,
    channel: Channel,
    stream: lapin::Consumer,
    buffer: Arc<Buffer>,
    /// Held while the queue has its consumer.
    _claim: Claim,
    /// The connection, which stays open while this is held.
    _line: Arc<Line>,
}

/// Begins to read a fleeting queue, which must exist.
pub(super) async fn open(
    reading: Reading,
    (line, channel): (Arc<Line>, Channel),
    leaving: Leaving,
) -> Result<Box<dyn Consumer>, Refusal> {
    let Reading { queue, prefetch, bounds, claim } = reading;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue.clone(), short("fleeting"), options, FieldTable::default());
    let stream = answer_of_queue(&line, consuming).await?;
    let buffer = Arc::new(Buffer::new(bounds));
    let subscription =
        Subscription { queue, channel, stream, buffer: Arc::clone(&buffer), _claim: claim, _line: line };
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(subscription.run(stopped));
    Ok(Box::new(Reader { buffer, is_paused: prefetch == 0, stop: Some(stop), leaving }))
}

impl Subscription {
    async fn run(mut self, mut stopped: oneshot::Receiver<Leave>) {
        let mut looks = tokio::time::interval(LOOK);
        let leave = loop {
            tokio::select! {
                leave = &mut stopped => break leave.ok(),
                delivered = self.stream.next() => match delivered {
                    Some(Ok(delivered)) => self.receive(delivered),
                    // The queue was deleted, or the channel or the connection is gone.
                    Some(Err(_)) | None => break None,
                },
                _ = looks.tick() => if !self.channel.status().connected() { break None },
            }
            // A flood must not keep this thread from other tasks.
            consume_budget().await;
        };
        self.buffer.end();
        match timeout(FAREWELL, self.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(queue = %self.queue, %error, "a fleeting queue was not deleted")
            }
            Err(_) => tracing::debug!(queue = %self.queue, "deleting a fleeting queue takes too long"),
        }
        drop(self);
        // Only now may others consume or declare this queue again.
        drop(leave);
    }

    fn receive(&self, delivered: Delivered) {
        let Delivered { exchange, routing_key, properties, data, .. } = delivered;
        match message((exchange.as_str(), routing_key.as_str()), &properties, data) {
            Ok(message) => self.buffer.put(message, routing_key.to_string()),
            Err(why) => count_dropped(&self.queue, &routing_key, why),
        }
    }

    /// Deletes the queue, which without its consumer is no use.
    async fn leave(&self) -> lapin::Result<()> {
        if !self.channel.status().connected() {
            return Ok(());
        }
        self.channel.queue_delete(self.queue.clone(), QueueDeleteOptions::default()).await?;
        self.channel.close(200, "done".into()).await
    }
}

/// The answer to a reader that asks for a delivery.
enum Taken {
    Delivery(Delivery),
    Nothing,
    /// The subscription has ended.
    Over,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Message, String)>,
    /// The total size of their bodies, in bytes.
    bytes: u64,
    is_over: bool,
}

/// Holds the newest deliveries that the reader has not taken, as many as the queue's limits allow.
struct Buffer {
    bounds: Bounds,
    state: Mutex<State>,
    /// Notified when the reader should check again.
    changed: Notify,
}

impl Buffer {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), changed: Notify::new() }
    }

    /// Locks the state. No section under the lock can panic halfway, so a poisoned lock holds sound data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the newest message, and drops the oldest that are then too much.
    fn put(&self, message: Message, routing_key: String) {
        let mut lost = 0;
        let mut state = self.lock();
        state.bytes += message.body.len() as u64;
        state.waiting.push_back((message, routing_key));
        while (state.waiting.len() as u64 > self.bounds.length_max || state.bytes > self.bounds.bytes_max)
            && let Some((oldest, _)) = state.waiting.pop_front()
        {
            state.bytes -= oldest.body.len() as u64;
            lost += 1;
        }
        drop(state);
        if lost > 0 {
            metrics::counter!(BROKER_FLEETING_LOST, "place" => "reading").increment(lost);
        }
        self.changed.notify_one();
    }

    fn take(&self, is_paused: bool) -> Taken {
        let mut state = self.lock();
        if state.is_over {
            return Taken::Over;
        }
        if is_paused {
            return Taken::Nothing;
        }
        let Some((message, routing_key)) = state.waiting.pop_front() else { return Taken::Nothing };
        state.bytes -= message.body.len() as u64;
        Taken::Delivery(Delivery::settled(message, routing_key))
    }

    /// Ends the subscription: nothing more is handed out.
    fn end(&self) {
        *self.lock() = State { is_over: true, ..State::default() };
        self.changed.notify_one();
    }
}

/// The consumer that the seam hands out.
struct Reader {
    buffer: Arc<Buffer>,
    is_paused: bool,
    stop: Option<oneshot::Sender<Leave>>,
    leaving: Leaving,
}

#[async_trait]
impl Consumer for Reader {
    async fn next(&mut self) -> Option<Delivery> {
        // A consumer that finds a message at every call must still let other tasks of its thread run.
        consume_budget().await;
        loop {
            match self.buffer.take(self.is_paused) {
                Taken::Delivery(delivery) => return Some(delivery),
                // A notification between the check and the wait is stored for the wait: this is its only listener.
                Taken::Nothing => self.buffer.changed.notified().await,
                Taken::Over => return None,
            }
        }
    }

    async fn set_prefetch(&mut self, prefetch: u16) {
        self.is_paused = prefetch == 0;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Drops what is held here at once, even before the task runs.
        self.buffer.end();
        if let Some(stop) = self.stop.take() {
            // If the task has ended, there is nothing to wait for.
            let _ = stop.send(self.leaving.enter());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(buffer: &Buffer, id: u64, bytes: usize) {
        let (id, body) = (id.to_string(), Bytes::from(vec![0; bytes]));
        buffer.put(Message { id, kind: String::new(), body, ttl_ms: None, trace: None }, "k".to_owned());
    }

    fn taken(buffer: &Buffer) -> Vec<String> {
        std::iter::from_fn(|| match buffer.take(false) {
            Taken::Delivery(delivery) => Some(delivery.message.id),
            Taken::Nothing | Taken::Over => None,
        })
        .collect()
    }

    #[test]
    fn the_newest_are_kept_within_both_bounds() {
        let buffer = Buffer::new(Bounds { length_max: 3, bytes_max: 100 });
        for id in 0..9 {
            put(&buffer, id, 10);
        }
        assert_eq!(taken(&buffer), ["6", "7", "8"]);
        for (id, bytes) in [(0, 40), (1, 50), (2, 60)] {
            put(&buffer, id, bytes);
        }
        assert_eq!(taken(&buffer), ["2"]);
        for (id, bytes) in [(0, 10), (1, 101), (2, 100)] {
            put(&buffer, id, bytes);
        }
        assert_eq!(taken(&buffer), ["2"], "one that is too large alone takes no room from later ones");
        put(&buffer, 3, 1);
        assert!(matches!(buffer.take(true), Taken::Nothing), "paused");
        buffer.end();
        assert!(matches!(buffer.take(false), Taken::Over));
        assert!(matches!(buffer.take(true), Taken::Over), "paused");
    }
}
