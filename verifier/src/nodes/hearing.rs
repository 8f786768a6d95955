//! Tells whether this verifier could hear its nodes, by when something last came in. Once a second its own summary comes back
//! to it by way of the broker, so a longer silence is its own deafness (broker away, link cut or black-holed, process stopped)
//! and no node's fault.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_types::time::Timestamp;

/// Records when something was heard.
#[derive(Debug)]
pub(crate) struct Hearing {
    silence_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Timestamp,
    /// When the last too long silence ended.
    deaf_until: Timestamp,
}

impl Hearing {
    /// Begins deaf until something is heard; a longer silence than `silence_max` is deafness.
    pub(crate) fn new(silence_max: Duration) -> Self {
        Self { silence_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No section under the lock can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that something came in.
    pub(crate) fn heard(&self, now: Timestamp) {
        let mut state = self.lock();
        if now.since(state.last) > self.silence_max {
            state.deaf_until = now;
        }
        state.last = now;
    }

    /// Returns whether what was said since `then` may have been missed.
    pub(crate) fn was_deaf_since(&self, then: Timestamp, now: Timestamp) -> bool {
        let state = self.lock();
        state.deaf_until >= then || now.since(state.last) > self.silence_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_silence_is_deafness_until_it_ends_and_for_what_began_before() {
        let at = Timestamp::from_millis;
        let hearing = Hearing::new(Duration::from_millis(100));
        assert!(hearing.was_deaf_since(at(1_000), at(1_000)), "nothing was heard yet");
        for now in [1_000, 1_090, 1_180] {
            hearing.heard(at(now));
        }
        assert!(!hearing.was_deaf_since(at(1_050), at(1_200)));
        assert!(hearing.was_deaf_since(at(1_050), at(1_281)), "silent for too long just now");
        hearing.heard(at(1_400));
        assert!(hearing.was_deaf_since(at(1_050), at(1_410)), "it began before the silence ended");
        assert!(!hearing.was_deaf_since(at(1_401), at(1_450)), "it began after");
    }
}
