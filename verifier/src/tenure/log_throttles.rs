//! Bounds what the log says of messages that can't be used. Their sender may send thousands, so each kind of trouble is
//! logged at once and then once a minute at most, with how many there were. The counters have all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two log lines of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// One throttle for each kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct LogThrottles {
    /// Messages of a kind or version that this program doesn't know.
    pub(crate) unknown: LogThrottle,
    /// Unknown messages that could not be parked.
    pub(crate) unparked: LogThrottle,
    /// Messages that aren't what their kind promises.
    pub(crate) malformed: LogThrottle,
    /// Messages in another's name.
    pub(crate) impostor: LogThrottle,
    /// Assignments with something that their nodes' workers don't know.
    pub(crate) unsupported: LogThrottle,
    /// Stray replicas that wait for the ledger.
    pub(crate) waiting: LogThrottle,
}

/// When a log line was last written, and how many were left out since.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(Mutex<(Option<Instant>, u64)>);

impl LogThrottle {
    /// Counts one more. Returns how many there were since the last log line if it is time for another.
    pub(crate) fn count(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (said, unsaid) = &mut *state;
        *unsaid = unsaid.saturating_add(1);
        if said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        *said = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_together() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        assert_eq!(throttle.count(start), Some(1));
        for _ in 0..1_000 {
            assert_eq!(throttle.count(start + PAUSE / 2), None);
        }
        assert_eq!(throttle.count(start + PAUSE), Some(1_001));
        assert_eq!(throttle.count(start + PAUSE), None);
        assert_eq!(throttle.count(start + PAUSE * 3), Some(2));
    }
}
