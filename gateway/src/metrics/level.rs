//! Levels as gauges take them.

/// Returns a count as a gauge's value; the largest that it takes for all beyond.
pub(super) fn level(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
