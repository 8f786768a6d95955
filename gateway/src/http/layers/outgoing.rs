//! Keeps a reply's memory and turn until the reply is written, and not only until it is made.

use bytes::{Buf, Bytes};

use crate::access::Turn;
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
