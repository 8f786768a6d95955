//! Bounds how long a client is waited for between requests: briefly for a head, long for the next one to begin. Of HTTP it
//! knows only that a request came, that its reply is ready and that it is written.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Says what a connection is waiting for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first head is due, and nothing of it came yet.
    Opened { since: Instant },
    /// The rest of a head is due.
    Head { since: Instant },
    /// A head took too long, and the client is being told so.
    Overdue { since: Instant },
    /// A request is being worked on.
    Served,
    /// A reply is ready and not written yet.
    Replied { since: Instant },
    /// The next request may come.
    Idle { since: Instant },
}

/// Is one connection's clock, with the bell by which the connection is asked to end.
#[derive(Debug)]
pub(crate) struct Timeouts {
    head: Duration,
    idle: Duration,
    phase: Mutex<Phase>,
    bell: Notify,
}

/// Bounds the time in which a client is told that its head took too long.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

impl Timeouts {
    /// Starts the clock of a connection that opened now.
    pub(crate) fn begin(head: Duration, idle: Duration) -> Arc<Self> {
        let phase = Mutex::new(Phase::Opened { since: Instant::now() });
        Arc::new(Self { head, idle, phase, bell: Notify::new() })
    }

    /// Notes that a request is here, whole but for its body.
    pub(crate) fn request_came(&self) {
        self.enter(Phase::Served);
    }

    /// Notes that its reply is ready to be written.
    pub(crate) fn replied(&self) {
        self.enter(Phase::Replied { since: Instant::now() });
    }

    /// Notes that the operating system has all that was to be written.
    pub(crate) fn written(&self) {
        if matches!(self.phase(), Phase::Replied { .. }) {
            self.enter(Phase::Idle { since: Instant::now() });
        }
    }

    /// Notes that bytes came. The first after a reply begin the next head; earlier ones belong to that reply's request.
    pub(crate) fn received(&self) {
        match self.phase() {
            Phase::Opened { since } => self.enter(Phase::Head { since }),
            Phase::Replied { .. } | Phase::Idle { .. } => self.enter(Phase::Head { since: Instant::now() }),
            Phase::Head { .. } | Phase::Overdue { .. } | Phase::Served => {}
        }
    }

    /// Returns whether a request is being worked on.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.phase(), Phase::Served)
    }

    /// Returns whether a reply is being made or written.
    pub(crate) fn owes_a_reply(&self) -> bool {
        matches!(self.phase(), Phase::Served | Phase::Replied { .. })
    }

    /// Returns whether a head came in part and its time is over.
    pub(crate) fn is_overdue(&self) -> bool {
        matches!(self.phase(), Phase::Overdue { .. })
    }

    /// Returns since when the connection is idle: since the last reply, or since it opened if nothing came yet. None is in
    /// the middle of a request.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Opened { since } | Phase::Idle { since } => Some(since),
            _ => None,
        }
    }

    /// Asks the connection to end: at once if it is idle, else after the reply that is due.
    pub(crate) fn send_away(&self) {
        self.bell.notify_one();
    }

    /// Waits until it is asked to end.
    pub(crate) async fn sent_away(&self) {
        self.bell.notified().await;
    }

    /// Returns when to give up, as things are.
    fn due(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Opened { since } | Phase::Head { since } => Some(since + self.head),
            Phase::Overdue { since } => Some(since + TOLD_WITHIN),
            Phase::Served => None,
            Phase::Replied { since } | Phase::Idle { since } => Some(since + self.idle),
        }
    }

    /// Returns whether to give up, now that it is time to. A client whose head came in part is told first.
    fn gives_up(&self) -> bool {
        let is_head = matches!(self.phase(), Phase::Head { .. });
        if is_head {
            self.enter(Phase::Overdue { since: Instant::now() });
        }
        !is_head
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Drives `connection` to its end. None says that its client was waited for too long.
    pub(crate) async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(self.head));
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(ended));
                }
                // An alarm that rings too early is set again, so that most requests set none.
                loop {
                    let Some(due) = self.due() else { return Poll::Pending };
                    if due < alarm.deadline() {
                        alarm.as_mut().reset(due);
                    }
                    std::task::ready!(alarm.as_mut().poll(context));
                    if due <= Instant::now() {
                        break;
                    }
                    alarm.as_mut().reset(due);
                }
                if self.gives_up() {
                    return Poll::Ready(None);
                }
            }
        })
        .await
    }
}
