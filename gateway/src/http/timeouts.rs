//! The clock of one connection: bounds how long a client may take to send a head, and how long it may pause between
//! requests. Of HTTP, it knows only that a request came, that its reply is ready, and that the reply is written. It also
//! remembers when a request's head and body came, for what replies tell of their time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The first head is due, and no byte of it has come yet.
    Opened { since: Instant },
    /// The rest of a head is due.
    Head { since: Instant },
    /// A head took too long, and the client is being told.
    Overdue { since: Instant },
    /// A request is being worked on.
    Served,
    /// A reply is being written that goes on as long as its events come, and its client takes them.
    Streaming { since: Instant },
    /// A reply is ready but not written yet.
    Replied { since: Instant },
    /// The next request may come.
    Idle { since: Instant },
}

/// One connection's clock, and the signal by which the connection is asked to end.
#[derive(Debug)]
pub(crate) struct Timeouts {
    head: Duration,
    idle: Duration,
    clock: Mutex<Clock>,
    bell: Notify,
}

/// What a connection is waiting for, and when the parts of the present request came.
#[derive(Clone, Copy, Debug)]
struct Clock {
    phase: Phase,
    /// When the kernel was last asked for bytes.
    asked: Instant,
    /// When the bytes were asked for that made the next request's head whole; none until it is.
    head_came: Option<Instant>,
    /// When the last byte of the latest head's body came; none until then.
    body_came: Option<Instant>,
}

/// How long it may take to tell a client that its head took too long.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// How long a stream's connection may have no room for more of it, where the idle time isn't longer. Comments come every ten
/// seconds at least, so that a client that takes nothing for a minute has left six of them.
const STREAM_STALLED_AFTER: Duration = Duration::from_secs(60);

impl Timeouts {
    /// Starts the clock of a connection that opened now.
    pub(crate) fn begin(head: Duration, idle: Duration) -> Arc<Self> {
        let now = Instant::now();
        let clock =
            Clock { phase: Phase::Opened { since: now }, asked: now, head_came: None, body_came: None };
        Arc::new(Self { head, idle, clock: Mutex::new(clock), bell: Notify::new() })
    }

    /// Notes that the kernel is asked for bytes, or that bytes which came earlier are looked at.
    pub(crate) fn asks(&self) {
        self.clock().asked = Instant::now();
    }

    /// Notes that a head is whole.
    pub(crate) fn head_came(&self) {
        let mut clock = self.clock();
        (clock.head_came, clock.body_came) = (Some(clock.asked), None);
    }

    /// Notes that the body of the latest head is whole.
    pub(crate) fn body_came(&self) {
        self.clock().body_came = Some(Instant::now());
    }

    /// Notes that a request is worked on, and returns since when: since the gateway had its head, or since the reply
    /// before it, if a client didn't wait for that one.
    pub(crate) fn request_came(&self) -> Instant {
        let mut clock = self.clock();
        clock.phase = Phase::Served;
        clock.head_came.take().unwrap_or_else(Instant::now)
    }

    /// Returns for how long the request's body was waited for by one who began to read it at `since`.
    pub(crate) fn waited_for_body(&self, since: Instant) -> Duration {
        self.clock().body_came.unwrap_or_else(Instant::now).saturating_duration_since(since)
    }

    /// Notes that a reply was begun that goes on, or that its connection has room for more of it. Its end is noted as that of any
    /// reply.
    pub(crate) fn streams(&self) {
        self.enter(Phase::Streaming { since: Instant::now() });
    }

    /// Notes that the reply is ready to be written.
    pub(crate) fn replied(&self) {
        let (mut clock, now) = (self.clock(), Instant::now());
        clock.phase = Phase::Replied { since: now };
        clock.head_came = clock.head_came.map(|_| now);
    }

    /// Notes that the operating system has taken all bytes that were to be written.
    pub(crate) fn written(&self) {
        if matches!(self.phase(), Phase::Replied { .. }) {
            self.enter(Phase::Idle { since: Instant::now() });
        }
    }

    /// Notes that bytes came. The first bytes after a reply begin the next head; earlier ones belong to the request
    /// of that reply.
    pub(crate) fn received(&self) {
        match self.phase() {
            Phase::Opened { since } => self.enter(Phase::Head { since }),
            Phase::Replied { .. } | Phase::Idle { .. } => self.enter(Phase::Head { since: Instant::now() }),
            Phase::Head { .. } | Phase::Overdue { .. } | Phase::Served | Phase::Streaming { .. } => {}
        }
    }

    /// Returns whether a request is being worked on.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.phase(), Phase::Served)
    }

    /// Returns whether a reply is being made or written.
    pub(crate) fn owes_a_reply(&self) -> bool {
        matches!(self.phase(), Phase::Served | Phase::Streaming { .. } | Phase::Replied { .. })
    }

    /// Returns whether a part of a head has come and its time is over.
    pub(crate) fn is_overdue(&self) -> bool {
        matches!(self.phase(), Phase::Overdue { .. })
    }

    /// Returns since when the connection has been idle: since its last reply, or since it opened if nothing has come
    /// yet. Returns none in the middle of a request.
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

    /// Waits until the connection is asked to end.
    pub(crate) async fn sent_away(&self) {
        self.bell.notified().await;
    }

    /// Returns the time at which to give up, in the present phase.
    fn due(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Opened { since } | Phase::Head { since } => Some(since + self.head),
            Phase::Overdue { since } => Some(since + TOLD_WITHIN),
            Phase::Served => None,
            Phase::Streaming { since } => Some(since + self.idle.max(STREAM_STALLED_AFTER)),
            Phase::Replied { since } | Phase::Idle { since } => Some(since + self.idle),
        }
    }

    /// Returns whether to give up, once the time has come. If a part of a head has come, the client is told first.
    fn gives_up(&self) -> bool {
        let is_head = matches!(self.phase(), Phase::Head { .. });
        if is_head {
            self.enter(Phase::Overdue { since: Instant::now() });
        }
        !is_head
    }

    fn phase(&self) -> Phase {
        self.clock().phase
    }

    fn enter(&self, phase: Phase) {
        self.clock().phase = phase;
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives `connection` to its end. Returns none if its client took too long.
    pub(crate) async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(self.head));
        std::future::poll_fn(|context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(Some(ended));
                }
                // An alarm that rings too early is set again, so that most requests don't have to set it.
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Time stands still in this test but for what it sleeps.
    #[tokio::test(start_paused = true)]
    async fn a_requests_time_begins_with_its_head_and_not_before_the_reply_to_the_one_before_it() {
        let timeouts = Timeouts::begin(SECOND * 10, SECOND * 10);
        let begun = Instant::now();
        let sleep = || tokio::time::sleep(SECOND);
        // The kernel is asked, and the bytes come a second later; hyper has parsed them after another one.
        timeouts.asks();
        sleep().await;
        timeouts.asks();
        timeouts.head_came();
        sleep().await;
        assert_eq!(timeouts.request_came(), begun + SECOND);
        // One second of the body's two was waited for by the one who read it.
        sleep().await;
        let since = Instant::now();
        sleep().await;
        assert_eq!(timeouts.waited_for_body(since), SECOND, "it isn't whole yet");
        timeouts.body_came();
        sleep().await;
        assert_eq!(timeouts.waited_for_body(since), SECOND);
        assert_eq!(timeouts.waited_for_body(Instant::now()), Duration::ZERO, "it came before it was read");
        // The next head comes before the reply is ready.
        timeouts.asks();
        timeouts.head_came();
        sleep().await;
        timeouts.replied();
        assert_eq!(timeouts.request_came(), begun + SECOND * 6);
        assert_eq!(timeouts.request_came(), Instant::now(), "a head is counted once");
    }
    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_quiet_but_not_left_untaken() {
        let timeouts = Timeouts::begin(SECOND, SECOND);
        let begun = Instant::now();
        let connection = async {
            timeouts.request_came();
            for _ in 0..4 {
                timeouts.streams();
                tokio::time::sleep(SECOND * 50).await;
            }
            std::future::pending::<()>().await;
        };
        assert_eq!(timeouts.drive(std::pin::pin!(connection)).await, None);
        assert_eq!(begun.elapsed(), SECOND * 150 + STREAM_STALLED_AFTER);
    }
}
