//! Converts counts to the values of gauges.

/// Returns a count as a gauge's value, at most the largest that a gauge takes.
pub(super) fn level(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
