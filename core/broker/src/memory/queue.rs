//! One queue: what waits in it, what its consumers hold, and what has expired. It holds values only; the parent has
//! the lock around it, the names of queues and the routes to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{GIVEN_BACK_MAX, Message, Queue};
use infera_telemetry::metrics::BROKER_FLEETING_LOST;

/// A message in a queue.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) message: Message,
    pub(super) routing_key: Arc<str>,
    pub(super) redelivered: bool,
    /// How often it was returned.
    given_back: u32,
    expires: Option<Instant>,
}

impl Envelope {
    pub(super) fn new(message: Message, routing_key: Arc<str>, now: Instant) -> Self {
        // A time to live beyond the clock's range never ends.
        let expires = message.ttl_ms.and_then(|ttl_ms| now.checked_add(Duration::from_millis(ttl_ms)));
        Self { message, routing_key, redelivered: false, given_back: 0, expires }
    }

    fn bytes(&self) -> u64 {
        self.message.body.len() as u64
    }
}

/// One consumer of a queue: how much it may hold, and what it holds.
struct Holder {
    prefetch: usize,
    held: BTreeMap<u64, Envelope>,
    room: Arc<Notify>,
}

/// The answer to a consumer that asks for a message.
pub(super) enum Next {
    /// The message, with its number.
    Message(u64, Envelope),
    /// The message of a fleeting queue, which is settled.
    Settled(Envelope),
    /// Nothing waits: ask again when something arrives.
    Empty,
    /// The consumer holds as much as it may: ask again when there is room.
    AtLimit,
    /// The consumer is no longer one of this queue.
    Gone,
}

/// A queue as it was declared, and its content. Messages are numbered in the order in which they came, and a returned
/// message takes its old place.
pub(super) struct QueueState {
    pub(super) declared: Queue,
    /// Distinguishes this queue from an earlier one of the same name.
    pub(super) incarnation: u64,
    /// Notified once per arrival; a consumer that takes a message and leaves others notifies the next.
    pub(super) arrivals: Arc<Notify>,
    waiting: BTreeMap<u64, Envelope>,
    /// The total size of their bodies, in bytes.
    waiting_bytes: u64,
    /// When each of the waiting messages expires.
    expiring: BTreeSet<(Instant, u64)>,
    consumers: HashMap<u64, Holder>,
}

impl QueueState {
    pub(super) fn new(declared: Queue, incarnation: u64) -> Self {
        Self {
            declared,
            incarnation,
            arrivals: Arc::new(Notify::new()),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            expiring: BTreeSet::new(),
            consumers: HashMap::new(),
        }
    }

    /// Returns how many messages wait.
    pub(super) fn depth(&mut self, now: Instant) -> u64 {
        self.drop_expired(now);
        self.waiting.len() as u64
    }

    /// Returns whether the queue accepts one more message of this many bytes. A fleeting one always does.
    pub(super) fn has_room(&mut self, bytes: u64, now: Instant) -> bool {
        self.drop_expired(now);
        let Queue { fleeting, length_max, bytes_max, .. } = self.declared;
        fleeting
            || length_max.is_none_or(|max| (self.waiting.len() as u64) < max)
                && bytes_max.is_none_or(|max| self.waiting_bytes.saturating_add(bytes) <= max)
    }

    pub(super) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// Puts a message into the place of its number, and notifies a consumer. A fleeting queue drops what is then too
    /// much.
    pub(super) fn put(&mut self, number: u64, envelope: Envelope) {
        if let Some(expires) = envelope.expires {
            self.expiring.insert((expires, number));
        }
        self.waiting_bytes += envelope.bytes();
        self.waiting.insert(number, envelope);
        if self.declared.fleeting {
            self.drop_surplus();
        }
        self.arrivals.notify_one();
    }

    /// Drops the oldest messages beyond the limits. Their reader was slow, which is counted.
    fn drop_surplus(&mut self) {
        let Queue { length_max, bytes_max, .. } = self.declared;
        let mut lost = 0;
        while (length_max.is_some_and(|max| self.waiting.len() as u64 > max)
            || bytes_max.is_some_and(|max| self.waiting_bytes > max))
            && self.pop_oldest().is_some()
        {
            lost += 1;
        }
        if lost > 0 {
            metrics::counter!(BROKER_FLEETING_LOST, "place" => "reading").increment(lost);
        }
    }

    /// Takes the oldest waiting message out, with its number.
    fn pop_oldest(&mut self) -> Option<(u64, Envelope)> {
        let (number, envelope) = self.waiting.pop_first()?;
        self.waiting_bytes -= envelope.bytes();
        if let Some(expires) = envelope.expires {
            self.expiring.remove(&(expires, number));
        }
        Some((number, envelope))
    }

    /// Lets `consumer` hold up to `prefetch` messages of this queue; `room` is notified when it has room again.
    pub(super) fn join(&mut self, consumer: u64, prefetch: u16, room: Arc<Notify>) {
        let holder = Holder { prefetch: usize::from(prefetch), held: BTreeMap::new(), room };
        self.consumers.insert(consumer, holder);
    }

    /// Ends a consumer; the messages that it held wait again, marked redelivered. Returns those that were returned
    /// too often, if they `may_die`.
    pub(super) fn leave(&mut self, consumer: u64, may_die: bool) -> Vec<Message> {
        let Some(holder) = self.consumers.remove(&consumer) else { return Vec::new() };
        let held = holder.held.into_iter();
        let dead = held.filter_map(|(number, envelope)| self.put_back(number, envelope, may_die)).collect();
        // The consumer may have just been notified of an arrival; the next one gets its turn.
        self.arrivals.notify_one();
        dead
    }

    /// Hands the oldest waiting message to `consumer`.
    pub(super) fn take(&mut self, consumer: u64, now: Instant) -> Next {
        self.drop_expired(now);
        let Some(holder) = self.consumers.get(&consumer) else { return Next::Gone };
        if holder.held.len() >= holder.prefetch {
            // The consumer may have been notified of an arrival that it cannot take.
            self.pass_on();
            return Next::AtLimit;
        }
        let Some((number, envelope)) = self.pop_oldest() else { return Next::Empty };
        self.pass_on();
        if self.declared.fleeting {
            return Next::Settled(envelope);
        }
        if let Some(holder) = self.consumers.get_mut(&consumer) {
            holder.held.insert(number, envelope.clone());
        }
        Next::Message(number, envelope)
    }

    /// Takes a message from the consumer that holds it; none if the consumer does not hold it.
    pub(super) fn settle(&mut self, consumer: u64, number: u64) -> Option<Envelope> {
        let holder = self.consumers.get_mut(&consumer)?;
        let envelope = holder.held.remove(&number);
        holder.room.notify_one();
        envelope
    }

    /// Makes a message wait again, marked redelivered. Its time to live still counts from its arrival. If it was
    /// returned too often and `may_die`, it is returned to the caller instead.
    pub(super) fn put_back(&mut self, number: u64, mut envelope: Envelope, may_die: bool) -> Option<Message> {
        envelope.redelivered = true;
        envelope.given_back += 1;
        if may_die && envelope.given_back > GIVEN_BACK_MAX {
            return Some(envelope.message);
        }
        self.put(number, envelope);
        None
    }

    pub(super) fn set_prefetch(&mut self, consumer: u64, prefetch: u16) {
        if let Some(holder) = self.consumers.get_mut(&consumer) {
            holder.prefetch = usize::from(prefetch);
        }
    }

    /// Wakes every waiting consumer, because the queue is being deleted.
    pub(super) fn wake_all(&self) {
        self.arrivals.notify_waiters();
        for holder in self.consumers.values() {
            holder.room.notify_one();
        }
    }

    fn pass_on(&self) {
        if !self.waiting.is_empty() {
            self.arrivals.notify_one();
        }
    }

    fn drop_expired(&mut self, now: Instant) {
        while let Some(&(expires, number)) = self.expiring.first()
            && expires <= now
        {
            self.expiring.pop_first();
            if let Some(envelope) = self.waiting.remove(&number) {
                self.waiting_bytes -= envelope.bytes();
            }
        }
    }
}

/// Returns the difference between an existing queue and a wanted one.
pub(super) fn difference(there: &Queue, wanted: &Queue) -> Option<String> {
    let differs = |property: &str, there: &dyn fmt::Debug, wanted: &dyn fmt::Debug| {
        Some(format!("{property} is {there:?}, wanted {wanted:?}"))
    };
    if there.bindings != wanted.bindings {
        differs("bindings", &there.bindings, &wanted.bindings)
    } else if there.exclusive != wanted.exclusive {
        differs("exclusive", &there.exclusive, &wanted.exclusive)
    } else if there.fleeting != wanted.fleeting {
        differs("fleeting", &there.fleeting, &wanted.fleeting)
    } else if there.replicated != wanted.replicated {
        differs("replicated", &there.replicated, &wanted.replicated)
    } else if there.length_max != wanted.length_max {
        differs("length_max", &there.length_max, &wanted.length_max)
    } else if there.bytes_max != wanted.bytes_max {
        differs("bytes_max", &there.bytes_max, &wanted.bytes_max)
    } else if there.idle_ms != wanted.idle_ms {
        differs("idle_ms", &there.idle_ms, &wanted.idle_ms)
    } else if there.dead_letters != wanted.dead_letters {
        differs("dead_letters", &there.dead_letters, &wanted.dead_letters)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::timeout;

    use super::*;

    fn queue() -> QueueState {
        let declared = Queue {
            name: "q".to_owned(),
            bindings: Vec::new(),
            exclusive: false,
            fleeting: false,
            replicated: false,
            length_max: Some(3),
            bytes_max: None,
            idle_ms: None,
            dead_letters: None,
        };
        QueueState::new(declared, 1)
    }

    fn envelope(ttl_ms: Option<u64>, now: Instant) -> Envelope {
        let message =
            Message { id: "m".to_owned(), kind: "k".to_owned(), body: Bytes::new(), ttl_ms, trace: None };
        Envelope::new(message, "q".into(), now)
    }

    async fn is_told(arrivals: &Notify) -> bool {
        timeout(Duration::from_millis(1), arrivals.notified()).await.is_ok()
    }

    /// Two arrivals before a consumer listens cause one notification: the consumer that takes the first message must
    /// notify the next one, or another consumer would wait beside a waiting message.
    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_messages_tells_the_next() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.join(1, 1, Arc::new(Notify::new()));
        queue.join(2, 9, Arc::new(Notify::new()));
        for number in 1..=3 {
            queue.put(number, envelope(None, now));
        }
        assert!(is_told(&queue.arrivals).await);
        assert!(matches!(queue.take(1, now), Next::Message(1, _)));
        assert!(is_told(&queue.arrivals).await);
        assert!(matches!(queue.take(1, now), Next::AtLimit));
        assert!(is_told(&queue.arrivals).await, "a consumer that can't take must pass it on");
        assert!(matches!(queue.take(2, now), Next::Message(2, _)));
        assert!(matches!(queue.take(2, now), Next::Message(3, _)));
        while is_told(&queue.arrivals).await {}
        assert!(matches!(queue.take(2, now), Next::Empty));
        assert!(!is_told(&queue.arrivals).await);
    }

    #[test]
    fn expiry_is_exact_wherever_a_message_waits() {
        let (mut queue, now) = (queue(), Instant::now());
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        for (number, ttl_ms) in [(1, None), (2, Some(10)), (3, Some(u64::MAX))] {
            queue.put(number, envelope(ttl_ms, now));
        }
        assert!(!queue.has_room(0, at(9)));
        assert!(queue.has_room(0, at(10)), "the expired one behind the first still counts");
        // A held message does not expire; one that is returned too late does.
        queue.put(4, envelope(Some(20), now));
        queue.join(1, 9, Arc::new(Notify::new()));
        for expected in [1, 3, 4] {
            assert!(matches!(queue.take(1, at(15)), Next::Message(number, _) if number == expected));
        }
        assert_eq!(queue.depth(at(30)), 0);
        assert_eq!(queue.leave(1, true), []);
        assert_eq!(queue.depth(at(19)), 3);
        assert_eq!(queue.depth(at(30)), 2);
    }
}
