//! Whether this verifier could hear its nodes: a pure record of when something came in, with the times handed in. Once
//! a second its own summary comes back to it by way of the broker, so a longer silence is its own deafness (broker away,
//! link cut or black-holed, process stopped) and no node's fault.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_types::messages::RefusalReason;
use infera_types::time::Timestamp;

/// How an assignment comes to have no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Its time is up.
    Silence {
        /// Whether the broker may have lost the assignment.
        uncertain: bool,
    },
    /// Its node says so.
    Refusal(RefusalReason),
}

/// Whether that counts against the node. Nothing does that reaches into our deafness: what stopped us may have stopped
/// the assignment on its way, or the node beside us, until its time was over.
pub(crate) const fn counts(lack: Lack, was_deaf: bool) -> bool {
    !was_deaf
        && match lack {
            Lack::Silence { uncertain } => !uncertain,
            Lack::Refusal(reason) => reason.counts(),
        }
}

/// When something was heard.
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
    /// Deaf until it hears something for the first time; a longer silence than `silence_max` is deafness.
    pub(crate) fn new(silence_max: Duration) -> Self {
        Self { silence_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No section under the lock can panic halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came in.
    pub(crate) fn heard(&self, now: Timestamp) {
        let mut state = self.lock();
        if now.since(state.last) > self.silence_max {
            state.deaf_until = now;
        }
        state.last = now;
    }

    /// Whether what was said since `then` may have been missed.
    pub(crate) fn was_deaf_since(&self, then: Timestamp, now: Timestamp) -> bool {
        let state = self.lock();
        state.deaf_until >= then || now.since(state.last) > self.silence_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_counts_that_reaches_into_deafness() {
        use RefusalReason::{Broken, Busy, Crashed, Draining, Expired};
        for (lack, hearing, deaf) in [
            (Lack::Silence { uncertain: false }, true, false),
            (Lack::Silence { uncertain: true }, false, false),
            (Lack::Refusal(Expired), true, false),
            (Lack::Refusal(Crashed), true, false),
            (Lack::Refusal(Broken), true, false),
            (Lack::Refusal(Busy), false, false),
            (Lack::Refusal(Draining), false, false),
        ] {
            assert_eq!((counts(lack, false), counts(lack, true)), (hearing, deaf), "{lack:?}");
        }
    }

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
