//! Finds out whether a client that has sent its last byte still waits for the reply.
//!
//! A client that only stops sending and one that closes its connection both send the same FIN. They differ once bytes
//! are sent to them: the machine of a closed connection answers with a reset. HTTP has a message that may precede a
//! reply and has no meaning: the interim reply. So if a reply takes longer than most, a client that has sent its last
//! byte is sent `100 Continue`, which clients skip.
//!
//! HTTP/1.0 has no interim replies. Such a client is assumed to wait until its machine resets the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::http::acceptor::Wire;

/// The interim reply, which shows whether the client is still there.
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The steps, each with its time in milliseconds after the client's last byte. Replies that wait for no job are made
/// before the first step. A client that is gone resets the connection within a round trip. Go's client takes at most
/// five interim replies.
const STEPS: [(u64, Act); 10] = [
    (1_000, Act::Ask),
    (1_050, Act::Look),
    (1_250, Act::Look),
    (2_000, Act::Look),
    (10_000, Act::Ask),
    (10_500, Act::Look),
    (60_000, Act::Ask),
    (60_500, Act::Look),
    (240_000, Act::Ask),
    (240_500, Act::Look),
];

/// The action of one step.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Checks for a reset, then sends an interim reply.
    Ask,
    /// Checks for a reset.
    Look,
}

/// The watch over a client that has sent its last byte.
#[derive(Debug)]
pub(crate) struct Presence {
    since: Instant,
    step: usize,
    alarm: Pin<Box<Sleep>>,
    /// The part of an interim reply that is still to be written.
    unsaid: &'static [u8],
}

impl Presence {
    /// Starts to watch a client that sent its last byte now.
    pub(crate) fn begin() -> Self {
        let since = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(since + Duration::from_millis(STEPS[0].0)));
        Self { since, step: 0, alarm, unsaid: &[] }
    }

    /// Waits until the client is known to be gone. `may_ask` is true if the client takes interim replies and nothing
    /// else is being written.
    pub(crate) fn poll_gone<S: Wire>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        may_ask: bool,
    ) -> Poll<io::Error> {
        while let Some((_, act)) = STEPS.get(self.step) {
            ready!(self.alarm.as_mut().poll(context));
            if let Some(error) = stream.error() {
                return Poll::Ready(error);
            }
            if matches!(act, Act::Ask) && may_ask {
                self.unsaid = QUESTION;
            }
            if let Poll::Ready(Err(error)) = self.poll_said(stream, context) {
                return Poll::Ready(error);
            }
            self.step += 1;
            if let Some((after_ms, _)) = STEPS.get(self.step) {
                self.alarm.as_mut().reset(self.since + Duration::from_millis(*after_ms));
            }
        }
        Poll::Pending
    }

    /// Waits until no interim reply is partly written. No other bytes may be written before that.
    pub(crate) fn poll_said<S: Wire>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.unsaid.is_empty() {
            let length = ready!(Pin::new(&mut *stream).poll_write(context, self.unsaid))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsaid = &self.unsaid[length..];
            if self.unsaid.is_empty() {
                ready!(Pin::new(&mut *stream).poll_flush(context))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
