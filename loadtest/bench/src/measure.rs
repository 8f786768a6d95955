//! Derives figures from measurements: medians, percentiles, and this process's own CPU time.

use std::fs;
use std::time::Duration;

/// Returns the median: the mean of the two middle values if their number is even, and 0 if there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len().checked_sub(middle + 1).and_then(|other| sorted.get(other)), sorted.get(middle)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => 0.0,
    }
}

/// Returns the time that a `share` of the times does not exceed (nearest rank), in milliseconds. It sorts the times.
pub fn percentile_ms(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let rank = (share * as_f64(times.len())).ceil().max(1.0);
    // It lies between 1 and the number of times, both far below 2^52.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    let index = rank as usize - 1;
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Returns a count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
#[must_use]
pub const fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Returns the CPU time that this process has used, all threads together, in steps of 10 ms; none if the kernel does
/// not report it.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    /// The rate at which Linux shows clock ticks to programs, whatever its own rate is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may contain spaces; after it the third field is the state, the 14th and 15th are the
    // times.
    let fields = text.rsplit_once(')')?.1;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
}

/// Returns the CPU time since `before`, in microseconds per item of `count`.
#[must_use]
pub fn cpu_us_each(before: Option<Duration>, count: usize) -> Option<f64> {
    let used = cpu_time()?.checked_sub(before?)?;
    Some(used.as_secs_f64() * 1e6 / as_f64(count.max(1)))
}
