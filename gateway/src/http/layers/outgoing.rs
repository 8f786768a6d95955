//! Keeps a reply's memory and turn until the reply is written, and not only until it is made.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use crate::access::Turn;
use crate::api::event_stream::Events;
use crate::http::timeouts::Timeouts;
use crate::memory::{MemoryBudget, Reservation};

/// A reply's bytes. hyper drops this once the kernel has them or the connection is gone.
///
/// A large reply keeps its key's turn until then, so that a client that doesn't read can't pile up replies. A small
/// reply frees the turn at once: the client's next request may come on another connection before the gateway notices
/// that this reply was written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Bytes,
    _kept: Option<(Reservation, Option<Turn>)>,
}

impl Outgoing {
    /// Makes the reply to a request that had `turn`.
    #[must_use]
    pub(crate) fn new(bytes: Bytes, turn: Option<Turn>, memory: &MemoryBudget) -> Self {
        let kept = memory.reserve_anyway(bytes.len()).map(|reservation| (reservation, turn));
        Self { bytes, _kept: kept }
    }
}

/// The body of a reply, as hyper writes it.
#[derive(Debug)]
pub(in crate::http) enum ReplyBody {
    /// All of it.
    Whole(Full<Outgoing>),
    /// Events, which come as they come. The request keeps its turn until the last one is written.
    Events {
        /// The events.
        events: Events,
        /// What ends with them.
        end: StreamEnd,
    },
}

/// Gives back a stream's turn, and lets its connection's clock go on.
#[derive(Debug)]
pub(in crate::http) struct StreamEnd {
    timeouts: Arc<Timeouts>,
    _turn: Option<Turn>,
}

impl ReplyBody {
    /// Makes the body of a whole reply.
    pub(super) fn whole(body: Outgoing, timeouts: &Timeouts) -> Self {
        timeouts.replied();
        Self::Whole(Full::new(body))
    }

    /// Makes the body of a reply that goes on. Until it ends, its connection isn't idle.
    pub(super) fn events(events: Events, turn: Option<Turn>, timeouts: &Arc<Timeouts>) -> Self {
        timeouts.streams();
        Self::Events { events, end: StreamEnd { timeouts: Arc::clone(timeouts), _turn: turn } }
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.timeouts.replied();
    }
}

impl Body for ReplyBody {
    type Data = Outgoing;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Outgoing>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events { events, end } => {
                end.timeouts.streams();
                events
                    .poll_next(context)
                    .map(|event| event.map(|bytes| Ok(Frame::data(Outgoing { bytes, _kept: None }))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
