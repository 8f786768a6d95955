//! Parses large bodies on other threads than the async ones.

use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;

use crate::api::error::ApiError;

/// The largest body that is parsed where it was read, in bytes. The most hostile takes half a millisecond, and an
/// ordinary one a hundredth of that, which is what handing it to another thread would cost.
const INLINE_MAX_BYTES: usize = 8 * 1024;

/// The largest medium body, in bytes. Medium bodies have permits of their own: the most hostile body of half a
/// megabyte takes some thirty milliseconds, and a conversation of some pages shouldn't wait behind several of them.
const MEDIUM_MAX_BYTES: usize = 64 * 1024;

/// Parses large bodies on other threads than the async ones, a few at a time, in the order of arrival. This bounds
/// memory too: a value that is parsed from JSON takes up to thirty times the bytes of its text.
#[derive(Debug)]
pub(super) struct ParsingPool {
    medium: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for ParsingPool {
    /// Gives each size as many permits as half of the processors, so that one size alone leaves the other half to all
    /// other requests.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let permits = || Arc::new(Semaphore::new((processors / 2).max(1)));
        Self { medium: permits(), large: permits() }
    }
}

impl ParsingPool {
    /// Runs `parse` on a body of `bytes` bytes: at once if the body is short, otherwise on another thread once a
    /// permit is free.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if `parse` panicked, which is a fault in the gateway.
    pub(super) async fn run<T>(
        &self,
        bytes: usize,
        parse: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
    {
        if bytes <= INLINE_MAX_BYTES {
            return Ok(parse());
        }
        let permits = if bytes <= MEDIUM_MAX_BYTES { &self.medium } else { &self.large };
        // The semaphore is never closed. Parsing continues when its client goes away, and keeps its permit.
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| ApiError::Internal)?;
        let parsing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            parse()
        });
        parsing.await.map_err(|error| {
            tracing::error!(%error, "parsing a body panicked");
            ApiError::Internal
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn few_large_bodies_are_parsed_at_a_time() {
        let (pool, busy, most) =
            (ParsingPool::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let free = pool.large.available_permits();
        let all = (0..4 * free).map(|_| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            pool.run(500_000, move || {
                most.fetch_max(busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
                busy.fetch_sub(1, Ordering::Relaxed);
            })
        });
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        assert!(most.load(Ordering::Relaxed) <= free, "{most:?} at once, of {free}");
    }

    #[tokio::test]
    async fn a_parse_that_panics_is_a_mistake_of_ours() {
        let done = ParsingPool::default().run(500_000, || panic!("a mistake")).await;
        assert_eq!(done, Err::<(), _>(ApiError::Internal));
    }
}
