//! Numbers out of measurements: medians, percentiles, and this process's own CPU time.

use std::fs;
use std::time::Duration;

/// The middle value; the mean of the two middle ones of an even number. 0 of none.
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

/// The value that `share` of the times lie at or below (nearest rank), in milliseconds. Sorts the times.
pub fn percentile_ms(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let rank = (share * as_f64(times.len())).ceil().max(1.0);
    // Between 1 and the number of times, both far below 2^52.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    let index = rank as usize - 1;
    times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
#[must_use]
pub const fn as_f64(count: usize) -> f64 {
    count as f64
}

/// CPU time that this process has used, all threads together; none where the kernel doesn't say. Steps of 10 ms.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    /// Linux shows clock ticks to programs at this rate whatever its own is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold spaces; behind it the third field is the state, the 14th and 15th the times.
    let fields = text.rsplit_once(')')?.1;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
}

/// CPU time since `before`, in microseconds for each of `count`.
#[must_use]
pub fn cpu_us_each(before: Option<Duration>, count: usize) -> Option<f64> {
    let used = cpu_time()?.checked_sub(before?)?;
    Some(used.as_secs_f64() * 1e6 / as_f64(count.max(1)))
}
