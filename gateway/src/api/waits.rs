//! The times after which refused clients may try again, as replies tell them. All of them are made here, so that none is told
//! to many clients at once: those that were refused together would come back together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The longest wait that is told. OpenAI's clients take a longer one for no wait at all, and try again within seconds.
pub(crate) const TOLD_MAX: Duration = Duration::from_secs(60);

/// A guess is told with up to one part in this many more: a client that comes later than it might loses little, and many
/// that come at once lose all.
const GUESS_PART: u32 = 2;

/// The wait before a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A place is kept for the client until then, at a time that no other client is told.
    Kept(Duration),
    /// No place is kept; until then room may have come back.
    Guessed(Duration),
}

impl Wait {
    /// Returns the time that the `number`th refused client is told; at least a millisecond, at most [`TOLD_MAX`].
    #[must_use]
    pub(crate) fn told(self, number: u32) -> Duration {
        let told = match self {
            Self::Kept(wait) => wait,
            Self::Guessed(least) => least + spread(least / GUESS_PART, number),
        };
        told.clamp(Duration::from_millis(1), TOLD_MAX)
    }
}

/// Returns the number of the next refused client, over all errors and connections.
#[must_use]
pub(crate) fn next_number() -> u32 {
    static REFUSED: AtomicU32 = AtomicU32::new(0);
    REFUSED.fetch_add(1, Ordering::Relaxed)
}

/// Returns a part of `most` for the `number`th of many: the parts of any consecutive numbers are spread evenly, by the golden
/// ratio, where random ones would bunch.
#[must_use]
pub(crate) fn spread(most: Duration, number: u32) -> Duration {
    /// The golden ratio's fraction in 32 bits.
    const STEP: u32 = 2_654_435_769;
    most.mul_f64(f64::from(number.wrapping_mul(STEP)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn guesses_are_spread_evenly_and_kept_places_are_told_as_they_are() {
        assert_eq!(Wait::Kept(SECOND * 7).told(5), SECOND * 7);
        assert_eq!(Wait::Kept(Duration::ZERO).told(5), Duration::from_millis(1));
        assert_eq!(Wait::Kept(SECOND * 61).told(5), TOLD_MAX);
        for first in [0, 1_000, u32::MAX - 3] {
            let told = |number: u32| Wait::Guessed(SECOND).told(first.wrapping_add(number));
            let mut tenths: Vec<u128> =
                (0..10).map(|number| (told(number).as_millis() - 1_000) / 50).collect();
            tenths.sort_unstable();
            tenths.dedup();
            assert!(tenths.len() >= 8, "ten clients in these tenths of the half: {tenths:?}");
            assert!((0..100).all(|number| (SECOND..=SECOND * 3 / 2).contains(&told(number))));
        }
    }
}
