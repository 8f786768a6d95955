//! The stored form of how long a job's text is kept, the same for every implementation with tables.

use std::time::Duration;

use infera_types::time::Timestamp;

use super::columns::millis;
use crate::{Keeping, Kept, erasure_reason};

/// Returns the milliseconds of this many days.
#[must_use]
pub const fn days_ms(days: i64) -> i64 {
    days.saturating_mul(24 * 60 * 60 * 1_000)
}

/// Converts a retention for a column, in which 0 stands for none.
#[must_use]
pub fn retention(days: Option<u32>) -> i64 {
    days.map_or(0, i64::from)
}

/// Reads a retention from a column.
#[must_use]
pub fn retention_of(days: i64) -> Option<u32> {
    u32::try_from(days).ok().filter(|days| *days > 0)
}

/// Returns what is kept of a job's text, from the columns for the time after its end and for its erasure.
#[must_use]
pub fn kept(erase_after_ms: Option<i64>, erased_ms: Option<i64>) -> Kept {
    let erased_ms = erased_ms.map(|millis| Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)));
    Kept { is_stored: erase_after_ms.is_none(), erased_ms }
}

/// Returns how long a job's text is kept, from its columns.
#[must_use]
pub fn keeping(erase_after_ms: Option<i64>, retention_days: i64) -> Keeping {
    let erase_after = erase_after_ms.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
    Keeping { erase_after, retention_days: retention_of(retention_days) }
}

/// When the text of a job that ends is due to go, and the number of the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The time, as in its column.
    pub due_ms: i64,
    /// The reason; see [`crate::erasure_reason!`].
    pub reason: i16,
}

/// Returns when the text of a job is due to go that ended at `settled`, from the job's columns; none if no time is set.
#[must_use]
pub fn due(settled: Timestamp, erase_after_ms: Option<i64>, retention_days: i64) -> Option<Due> {
    let (after_ms, reason) = match erase_after_ms {
        Some(after_ms) => (after_ms, erasure_reason!(unstored)),
        None if retention_days > 0 => (days_ms(retention_days), erasure_reason!(retention)),
        None => return None,
    };
    Some(Due { due_ms: millis(settled).saturating_add(after_ms), reason })
}

/// Converts the time after a job's end for its column.
#[must_use]
pub fn erase_after(keeping: &Keeping) -> Option<i64> {
    keeping.erase_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_not_stored_goes_before_its_keys_retention_is_over() {
        let at = Timestamp::from_millis(1_000);
        for (erase_after_ms, retention_days, expected) in [
            (None, 0, None),
            (
                None,
                2,
                Some(Due { due_ms: 1_000 + 2 * 24 * 60 * 60 * 1_000, reason: erasure_reason!(retention) }),
            ),
            (Some(5), 2, Some(Due { due_ms: 1_005, reason: erasure_reason!(unstored) })),
            (Some(i64::MAX), 0, Some(Due { due_ms: i64::MAX, reason: erasure_reason!(unstored) })),
        ] {
            assert_eq!(
                due(at, erase_after_ms, retention_days),
                expected,
                "{erase_after_ms:?} {retention_days}"
            );
        }
    }
}
