//! Arrivals at a fixed rate, each taken by the next free client: an open model. If no client is free, the arrival is
//! late, and its time counts from when it was due.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A fixed number of arrivals.
#[derive(Debug)]
pub struct Schedule {
    begin: Instant,
    gap: Duration,
    count: u32,
    taken: AtomicU32,
}

impl Schedule {
    /// Makes a schedule of `rate` arrivals per second for `span`, from now on.
    #[must_use]
    pub fn new(rate: f64, span: Duration) -> Self {
        let gap = Duration::from_secs_f64(1.0 / rate.max(1.0));
        let count = span.as_nanos() / gap.as_nanos().max(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self { begin: Instant::now(), gap, count, taken: AtomicU32::new(0) }
    }

    /// Waits for the next arrival, and returns the moment from which its time counts; none after the last one.
    pub async fn next(&self) -> Option<Instant> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.count {
            return None;
        }
        let due = self.begin + self.gap * number;
        if due <= Instant::now() {
            return Some(due);
        }
        tokio::time::sleep_until(due.into()).await;
        // The timer's own lateness (it counts milliseconds) is not counted as waiting.
        Some(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_arrival_that_found_nobody_free_counts_from_when_it_was_due() {
        let schedule = Schedule::new(100.0, Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(60));
        let mut begun = Vec::new();
        while let Some(moment) = schedule.next().await {
            begun.push(moment - schedule.begin);
        }
        let due: Vec<_> = (0..5).map(|number| Duration::from_millis(10) * number).collect();
        assert_eq!(begun, due);
    }

    #[tokio::test]
    async fn an_arrival_in_time_counts_from_when_it_was_taken_up() {
        let schedule = Schedule::new(20.0, Duration::from_millis(150));
        for _ in 0..3 {
            assert!(schedule.next().await.unwrap().elapsed() < Duration::from_millis(40));
        }
        assert_eq!(schedule.next().await, None);
    }
}
