//! How much memory large bodies and replies may take, all together, and that the system gets it back afterwards. Small ones
//! aren't counted: there are no more of them than connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use infera_core::shutdown::Shutdown;

/// Bodies and replies up to this size are small. Ten thousand connections hold 160 MB of them at worst, about as much as
/// their buffers.
pub const SMALL_MAX_BYTES: usize = 16 * 1024;

/// Once so much was held and let go, the allocator is asked for it, at most once in [`TRIM_EVERY`]. Large bodies are rare where
/// people chat, so most gateways never ask.
const TRIM_AFTER_BYTES: usize = 16 * 1024 * 1024;

/// Asking takes some milliseconds for each hundred megabytes.
const TRIM_EVERY: Duration = Duration::from_secs(5);

/// Bytes of large bodies and replies in hand, against a limit.
#[derive(Debug)]
pub struct Room {
    max_bytes: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    held_bytes: AtomicUsize,
    /// Let go since the allocator was asked last.
    let_go_bytes: AtomicUsize,
}

/// Bytes that are in hand; dropping it gives them back.
#[derive(Debug)]
pub struct Held {
    bytes: usize,
    counts: Arc<Counts>,
}

impl Room {
    /// Makes a room for `max_bytes` bytes; 0 is no limit.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Self { max_bytes, counts: Arc::default() }
    }

    /// Makes `held` count for `bytes`, if there is room for what is more. Small ones need none.
    #[must_use]
    pub fn grow(&self, held: &mut Option<Held>, bytes: usize) -> bool {
        let before = held.as_ref().map_or(0, |held| held.bytes);
        if bytes <= SMALL_MAX_BYTES || bytes <= before {
            return true;
        }
        let more = bytes - before;
        let grown = self.counts.held_bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if grown > self.max_bytes {
            self.counts.held_bytes.fetch_sub(more, Ordering::Relaxed);
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
        self.counts.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(self.held(bytes))
    }

    fn held(&self, bytes: usize) -> Held {
        Held { bytes, counts: Arc::clone(&self.counts) }
    }

    /// Gives back to the system what large bodies and replies took, until told to stop. The allocator itself keeps most of it:
    /// of 400 bodies of half a megabyte 211 MB of 296 were still there when all were gone.
    pub async fn give_back(&self, stop: &Shutdown) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TRIM_EVERY) => {}
            }
            if self.counts.let_go_bytes.load(Ordering::Relaxed) >= TRIM_AFTER_BYTES {
                self.counts.let_go_bytes.store(0, Ordering::Relaxed);
                // It can't fail but by a panic, and there is none in it.
                let _ = tokio::task::spawn_blocking(trim).await;
            }
        }
    }
}

/// Asks the allocator for all pages that nothing is on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "glibc's function has no safe face")]
fn trim() {
    // SAFETY: it takes a number of bytes to keep, touches only the allocator's own free memory, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves, or can't be asked.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn trim() {}

impl Drop for Held {
    fn drop(&mut self) {
        self.counts.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.let_go_bytes.fetch_add(self.bytes, Ordering::Relaxed);
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
        assert_eq!(room.counts.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_limit_is_none() {
        let (room, mut held) = (Room::new(0), None);
        assert!(room.grow(&mut held, usize::MAX / 2));
    }

    /// Free memory in front of a block that is in use stays with the allocator until it is asked.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn what_the_allocator_keeps_goes_back() {
        let resident_bytes = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        // Below the size from which glibc maps each block by itself.
        let large: Vec<Vec<u8>> = (0..2_000).map(|_| vec![1; 64 * 1024]).collect();
        let behind = vec![1_u8; 64 * 1024];
        drop(large);
        let before = resident_bytes();
        trim();
        let after = resident_bytes();
        assert!(before.saturating_sub(after) > 100 * 1024 * 1024, "{before} bytes before, {after} after");
        drop(behind);
    }
}
