//! How long a client is waited for between requests: briefly for a head, long for the next one to begin. It knows no HTTP
//! but that a request came and that its reply is ready.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What the client owes us.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// A first head, of which nothing came yet.
    Opened { since: Instant },
    /// The rest of a head, of which something came.
    Head { since: Instant },
    /// Nothing more: its head took too long, and it is told so.
    Overdue { since: Instant },
    /// Nothing: it waits for us.
    Served,
    /// Taking its reply, which is ready and not written yet.
    Replied { since: Instant },
    /// Another request, if it likes.
    Idle { since: Instant },
}

/// One connection's clock, and the bell by which it is asked to make room.
#[derive(Debug)]
pub(crate) struct Patience {
    head: Duration,
    idle: Duration,
    phase: Mutex<Phase>,
    bell: Notify,
}

/// A client whose head took too long is told so for as long as that takes, and no longer than this.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

impl Patience {
    /// Of a connection that opened now.
    pub(crate) fn begin(head: Duration, idle: Duration) -> Arc<Self> {
        let phase = Mutex::new(Phase::Opened { since: Instant::now() });
        Arc::new(Self { head, idle, phase, bell: Notify::new() })
    }

    /// A request is here, whole but for its body.
    pub(crate) fn serve(&self) {
        self.enter(Phase::Served);
    }

    /// Its reply is ready to be written.
    pub(crate) fn rest(&self) {
        self.enter(Phase::Replied { since: Instant::now() });
    }

    /// All that was to be written is with the operating system.
    pub(crate) fn written(&self) {
        if matches!(self.phase(), Phase::Replied { .. }) {
            self.enter(Phase::Idle { since: Instant::now() });
        }
    }

    /// Bytes came. The first after a reply begin the next head; what comes with or before it is that request's matter.
    pub(crate) fn hear(&self) {
        match self.phase() {
            Phase::Opened { since } => self.enter(Phase::Head { since }),
            Phase::Replied { .. } | Phase::Idle { .. } => self.enter(Phase::Head { since: Instant::now() }),
            Phase::Head { .. } | Phase::Overdue { .. } | Phase::Served => {}
        }
    }

    /// Whether a request is being worked on.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.phase(), Phase::Served)
    }

    /// Whether a reply is on its way or being made.
    pub(crate) fn owes_a_reply(&self) -> bool {
        matches!(self.phase(), Phase::Served | Phase::Replied { .. })
    }

    /// Whether a head came in part and its time is over.
    pub(crate) fn is_overdue(&self) -> bool {
        matches!(self.phase(), Phase::Overdue { .. })
    }

    /// Since when nothing goes on: between requests, or since the opening. None in the middle of a request.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Opened { since } | Phase::Idle { since } => Some(since),
            _ => None,
        }
    }

    /// Asks the connection to end: at once if nothing goes on, else after the reply that is due.
    pub(crate) fn send_away(&self) {
        self.bell.notify_one();
    }

    /// Until it is asked to end.
    pub(crate) async fn sent_away(&self) {
        self.bell.notified().await;
    }

    /// When to give up, as things are.
    fn due(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Opened { since } | Phase::Head { since } => Some(since + self.head),
            Phase::Overdue { since } => Some(since + TOLD_WITHIN),
            Phase::Served => None,
            Phase::Replied { since } | Phase::Idle { since } => Some(since + self.idle),
        }
    }

    /// Gives up, now that it is time to; false: the client is told first.
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

    /// Drives `connection` to its end; none: its client made us wait for too long.
    pub(crate) async fn lend<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(self.head));
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(ended));
                }
                // An alarm that rings too early is set anew, so that most requests set none.
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
