//! Bounds how many bytes of strangers' texts and replies are worked on at once. Parsing, rendering, tokenizing and
//! judging need many times the memory of their input, so the bound on concurrent work counts bytes and not items: a
//! thousand small items fit where only two large ones do. This module does none of that work itself.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A budget of bytes that several tasks share. Clones share the same budget.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    bytes_max: u32,
}

/// Bytes reserved from a budget; dropping this value returns them.
#[derive(Debug)]
#[must_use = "a reservation that is dropped at once bounds nothing"]
pub struct BytesHeld {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    /// Makes a budget of this many bytes, but of at least one.
    #[must_use]
    pub fn new(bytes_max: u32) -> Self {
        let bytes_max = bytes_max.max(1);
        // The smallest number of permits that a semaphore has on a 32-bit system.
        let permits = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            bytes_max: u32::try_from(permits).unwrap_or(bytes_max),
        }
    }

    /// Waits until `bytes` fit into the budget, in first-come order. A request larger than the whole budget takes all
    /// of it and so is worked on alone.
    pub async fn hold(&self, bytes: usize) -> BytesHeld {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        // Acquiring fails only on a closed semaphore, and nothing closes this one.
        BytesHeld { _permit: Arc::clone(&self.permits).acquire_many_owned(bytes).await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what `future` yields if it is ready without waiting.
    async fn at_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn bytes_are_shared_and_what_is_too_large_is_alone() {
        let budget = ByteBudget::new(100);
        let first = budget.hold(60).await;
        let second = budget.clone().hold(40).await;
        assert!(at_once(budget.hold(1)).await.is_none(), "all bytes are held");
        drop(first);
        let third = at_once(budget.hold(60)).await;
        assert!(third.is_some());
        drop((second, third));
        let large = at_once(budget.hold(1_000_000)).await;
        assert!(large.is_some(), "an oversized request takes the whole budget");
        assert!(at_once(budget.hold(1)).await.is_none());
        drop(large);
        assert!(at_once(budget.hold(0)).await.is_some());
        assert!(at_once(ByteBudget::new(0).hold(5)).await.is_some());
    }

    #[tokio::test]
    async fn who_asks_first_is_first() {
        let budget = ByteBudget::new(10);
        let held = budget.hold(6).await;
        let mut large = Box::pin(budget.hold(10));
        assert!(at_once(&mut large).await.is_none());
        assert!(at_once(budget.hold(1)).await.is_none(), "a small request doesn't overtake the large one");
        drop(held);
        drop(large.await);
        assert!(at_once(budget.hold(10)).await.is_some());
    }
}
