//! The broker inside this process: queues behind one lock that is never held across a wait. It keeps nothing on disk:
//! the ledger is the truth, and its jobs are published again.
//!
//! A queue without a limit is unbounded here, as the contract says; the ledger bounds it, because it limits the jobs
//! that may wait. What waits in a fleeting queue waits for its consumer in the queue alone. No task runs in the background: the next call that could notice does what is due (a time to live,
//! an idle queue).

mod queue;
mod topic;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::consume_budget;
use tokio::time::Instant;

use super::{
    Address, Broker, BrokerError, Consumer, Delivery, Exchange, Fleeting, Message, Published, Queue, Sent,
    Settle,
};
use queue::{Envelope, Next, QueueState, difference};

/// The embedded broker. Clones of the `Arc` are the same broker; dropping all of them and all consumers ends it.
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

impl MemoryBroker {
    /// Makes a broker without queues.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { shared: Arc::default() })
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues = self.shared.lock().queues.len();
        formatter.debug_struct("MemoryBroker").field("queues", &queues).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    /// Locks the state. No section under the lock can panic halfway, so a poisoned lock holds sound data.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer's queue and how it is notified.
struct Place {
    queue: Arc<str>,
    incarnation: u64,
    consumer: u64,
    /// Notified when a message arrives in the queue.
    arrivals: Arc<Notify>,
    /// Notified when the consumer may hold one more, and when the queue is deleted.
    room: Arc<Notify>,
}

/// A binding, prepared for matching.
struct Route {
    exchange: Exchange,
    pattern: Vec<String>,
    queue: Arc<str>,
}

/// All queues and the routes to them.
#[derive(Default)]
struct State {
    queues: HashMap<Arc<str>, QueueState>,
    routes: Vec<Route>,
    /// When each queue without a consumer is deleted.
    idle: BTreeSet<(Instant, Arc<str>)>,
    /// The last number given to a message, a consumer or a queue's incarnation.
    last: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn declare(&mut self, queue: &Queue, now: Instant) -> Result<(), BrokerError> {
        self.drop_idle(now);
        if let Some(existing) = self.queues.get(queue.name.as_str()) {
            if let Some(difference) = difference(&existing.declared, queue) {
                return Err(BrokerError::Mismatch { name: queue.name.clone(), difference });
            }
            self.restart_idle(&queue.name, now);
            return Ok(());
        }
        let name: Arc<str> = queue.name.as_str().into();
        for binding in &queue.bindings {
            let pattern = topic::words(&binding.pattern).into_iter().map(str::to_owned).collect();
            self.routes.push(Route { exchange: binding.exchange, pattern, queue: Arc::clone(&name) });
        }
        let incarnation = self.number();
        self.queues.insert(name, QueueState::new(queue.clone(), incarnation));
        self.restart_idle(&queue.name, now);
        Ok(())
    }

    fn publish(&mut self, address: &Address, message: Message, now: Instant) -> Published {
        self.drop_idle(now);
        let (routing_key, targets) = self.targets(address);
        if targets.is_empty() {
            return Published::Unroutable;
        }
        let bytes = message.body.len() as u64;
        let mut full =
            |name: &Arc<str>| self.queues.get_mut(name).is_some_and(|queue| !queue.has_room(bytes, now));
        if targets.iter().any(&mut full) {
            return Published::Full;
        }
        let envelope = Envelope::new(message, routing_key.into(), now);
        for name in &targets {
            let number = self.number();
            if let Some(queue) = self.queues.get_mut(name) {
                queue.put(number, envelope.clone());
            }
        }
        Published::Confirmed
    }

    /// Puts a message into each queue that it reaches and that has room.
    fn publish_fleeting(&mut self, address: &Address, message: Message, now: Instant) {
        self.drop_idle(now);
        let (routing_key, targets) = self.targets(address);
        let bytes = message.body.len() as u64;
        let envelope = Envelope::new(message, routing_key.into(), now);
        for name in &targets {
            let number = self.number();
            if let Some(queue) = self.queues.get_mut(name)
                && queue.has_room(bytes, now)
            {
                queue.put(number, envelope.clone());
            }
        }
    }

    /// Returns the key under which a message is delivered and the queues that it reaches.
    fn targets<'a>(&self, address: &'a Address) -> (&'a str, Vec<Arc<str>>) {
        match address {
            Address::Queue(name) => {
                let there = self.queues.get_key_value(name.as_str()).map(|(name, _)| Arc::clone(name));
                (name, there.into_iter().collect())
            }
            Address::Nodes(key) => (key, self.routed(Exchange::Nodes, key)),
            Address::Network(key) => (key, self.routed(Exchange::Network, key)),
        }
    }

    /// Returns the queues that a key reaches, each once.
    fn routed(&self, exchange: Exchange, key: &str) -> Vec<Arc<str>> {
        let words = topic::words(key);
        let mut targets: Vec<Arc<str>> = Vec::new();
        for route in self.routes.iter().filter(|route| route.exchange == exchange) {
            if topic::matches(&route.pattern, &words) && !targets.contains(&route.queue) {
                targets.push(Arc::clone(&route.queue));
            }
        }
        targets
    }

    fn consume(&mut self, name: &str, prefetch: u16, now: Instant) -> Result<Place, BrokerError> {
        self.drop_idle(now);
        let consumer = self.number();
        let Some((name, queue)) = self.queues.get_key_value(name) else {
            return Err(BrokerError::NoSuchQueue(name.to_owned()));
        };
        if queue.declared.exclusive && queue.has_consumers() {
            return Err(BrokerError::Exclusive(name.to_string()));
        }
        let place = Place {
            queue: Arc::clone(name),
            incarnation: queue.incarnation,
            consumer,
            arrivals: Arc::clone(&queue.arrivals),
            room: Arc::new(Notify::new()),
        };
        if let Some(queue) = self.queue_of(&place) {
            queue.join(consumer, prefetch, Arc::clone(&place.room));
        }
        self.restart_idle(&place.queue, now);
        Ok(place)
    }

    /// Returns the queue that a consumer reads, unless it was deleted since.
    fn queue_of(&mut self, place: &Place) -> Option<&mut QueueState> {
        self.queues.get_mut(&place.queue).filter(|queue| queue.incarnation == place.incarnation)
    }

    fn leave(&mut self, place: &Place, now: Instant) {
        let grave = self.grave(place);
        let Some(queue) = self.queue_of(place) else { return };
        let dead = queue.leave(place.consumer, grave.is_some());
        let is_exclusive = queue.declared.exclusive;
        self.bury(grave, dead, now);
        if is_exclusive {
            self.remove(&place.queue);
        } else {
            self.restart_idle(&place.queue, now);
        }
    }

    /// Returns where a queue's dead letters go, if that queue exists.
    fn grave(&mut self, place: &Place) -> Option<Address> {
        let name = self.queue_of(place)?.declared.dead_letters.clone()?;
        self.queues.contains_key(name.as_str()).then_some(Address::Queue(name))
    }

    fn bury(&mut self, grave: Option<Address>, dead: impl IntoIterator<Item = Message>, now: Instant) {
        let Some(grave) = grave else { return };
        for message in dead {
            let id = message.id.clone();
            if self.publish(&grave, message, now) != Published::Confirmed {
                tracing::warn!(id, "a dead letter could not be published and was dropped");
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some(queue) = self.queues.remove(name) {
            queue.wake_all();
            self.routes.retain(|route| *route.queue != *name);
            self.idle.retain(|(_, idle)| **idle != *name);
        }
    }

    /// Records that a queue was used: if it has no consumer, its idle time begins again.
    fn restart_idle(&mut self, name: &str, now: Instant) {
        let Some((name, queue)) = self.queues.get_key_value(name) else { return };
        let Some(idle_ms) = queue.declared.idle_ms else { return };
        let (name, in_use) = (Arc::clone(name), queue.has_consumers());
        self.idle.retain(|(_, idle)| *idle != name);
        if let Some(due) = now.checked_add(Duration::from_millis(idle_ms)).filter(|_| !in_use) {
            self.idle.insert((due, name));
        }
    }

    fn drop_idle(&mut self, now: Instant) {
        while let Some((due, name)) = self.idle.first()
            && *due <= now
        {
            let name = Arc::clone(name);
            self.remove(&name);
        }
    }
}

impl Fleeting for MemoryBroker {
    /// Never drops: what is handed on lies in its queues at once.
    fn publish_fleeting(&self, address: &Address, message: Message) -> Sent {
        self.shared.lock().publish_fleeting(address, message, Instant::now());
        Sent::HandedOn
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn declare(&self, queue: &Queue) -> Result<(), BrokerError> {
        queue.check()?;
        self.shared.lock().declare(queue, Instant::now())
    }

    async fn publish(&self, address: &Address, message: Message) -> Published {
        self.shared.lock().publish(address, message, Instant::now())
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let place = self.shared.lock().consume(queue, prefetch, Instant::now())?;
        Ok(Box::new(MemoryConsumer { shared: Arc::clone(&self.shared), place: Arc::new(place) }))
    }

    async fn depth(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        let (mut state, now) = (self.shared.lock(), Instant::now());
        state.drop_idle(now);
        Ok(state.queues.get_mut(queue).map(|queue| queue.depth(now)))
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        self.shared.lock().remove(queue);
        Ok(())
    }
}

/// A consumer of one queue. `next` may be dropped at any point without losing a message: it takes one only at the
/// moment it returns it.
struct MemoryConsumer {
    shared: Arc<Shared>,
    place: Arc<Place>,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Option<Delivery> {
        // A consumer that finds a message at every call must still let other tasks of its thread run.
        consume_budget().await;
        loop {
            // Made before the check: a deletion between the check and the wait must wake us.
            let (arrival, room) = (self.place.arrivals.notified(), self.place.room.notified());
            let next = match self.shared.lock().queue_of(&self.place) {
                Some(queue) => queue.take(self.place.consumer, Instant::now()),
                None => Next::Gone,
            };
            match next {
                Next::Message(number, envelope) => return Some(self.delivery(number, envelope)),
                Next::Settled(Envelope { message, routing_key, .. }) => {
                    return Some(Delivery::settled(message, routing_key.as_ref().to_owned()));
                }
                Next::Empty => arrival.await,
                Next::AtLimit => room.await,
                Next::Gone => return None,
            }
        }
    }

    async fn set_prefetch(&mut self, prefetch: u16) {
        if let Some(queue) = self.shared.lock().queue_of(&self.place) {
            queue.set_prefetch(self.place.consumer, prefetch);
        }
    }
}

impl MemoryConsumer {
    fn delivery(&self, number: u64, envelope: Envelope) -> Delivery {
        let settle = Receipt { shared: Arc::clone(&self.shared), place: Arc::clone(&self.place), number };
        let routing_key = envelope.routing_key.as_ref().to_owned();
        Delivery::new(envelope.message, routing_key, envelope.redelivered, Box::new(settle))
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.shared.lock().leave(&self.place, Instant::now());
    }
}

/// The right to settle one delivery.
struct Receipt {
    shared: Arc<Shared>,
    place: Arc<Place>,
    number: u64,
}

#[async_trait]
impl Settle for Receipt {
    async fn ack(self: Box<Self>) -> bool {
        let mut state = self.shared.lock();
        state.queue_of(&self.place).and_then(|queue| queue.settle(self.place.consumer, self.number)).is_some()
    }

    async fn nack(self: Box<Self>) {
        let mut state = self.shared.lock();
        let grave = state.grave(&self.place);
        let Some(queue) = state.queue_of(&self.place) else { return };
        if let Some(envelope) = queue.settle(self.place.consumer, self.number) {
            let dead = queue.put_back(self.number, envelope, grave.is_some());
            state.bury(grave, dead, Instant::now());
        }
    }
}
