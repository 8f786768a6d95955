//! Bounds what the log says of messages that can't be used. Their sender may send thousands, so each complaint is made
//! at once and then once a minute at most, with how many there were. The counters have all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two complaints of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind each.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// Of a kind or version that this program doesn't know.
    pub(crate) unknown: Complaint,
    /// Unknown ones that could not be parked.
    pub(crate) unparked: Complaint,
    /// Not what their kind promises.
    pub(crate) malformed: Complaint,
    /// In another's name.
    pub(crate) impostor: Complaint,
    /// Strays that wait for the ledger.
    pub(crate) waiting: Complaint,
}

/// When it was made last, and what was not said since.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Mutex<(Option<Instant>, u64)>);

impl Complaint {
    /// There is one more reason for it. If it is time to say so: how many there were since the last time.
    pub(crate) fn again(&self, now: Instant) -> Option<u64> {
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
        let (complaint, start) = (Complaint::default(), Instant::now());
        assert_eq!(complaint.again(start), Some(1));
        for _ in 0..1_000 {
            assert_eq!(complaint.again(start + PAUSE / 2), None);
        }
        assert_eq!(complaint.again(start + PAUSE), Some(1_001));
        assert_eq!(complaint.again(start + PAUSE), None);
        assert_eq!(complaint.again(start + PAUSE * 3), Some(2));
    }
}
