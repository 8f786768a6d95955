//! The stored form of how long a job's text is kept, the same for every implementation with tables.

use std::time::Duration;

use infera_types::time::Timestamp;

use crate::{Keeping, Kept};

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

/// Converts the time after a job's end for its column.
#[must_use]
pub fn erase_after(keeping: &Keeping) -> Option<i64> {
    keeping.erase_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}
