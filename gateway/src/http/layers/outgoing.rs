//! Holds a reply on its way: memory and turn are released once it is written, and not when it was made.

use bytes::{Buf, Bytes};

use crate::access::Turn;
use crate::memory::{MemoryBudget, Reservation};

/// Holds a reply's bytes until the kernel has them or the connection is gone; hyper drops it then.
///
/// A large reply keeps the key's turn meanwhile, so that a client that reads none can't collect them. A small one releases it
/// at once: the client's next request may come on another connection before the end of this one is noticed here.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Bytes,
    _kept: Option<(Reservation, Option<Turn>)>,
}

impl Outgoing {
    /// Makes a reply to a request that had `turn`.
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
