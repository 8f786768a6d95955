//! A reply on its way: what it holds is given back once it is written, and not when it was made.

use bytes::{Buf, Bytes};

use crate::layers::rate_limit::Turn;
use crate::room::{Held, Room};

/// Holds a reply's bytes until the kernel has them or the connection is gone: hyper keeps it until then and no longer.
///
/// A large reply keeps the key's turn meanwhile, so that a client that reads none can't collect them. A small one gives it
/// back at once: its next request may come on another connection before this one's end is noticed here.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Bytes,
    _kept: Option<(Held, Option<Turn>)>,
}

impl Outgoing {
    /// A reply to a request that had `turn`.
    #[must_use]
    pub fn new(bytes: Bytes, turn: Option<Turn>, room: &Room) -> Self {
        let kept = room.owe(bytes.len()).map(|held| (held, turn));
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
