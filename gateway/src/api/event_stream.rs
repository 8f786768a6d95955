//! Server-sent events on their way to one client: bounded in bytes, so that a client that reads slowly can't make the gateway
//! hold its answer for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// The end that events are put into.
#[derive(Debug)]
pub(crate) struct EventSink {
    sender: mpsc::UnboundedSender<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The end that the client reads.
#[derive(Debug)]
pub(crate) struct Events {
    receiver: mpsc::UnboundedReceiver<Bytes>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The client is gone.
    Gone,
    /// More bytes wait for the client than may.
    TooSlow,
}

/// Makes a stream in which at most `bytes_max` bytes wait for the client before another event is refused.
#[must_use]
pub(crate) fn event_stream(bytes_max: usize) -> (EventSink, Events) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting_bytes = Arc::<AtomicUsize>::default();
    (
        EventSink { sender, waiting_bytes: Arc::clone(&waiting_bytes), bytes_max },
        Events { receiver, waiting_bytes },
    )
}

impl EventSink {
    /// Puts an event in.
    ///
    /// # Errors
    /// [`Unsent`].
    pub(crate) fn send(&self, event: Bytes) -> Result<(), Unsent> {
        if self.waiting_bytes.load(Ordering::Relaxed) > self.bytes_max {
            return Err(Unsent::TooSlow);
        }
        self.send_last(event)
    }

    /// Puts an event in whatever waits: the last one, which says why the stream ends.
    ///
    /// # Errors
    /// [`Unsent::Gone`].
    pub(crate) fn send_last(&self, event: Bytes) -> Result<(), Unsent> {
        self.waiting_bytes.fetch_add(event.len(), Ordering::Relaxed);
        self.sender.send(event).map_err(|_| Unsent::Gone)
    }

    /// Waits until the client is gone.
    pub(crate) async fn gone(&self) {
        self.sender.closed().await;
    }
}

impl Events {
    /// Returns the next event; none after the last.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let polled = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(event)) = &polled {
            self.waiting_bytes.fetch_sub(event.len(), Ordering::Relaxed);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (sink, mut events) = event_stream(10);
        let event = || Bytes::from_static(b"123456");
        assert_eq!([sink.send(event()), sink.send(event())], [Ok(()), Ok(())]);
        assert_eq!(sink.send(event()), Err(Unsent::TooSlow));
        let read = std::future::poll_fn(|context| events.poll_next(context)).await;
        assert_eq!(read, Some(event()));
        assert_eq!(sink.send(event()), Ok(()), "there is room again");
        assert_eq!(sink.send_last(event()), Ok(()));
        drop(events);
        sink.gone().await;
        assert_eq!(sink.send_last(event()), Err(Unsent::Gone));
    }

    #[tokio::test]
    async fn it_ends_after_the_last_event() {
        let (sink, mut events) = event_stream(10);
        sink.send(Bytes::from_static(b"1")).unwrap();
        drop(sink);
        let mut next = async || std::future::poll_fn(|context| events.poll_next(context)).await;
        assert_eq!((next().await, next().await), (Some(Bytes::from_static(b"1")), None));
    }
}
