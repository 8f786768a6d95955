//! Server-sent events on their way to one client. What waits for the client is bounded in bytes, so that one that reads slowly
//! can't make the gateway hold its answer for it, and counts against the gateway's memory budget unless it is small.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::memory::{MemoryBudget, Reservation, SMALL_MAX_BYTES};

/// The most bytes of text in one event. JSON writes a byte as six at most, so that with what else an event has it is
/// within [`EVENT_MAX_BYTES`].
pub(crate) const PIECE_MAX_BYTES: usize = 2 * 1024;

/// The most bytes of an event of text. [`EventSink::has_room`] says whether one more fits.
pub(crate) const EVENT_MAX_BYTES: usize = 14 * 1024;

/// How long a client may take nothing of what waits for it, once there is no room for more.
pub(crate) const STALLED_MAX: Duration = Duration::from_secs(10);

/// The end that events are put into.
#[derive(Debug)]
pub(crate) struct EventSink {
    sender: mpsc::UnboundedSender<Bytes>,
    queue: Arc<Queue>,
    bytes_max: usize,
    memory: MemoryBudget,
}

/// The end that the client reads.
#[derive(Debug)]
pub(crate) struct Events {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    queue: Arc<Queue>,
}

/// What both ends know of the events between them.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when an event was taken out.
    room: Notify,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    /// The part of the memory budget, while more than a little waits.
    reservation: Option<Reservation>,
    /// When an event was last taken out, or put in where none waited.
    moved: Instant,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The client is gone.
    Gone,
    /// More bytes would wait for the client than may.
    TooSlow,
}

/// Makes a stream in which at most `bytes_max` bytes wait for the client, or one event that is larger.
#[must_use]
pub(crate) fn event_stream(bytes_max: usize, memory: MemoryBudget) -> (EventSink, Events) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Waiting { bytes: 0, reservation: None, moved: Instant::now() };
    let queue = Arc::new(Queue { waiting: Mutex::new(waiting), room: Notify::new() });
    (EventSink { sender, queue: Arc::clone(&queue), bytes_max, memory }, Events { receiver, queue })
}

impl EventSink {
    /// Returns whether another event of [`PIECE_MAX_BYTES`] of text may be put in.
    pub(crate) fn has_room(&self) -> bool {
        self.may_wait(&mut self.queue.lock(), EVENT_MAX_BYTES)
    }

    /// Waits until there is room for another event of text.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            self.queue.room.notified().await;
        }
    }

    /// Returns for how long the client has taken nothing of what waits for it.
    pub(crate) fn stalled(&self) -> Duration {
        let waiting = self.queue.lock();
        if waiting.bytes == 0 { Duration::ZERO } else { waiting.moved.elapsed() }
    }

    /// Puts an event in.
    ///
    /// # Errors
    /// [`Unsent`].
    pub(crate) fn send(&self, event: Bytes) -> Result<(), Unsent> {
        let mut waiting = self.queue.lock();
        if !self.may_wait(&mut waiting, event.len()) {
            return Err(Unsent::TooSlow);
        }
        self.put(&mut waiting, event)
    }

    /// Puts an event in once there is room for it: one that is larger than all that may wait, once nothing waits. A client that takes
    /// nothing for [`STALLED_MAX`] is too slow.
    ///
    /// # Errors
    /// [`Unsent`].
    pub(crate) async fn send_patiently(&self, event: Bytes) -> Result<(), Unsent> {
        loop {
            {
                let mut waiting = self.queue.lock();
                if waiting.bytes == 0 || self.may_wait(&mut waiting, event.len()) {
                    return self.put(&mut waiting, event);
                }
            }
            let left = STALLED_MAX.saturating_sub(self.stalled());
            if left.is_zero() {
                return Err(Unsent::TooSlow);
            }
            tokio::select! {
                () = self.queue.room.notified() => {}
                () = self.gone() => return Err(Unsent::Gone),
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Puts an event in whatever waits: the last one, which says why the stream ends.
    ///
    /// # Errors
    /// [`Unsent::Gone`].
    pub(crate) fn send_last(&self, event: Bytes) -> Result<(), Unsent> {
        self.put(&mut self.queue.lock(), event)
    }

    /// Waits until the client is gone.
    pub(crate) async fn gone(&self) {
        self.sender.closed().await;
    }

    /// Returns whether `more` bytes may wait, and takes their part of the memory budget. It is taken for all that may wait, so
    /// that it is asked for once and not for each event.
    fn may_wait(&self, waiting: &mut Waiting, more: usize) -> bool {
        let bytes = waiting.bytes + more;
        bytes <= self.bytes_max
            && (bytes <= SMALL_MAX_BYTES || self.memory.reserve(&mut waiting.reservation, self.bytes_max))
    }

    fn put(&self, waiting: &mut Waiting, event: Bytes) -> Result<(), Unsent> {
        if waiting.bytes == 0 {
            waiting.moved = Instant::now();
        }
        waiting.bytes += event.len();
        if waiting.reservation.is_none() {
            waiting.reservation = self.memory.reserve_anyway(waiting.bytes);
        }
        self.sender.send(event).map_err(|_| Unsent::Gone)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Returns the next event; none after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let polled = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(event)) = &polled {
            let mut waiting = self.queue.lock();
            waiting.bytes -= event.len();
            waiting.moved = Instant::now();
            if waiting.bytes + EVENT_MAX_BYTES <= SMALL_MAX_BYTES {
                waiting.reservation = None;
            }
            drop(waiting);
            self.queue.room.notify_one();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an event of this many bytes.
    fn event(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    async fn next(events: &mut Events) -> Option<usize> {
        std::future::poll_fn(|context| events.poll_next(context)).await.map(|event| event.len())
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (sink, mut events) = event_stream(10, MemoryBudget::new(0));
        assert_eq!([sink.send(event(6)), sink.send(event(4))], [Ok(()), Ok(())]);
        assert_eq!(sink.send(event(1)), Err(Unsent::TooSlow));
        assert_eq!(next(&mut events).await, Some(6));
        assert_eq!(sink.send(event(6)), Ok(()), "there is room again");
        assert_eq!(sink.send_last(event(6)), Ok(()));
        drop(events);
        sink.gone().await;
        assert_eq!(sink.send_last(event(6)), Err(Unsent::Gone));
        assert_eq!(sink.send_patiently(event(6)).await, Err(Unsent::Gone));
    }

    #[tokio::test]
    async fn it_ends_after_the_last_event() {
        let (sink, mut events) = event_stream(10, MemoryBudget::new(0));
        sink.send(event(1)).unwrap();
        drop(sink);
        assert_eq!((next(&mut events).await, next(&mut events).await), (Some(1), None));
    }

    #[tokio::test]
    async fn patience_waits_for_room_and_lets_one_larger_event_through_alone() {
        let (sink, mut events) = event_stream(10, MemoryBudget::new(0));
        sink.send(event(6)).unwrap();
        let sending = tokio::spawn(async move {
            for bytes in [6, 25, 3] {
                sink.send_patiently(event(bytes)).await.unwrap();
            }
        });
        for (bytes, then_waiting) in [(6, 6), (6, 25), (25, 3)] {
            tokio::task::yield_now().await;
            assert_eq!(next(&mut events).await, Some(bytes));
            while events.queue.lock().bytes != then_waiting {
                tokio::task::yield_now().await;
            }
        }
        sending.await.unwrap();
        assert_eq!((next(&mut events).await, next(&mut events).await), (Some(3), None));
    }

    #[tokio::test]
    async fn what_waits_counts_against_the_budget_of_memory() {
        const MAX: usize = 48 * 1024;
        let memory = MemoryBudget::new(100_000);
        let streams: Vec<_> = (0..3).map(|_| event_stream(MAX, memory.clone())).collect();
        let fill = |sink: &EventSink| {
            (0..).take_while(|_| sink.has_room() && sink.send(event(1_000)).is_ok()).count()
        };
        let [one, other, third] = [0, 1, 2].map(|index: usize| fill(&streams[index].0));
        assert!(one >= 34 && other == one, "{one} and {other} kB wait for two clients");
        assert!(third <= 4, "the budget is used up: {third} kB more");
        let mut unread = None;
        assert!(!memory.reserve(&mut unread, 20_000), "other bodies are refused meanwhile");
        drop(streams);
        assert!(memory.reserve(&mut unread, 100_000), "all is given back");
    }

    #[tokio::test]
    async fn reading_gives_the_memory_back() {
        let memory = MemoryBudget::new(50_000);
        let (sink, mut events) = event_stream(48 * 1024, memory.clone());
        (0..30).for_each(|_| sink.send(event(1_000)).unwrap());
        let mut other = None;
        assert!(!memory.reserve(&mut other, 20_000));
        for _ in 0..30 {
            next(&mut events).await;
        }
        assert!(memory.reserve(&mut other, 50_000));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let (sink, _events) = event_stream(10, MemoryBudget::new(0));
        sink.send(event(6)).unwrap();
        assert_eq!(sink.send_patiently(event(6)).await, Err(Unsent::TooSlow));
        assert_eq!(sink.stalled(), STALLED_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_known() {
        let (sink, mut events) = event_stream(10, MemoryBudget::new(0));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(sink.stalled(), Duration::ZERO, "nothing waits");
        sink.send(event(3)).unwrap();
        sink.send(event(3)).unwrap();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(sink.stalled(), Duration::from_secs(7));
        next(&mut events).await;
        assert_eq!(sink.stalled(), Duration::ZERO);
    }
}
