//! How much memory large bodies and replies may take, all together. Small ones aren't counted: there are no more of them than
//! connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bodies and replies up to this size are small. Ten thousand connections hold 160 MB of them at worst, about as much as
/// their buffers.
pub const SMALL_MAX_BYTES: usize = 16 * 1024;

/// Bytes of large bodies and replies in hand, against a limit.
#[derive(Debug)]
pub struct Room {
    max_bytes: usize,
    held_bytes: Arc<AtomicUsize>,
}

/// Bytes that are in hand; dropping it gives them back.
#[derive(Debug)]
pub struct Held {
    bytes: usize,
    held_bytes: Arc<AtomicUsize>,
}

impl Room {
    /// Room for so many bytes; 0 is no limit.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Self { max_bytes, held_bytes: Arc::default() }
    }

    /// Makes `held` count for `bytes`, if there is room for what is more. Small ones need none.
    #[must_use]
    pub fn grow(&self, held: &mut Option<Held>, bytes: usize) -> bool {
        let before = held.as_ref().map_or(0, |held| held.bytes);
        if bytes <= SMALL_MAX_BYTES || bytes <= before {
            return true;
        }
        let more = bytes - before;
        let grown = self.held_bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if grown > self.max_bytes {
            self.held_bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        match held {
            Some(held) => held.bytes = bytes,
            None => *held = Some(self.held(bytes)),
        }
        true
    }

    /// Counts bytes that are there whether or not there is room for them, such as a reply's: what comes later has to wait for
    /// them. None for a small one.
    #[must_use]
    pub fn owe(&self, bytes: usize) -> Option<Held> {
        if bytes <= SMALL_MAX_BYTES {
            return None;
        }
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(self.held(bytes))
    }

    fn held(&self, bytes: usize) -> Held {
        Held { bytes, held_bytes: Arc::clone(&self.held_bytes) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back() {
        let room = Room::new(100_000);
        let (mut one, mut other) = (None, None);
        assert!(room.grow(&mut one, 1_000) && one.is_none(), "small ones aren't counted");
        assert!(room.grow(&mut one, 60_000));
        assert!(!room.grow(&mut other, 60_000));
        assert!(room.grow(&mut other, 40_000));
        assert!(!room.grow(&mut other, 40_001));
        drop(one);
        assert!(room.grow(&mut other, 100_000));
        let owed = room.owe(50_000);
        drop(other);
        let mut third = None;
        assert!(!room.grow(&mut third, 50_001));
        drop(owed);
        assert!(room.grow(&mut third, 100_000));
        drop(third);
        assert_eq!(room.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_limit_is_none() {
        let (room, mut held) = (Room::new(0), None);
        assert!(room.grow(&mut held, usize::MAX / 2));
    }
}
