//! How long a client is waited for between requests: briefly for a head, long for the next one to begin. It knows no HTTP
//! but that a request came and that its reply is ready.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What the client owes us.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The rest of a head, of which something came; or the first, since the connection opened.
    Head { since: Instant },
    /// Nothing: it waits for us.
    Served,
    /// Taking its reply and, if it likes, another request.
    Idle { since: Instant },
}

/// One connection's clock.
#[derive(Debug)]
pub(crate) struct Patience {
    head: Duration,
    idle: Duration,
    phase: Mutex<Phase>,
}

impl Patience {
    /// Of a connection that opened now.
    pub(crate) fn begin(head: Duration, idle: Duration) -> Arc<Self> {
        let phase = Mutex::new(Phase::Head { since: Instant::now() });
        Arc::new(Self { head, idle, phase })
    }

    /// A request is here, whole but for its body.
    pub(crate) fn serve(&self) {
        self.enter(Phase::Served);
    }

    /// Its reply is ready to be written.
    pub(crate) fn rest(&self) {
        self.enter(Phase::Idle { since: Instant::now() });
    }

    /// Bytes came. The first after a reply begin the next head; what comes with or before it is that request's matter.
    fn hear(&self) {
        if matches!(self.phase(), Phase::Idle { .. }) {
            self.enter(Phase::Head { since: Instant::now() });
        }
    }

    /// When to give up, as things are.
    fn due(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Head { since } => Some(since + self.head),
            Phase::Served => None,
            Phase::Idle { since } => Some(since + self.idle),
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Drives `connection` to its end; none: its client made us wait for too long.
    pub(crate) async fn lend<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(self.head));
        std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(Some(ended));
            }
            // An alarm that rings too early is set anew, so that most requests set none.
            while let Some(due) = self.due() {
                if due < alarm.deadline() {
                    alarm.as_mut().reset(due);
                }
                std::task::ready!(alarm.as_mut().poll(context));
                if due <= Instant::now() {
                    return Poll::Ready(None);
                }
                alarm.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }
}

/// A stream that tells its clock what comes.
pub(crate) struct Heard<S> {
    stream: S,
    patience: Arc<Patience>,
}

impl<S> Heard<S> {
    pub(crate) const fn new(stream: S, patience: Arc<Patience>) -> Self {
        Self { stream, patience }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.patience.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
