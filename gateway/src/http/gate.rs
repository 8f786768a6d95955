//! Stands between a client's connection and hyper. It examines each head before hyper reads it (`head`), and tells a
//! client that has only stopped sending from one that is gone (`presence`). It knows nothing of what a request means.
//!
//! A refused head is replaced by a plain one, and the reason is put into a slot ([`Refused`]). The request that hyper
//! makes of the plain head is answered with that reason, so refusals look like all other replies. The connection ends
//! after the reply.
//!
//! Bytes stay in hyper's own buffer, into which they were read. Only a head that arrives in pieces, and the bytes
//! after the end of a body, are held back here until it is their turn.

pub(super) mod chunks;
pub(super) mod head;
mod presence;
mod refused;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use super::acceptor::Wire;
use crate::api::error::ApiError;
use crate::http::timeouts::Timeouts;
use chunks::Chunks;
use head::{Examined, Framing, Head};
use presence::Presence;

pub(crate) use refused::Refused;

/// The largest head, in bytes; longer ones are refused. hyper's buffer is larger, so every whole head fits into it.
const HEAD_MAX_BYTES: usize = 60 * 1024;

/// The largest number of bytes that are read at once while a head is gathered.
const PIECE_BYTES: usize = 8 * 1024;

/// The largest number of bytes that are read from a refused client and thrown away. Closing a connection with unread
/// bytes resets it, and the client would get the reset instead of the reply.
const LINGER_MAX_BYTES: usize = 32 * 1024 * 1024;
/// The longest time for which a refused client's bytes are thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// The part of a request to which the next bytes belong.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// They belong to a head.
    Head,
    /// They belong to a body of which `left` bytes are still to come.
    Body { left: u64 },
    /// They belong to a body in chunks.
    Chunked(Chunks),
    /// A head was refused, so bytes are thrown away; `thrown` counts them.
    Refused { thrown: usize },
}

/// A client's connection as hyper sees it.
pub(crate) struct Gate<S> {
    stream: S,
    timeouts: Arc<Timeouts>,
    refused: Refused,
    reading: Reading,
    /// The bytes that were read but not handed on.
    held: BytesMut,
    /// The number of held bytes that may be handed on.
    cleared: usize,
    /// The number of held bytes that were searched for a head's end without finding one.
    searched: usize,
    /// Whether the client of the last request takes interim replies.
    is_http_11: bool,
    /// Whether bytes were written that aren't flushed yet.
    unflushed: bool,
    /// The watch over a client that has sent its last byte while a reply is due.
    presence: Option<Presence>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S: Wire> Gate<S> {
    pub(crate) fn new(stream: S, timeouts: Arc<Timeouts>, refused: Refused) -> Self {
        Self {
            stream,
            timeouts,
            refused,
            reading: Reading::Head,
            held: BytesMut::new(),
            cleared: 0,
            searched: 0,
            is_http_11: false,
            unflushed: false,
            presence: None,
            linger: None,
        }
    }

    /// Hands on the bytes that were cleared, and returns whether there were any.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let length = self.cleared.min(buffer.remaining());
        if length == 0 {
            return false;
        }
        buffer.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.cleared -= length;
        if self.held.is_empty() {
            // An idle connection needs no buffer.
            self.held = BytesMut::new();
        }
        true
    }

    /// Reads into hyper's buffer and returns where the new bytes begin.
    fn poll_fresh(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let start = buffer.filled().len();
        self.timeouts.asks();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > start {
            self.timeouts.received();
        }
        Poll::Ready(Ok(start))
    }

    /// Reads where a head is due and no bytes are held. Most heads come whole, with their bodies, and stay in hyper's
    /// buffer.
    fn poll_first(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Step>> {
        if self.presence.is_some() {
            return self.poll_end(context);
        }
        let start = ready!(self.poll_fresh(context, buffer))?;
        let fresh = &buffer.filled()[start..];
        if fresh.is_empty() {
            return self.poll_end(context);
        }
        match head::examine(fresh) {
            Examined::Whole(head) => {
                let rest = fresh.len() - head.length;
                self.begin(head);
                let body = self.count(&buffer.filled()[start + head.length..]);
                if body < rest {
                    self.hold_back(buffer, start + head.length + body);
                }
                Poll::Ready(Ok(Step::Done))
            }
            Examined::Partial => {
                self.hold_back(buffer, start);
                Poll::Ready(Ok(Step::Again))
            }
            Examined::Refused(error) => {
                self.hold_back(buffer, start);
                self.refuse(error);
                Poll::Ready(Ok(Step::Again))
            }
        }
    }

    /// Reads more of a head of which some bytes are held, until the head is whole.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        // The held bytes may be a whole head already, which came together with the previous request.
        self.timeouts.asks();
        while !self.holds_a_head() {
            if self.held.len() > HEAD_MAX_BYTES {
                self.refuse(ApiError::HeadTooLarge);
                return Poll::Ready(Ok(Step::Again));
            }
            if self.timeouts.is_overdue() {
                self.refuse(ApiError::SlowHead);
                return Poll::Ready(Ok(Step::Again));
            }
            self.held.reserve(PIECE_BYTES);
            if ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.held))? == 0 {
                return self.poll_end(context);
            }
            self.timeouts.received();
            self.timeouts.asks();
        }
        self.searched = 0;
        match head::examine(&self.held) {
            Examined::Whole(head) if head.length > HEAD_MAX_BYTES => self.refuse(ApiError::HeadTooLarge),
            Examined::Whole(head) => {
                self.begin(head);
                self.cleared = head.length;
            }
            Examined::Refused(error) => self.refuse(error),
            // The parser finds no end if only empty lines without a CR come before it.
            Examined::Partial => self.refuse(head::BARE_LINE_FEED),
        }
        Poll::Ready(Ok(Step::Again))
    }

    /// Returns whether the held bytes contain a head's end. Bytes that were searched before are skipped: otherwise a
    /// head that comes byte by byte would cost the square of its length.
    fn holds_a_head(&mut self) -> bool {
        // Empty lines may come before a request.
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
            self.searched = 0;
        }
        let ends = head::has_end(&self.held, self.searched);
        self.searched = self.held.len();
        ends
    }

    /// Handles the end of the client's sending where a head is due.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if !head::is_blank(&self.held) {
            self.refuse(ApiError::BadRequest("The request's head is broken off."));
            return Poll::Ready(Ok(Step::Again));
        }
        // hyper is told only when no reply is due, because it would drop the request in progress.
        if !self.timeouts.owes_a_reply() {
            return Poll::Ready(Ok(Step::Done));
        }
        let presence = self.presence.get_or_insert_with(Presence::begin);
        let may_ask = self.is_http_11 && !self.unflushed && self.timeouts.is_served();
        presence.poll_gone(&mut self.stream, context, may_ask).map(Err)
    }

    /// Reads a body, and holds back the bytes after it.
    fn poll_body(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Step>> {
        if self.is_broken() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a badly framed chunk")));
        }
        if self.held.is_empty() {
            let start = ready!(self.poll_fresh(context, buffer))?;
            let length = self.count(&buffer.filled()[start..]);
            if start + length < buffer.filled().len() {
                self.hold_back(buffer, start + length);
            }
        } else {
            let held = std::mem::take(&mut self.held);
            self.cleared = self.count(&held);
            self.held = held;
            return Poll::Ready(Ok(Step::Again));
        }
        Poll::Ready(Ok(Step::Done))
    }

    /// Notes that a head was let through, and what its body looks like.
    fn begin(&mut self, head: Head) {
        self.is_http_11 = head.is_http_11;
        self.timeouts.head_came();
        self.reading = match head.body {
            Framing::Length(left) => Reading::Body { left },
            Framing::Chunked => Reading::Chunked(Chunks::BEGINNING),
        };
        self.count(&[]);
    }

    /// Returns how many of these bytes belong to the body that is being read. After its end, a head is due.
    fn count(&mut self, bytes: &[u8]) -> usize {
        let (length, is_over) = match &mut self.reading {
            Reading::Body { left } => {
                let length = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= length as u64;
                (length, *left == 0)
            }
            Reading::Chunked(chunks) => (chunks.take(bytes), *chunks == Chunks::Over),
            Reading::Head | Reading::Refused { .. } => (0, false),
        };
        if is_over {
            self.reading = Reading::Head;
            self.timeouts.body_came();
        }
        length
    }

    fn is_broken(&self) -> bool {
        matches!(self.reading, Reading::Chunked(Chunks::Broken))
    }

    /// Takes back the bytes from `from` on out of hyper's buffer.
    fn hold_back(&mut self, buffer: &mut ReadBuf<'_>, from: usize) {
        self.held.extend_from_slice(&buffer.filled()[from..]);
        buffer.set_filled(from);
    }

    /// Replaces the held head, which must not reach hyper, by a plain one.
    fn refuse(&mut self, error: ApiError) {
        self.held = BytesMut::from(refused::substitute(&self.held));
        self.cleared = self.held.len();
        self.reading = Reading::Refused { thrown: 0 };
        self.refused.put(error);
    }

    /// Waits until hyper may write.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unflushed = true;
        match &mut self.presence {
            Some(presence) => presence.poll_said(&mut self.stream, context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Throws away what a refused client still sends, until its end or the bound.
    fn poll_throw(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; PIECE_BYTES];
        while let Reading::Refused { thrown } = &mut self.reading {
            if *thrown >= LINGER_MAX_BYTES {
                break;
            }
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *thrown += buffer.filled().len(),
                // The client's sending or the whole connection has ended.
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// The result of one step of reading.
enum Step {
    /// All available bytes are in hyper's buffer; if there are none, the client's sending has ended.
    Done,
    /// The state has changed, and reading goes on from there.
    Again,
}

impl<S: Wire> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_on(buffer) {
                return Poll::Ready(Ok(()));
            }
            let step = match this.reading {
                Reading::Head if this.held.is_empty() => ready!(this.poll_first(context, buffer))?,
                Reading::Head => ready!(this.poll_more(context))?,
                Reading::Body { .. } | Reading::Chunked(_) => ready!(this.poll_body(context, buffer))?,
                Reading::Refused { .. } => {
                    ready!(this.poll_throw(context));
                    return Poll::Pending;
                }
            };
            if matches!(step, Step::Done) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Wire> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        if std::mem::take(&mut this.unflushed) {
            this.timeouts.written();
            if this.presence.is_some() {
                // The end of the client's sending was kept from hyper until here; the next poll reports it.
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        if matches!(this.reading, Reading::Refused { .. }) {
            let linger = this.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
            if linger.as_mut().poll(context).is_pending() {
                ready!(this.poll_throw(context));
            }
        }
        Poll::Ready(Ok(()))
    }
}
