//! Numbers in the form of a column.

use infera_types::time::Timestamp;

/// Converts a time for a column.
#[must_use]
pub fn millis(time: Timestamp) -> i64 {
    whole(time.as_millis())
}

/// Converts a count for a column; none of ours comes near the limit at which it is cut.
#[must_use]
pub fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
