//! Bounds the memory of all large bodies and replies together, and returns it to the system afterwards. Small ones
//! aren't counted, because there are no more of them than connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use infera_types::shutdown::Shutdown;

/// The largest size that counts as small, in bytes. Ten thousand connections hold 160 MB of small bodies at worst,
/// about as much as their buffers.
pub(crate) const SMALL_MAX_BYTES: usize = 16 * 1024;

/// The number of released bytes after which the allocator is trimmed. Large bodies are rare in chats, so most
/// gateways never trim.
const TRIM_AFTER_BYTES: usize = 16 * 1024 * 1024;

/// The shortest time between two trims. A trim takes some milliseconds for a hundred megabytes.
const TRIM_EVERY: Duration = Duration::from_secs(5);

/// The budget of large bodies and replies in memory, in bytes. All clones share it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    max_bytes: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    reserved_bytes: AtomicUsize,
    /// The bytes that were released since the last trim.
    released_bytes: AtomicUsize,
}

/// A part of the budget, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: usize,
    counts: Arc<Counts>,
}

impl MemoryBudget {
    /// Makes a budget of `max_bytes`; 0 means no limit.
    #[must_use]
    pub(crate) fn new(max_bytes: usize) -> Self {
        let max_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Self { max_bytes, counts: Arc::default() }
    }

    /// Raises `reservation` to `bytes` and returns true, or returns false if the budget has too little left. A small
    /// size needs no reservation.
    #[must_use]
    pub(crate) fn reserve(&self, reservation: &mut Option<Reservation>, bytes: usize) -> bool {
        let before = reservation.as_ref().map_or(0, |reservation| reservation.bytes);
        if bytes <= SMALL_MAX_BYTES || bytes <= before {
            return true;
        }
        let more = bytes - before;
        let reserved = self.counts.reserved_bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if reserved > self.max_bytes {
            self.counts.reserved_bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        match reservation {
            Some(reservation) => reservation.bytes = bytes,
            None => *reservation = Some(self.reservation(bytes)),
        }
        true
    }

    /// Reserves bytes that are in memory already, such as those of a reply, even beyond the limit; later bodies are
    /// refused instead. Returns none for a small size.
    #[must_use]
    pub(crate) fn reserve_anyway(&self, bytes: usize) -> Option<Reservation> {
        if bytes <= SMALL_MAX_BYTES {
            return None;
        }
        self.counts.reserved_bytes.fetch_add(bytes, Ordering::Relaxed);
        Some(self.reservation(bytes))
    }

    fn reservation(&self, bytes: usize) -> Reservation {
        Reservation { bytes, counts: Arc::clone(&self.counts) }
    }

    /// Returns released memory to the system until `stop`. The allocator alone keeps most of it: after 400 bodies of
    /// half a megabyte, 211 MB of 296 MB were still resident.
    pub(crate) async fn keep_trimmed(&self, stop: &Shutdown) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TRIM_EVERY) => {}
            }
            if self.counts.released_bytes.load(Ordering::Relaxed) >= TRIM_AFTER_BYTES {
                self.counts.released_bytes.store(0, Ordering::Relaxed);
                // The task fails only if it panics, and `trim` can't panic.
                let _ = tokio::task::spawn_blocking(trim).await;
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.counts.reserved_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.released_bytes.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Returns the allocator's free pages to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "glibc's function has no safe face")]
fn trim() {
    // SAFETY: the call takes the number of bytes to keep, touches only the allocator's own free memory, and may be
    // made from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does nothing: other allocators return memory on their own or offer no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_can_be_reserved_again() {
        let budget = MemoryBudget::new(100_000);
        let (mut one, mut other) = (None, None);
        assert!(budget.reserve(&mut one, 1_000) && one.is_none(), "small ones aren't counted");
        assert!(budget.reserve(&mut one, 60_000));
        assert!(!budget.reserve(&mut other, 60_000));
        assert!(budget.reserve(&mut other, 40_000));
        assert!(!budget.reserve(&mut other, 40_001));
        drop(one);
        assert!(budget.reserve(&mut other, 100_000));
        let anyway = budget.reserve_anyway(50_000);
        drop(other);
        let mut third = None;
        assert!(!budget.reserve(&mut third, 50_001));
        drop(anyway);
        assert!(budget.reserve(&mut third, 100_000));
        drop(third);
        assert_eq!(budget.counts.reserved_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let (budget, mut reservation) = (MemoryBudget::new(0), None);
        assert!(budget.reserve(&mut reservation, usize::MAX / 2));
    }

    /// Checks that the allocator keeps free memory in front of a block in use until it is trimmed.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn trimming_returns_what_the_allocator_keeps() {
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
