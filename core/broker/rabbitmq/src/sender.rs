//! Sends fleeting messages: without confirmations, one after the other, on a channel of their own, so that none waits
//! for a confirmation and no confirmation is mistaken for one of theirs.
//!
//! The channel shares the publishing connection with the publishes that are confirmed, and a flood that only the kernel's
//! buffers held back would lie there ahead of them: 49 ms each (measured). So after each few messages a question is
//! asked on the channel, which the broker answers once it has taken them, and meanwhile messages wait here. What waits
//! here is bounded in messages and bytes, and nothing waits while the broker is away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicPublishOptions, BasicQosOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::line::{Line, answer};
use super::link::Link;
use super::terms::{Parcel, Refusal, Route};
use infera_broker::Sent;
use infera_telemetry::metrics::BROKER_FLEETING_LOST;

/// How many messages may wait to be written. A program sends each peer about thirty frames a second, so this is a tick
/// of hundreds of peers.
const WAITING_MAX: usize = 256;

/// How many bytes the bodies of waiting messages may have: four of the largest that the broker accepts, or 16 KiB for
/// each of those that may wait.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// After how many messages the broker is asked whether it has taken them. One question for so many costs little, and a
/// broker takes as many in a few milliseconds.
const UNTAKEN_MAX: usize = 64;

/// After how many bytes of bodies the broker is asked, too: 4 KiB for each of these messages.
const UNTAKEN_BYTES_MAX: usize = 256 * 1024;

/// How long a message may wait to be written. After a second newer frames have made up for it, and it would only delay
/// those.
const FRESH: Duration = Duration::from_secs(1);

/// How long writing one message may take before the connection counts as stuck; a healthy one takes microseconds.
const WRITTEN: Duration = Duration::from_secs(2);

/// After a failure, how long messages are dropped before the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// How long messages are dropped at most while an attempt after a failure goes on, which takes less: connecting and one
/// answer.
const ATTEMPT: Duration = Duration::from_secs(30);

/// A message that waits to be written.
struct Waiting {
    parcel: Parcel,
    since: Instant,
    /// Its share of the bytes that may wait.
    _room: OwnedSemaphorePermit,
}

/// Until when the broker counts as away; not at all if none.
#[derive(Clone, Default)]
struct Away(Arc<Mutex<Option<Instant>>>);

impl Away {
    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn lasts(&self, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// The way to the task that sends. The task ends when this is dropped.
pub(super) struct Sender {
    waiting: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    away: Away,
}

impl Sender {
    pub(super) fn start(link: Arc<Link>) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        let away = Away::default();
        tokio::spawn(Sending { link, open: None, has_failed: false, away: away.clone() }.run(waiting));
        Self { waiting: sender, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)), away }
    }

    /// Hands a message to the task, unless too much waits there or the broker is away.
    pub(super) fn send(&self, parcel: Parcel) -> Sent {
        let since = Instant::now();
        if self.away.lasts(since) {
            return Sent::Dropped;
        }
        let bytes = u32::try_from(parcel.body.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return Sent::Dropped };
        match self.waiting.try_send(Waiting { parcel, since, _room: room }) {
            Ok(()) => Sent::HandedOn,
            Err(_) => Sent::Dropped,
        }
    }
}

/// The channel while it can be used, and what was written on it since the broker was last asked.
struct Open {
    line: Arc<Line>,
    channel: Channel,
    untaken: usize,
    untaken_bytes: usize,
}

impl Open {
    fn is_usable(&self) -> bool {
        self.line.is_up() && self.channel.status().connected()
    }

    /// Waits until the broker has taken what was written, if that is much.
    async fn keep_pace(&mut self) -> Result<(), Refusal> {
        if self.untaken >= UNTAKEN_MAX || self.untaken_bytes >= UNTAKEN_BYTES_MAX {
            // The cheapest question of AMQP that any node may ask; nothing is consumed on this channel.
            answer(self.channel.basic_qos(0, BasicQosOptions::default())).await?;
            (self.untaken, self.untaken_bytes) = (0, 0);
        }
        Ok(())
    }

    async fn write(&mut self, parcel: Parcel) -> Result<(), Refusal> {
        let Parcel { route: Route { exchange, key, .. }, properties, body } = parcel;
        self.untaken += 1;
        self.untaken_bytes += body.len();
        let written = async {
            let options = BasicPublishOptions::default();
            // Without confirm mode the second wait ends at once.
            self.channel.basic_publish(exchange, key, options, &body, properties).await?.await
        };
        match timeout(WRITTEN, written).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Refusal::Away(format!("not written in {WRITTEN:?}"))),
        }
    }
}

/// The task that sends.
struct Sending {
    link: Arc<Link>,
    open: Option<Open>,
    /// Whether the last attempt failed.
    has_failed: bool,
    away: Away,
}

impl Sending {
    async fn run(mut self, mut waiting: mpsc::Receiver<Waiting>) {
        while let Some(message) = waiting.recv().await {
            if message.since.elapsed() > FRESH {
                lost(1);
                continue;
            }
            let sent = self.send(message).await;
            self.has_failed = sent.is_err();
            self.away.set(self.has_failed.then(|| Instant::now() + PAUSE));
            if let Err(refusal) = sent {
                let mut dropped = 1;
                while waiting.try_recv().is_ok() {
                    dropped += 1;
                }
                lost(dropped);
                tracing::debug!(?refusal, dropped, "fleeting messages could not be sent");
            }
        }
    }

    async fn send(&mut self, message: Waiting) -> Result<(), Refusal> {
        if self.has_failed {
            self.away.set(Some(Instant::now() + ATTEMPT));
        }
        let mut open = match self.open.take().filter(Open::is_usable) {
            Some(open) => open,
            None => {
                let (line, channel) = self.link.channel().await?;
                Open { line, channel, untaken: 0, untaken_bytes: 0 }
            }
        };
        // A broker that is short of memory or disk reads nothing: the message would lie in the connection.
        if open.line.connection.status().blocked() {
            self.open = Some(open);
            return Err(Refusal::Away("the broker accepts no publishes".to_owned()));
        }
        open.keep_pace().await?;
        open.write(message.parcel).await?;
        self.open = Some(open);
        Ok(())
    }
}

/// Counts messages that were handed on and not sent.
fn lost(messages: u64) {
    metrics::counter!(BROKER_FLEETING_LOST, "place" => "sending").increment(messages);
}
