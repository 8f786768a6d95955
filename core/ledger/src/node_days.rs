//! Adds up a node's verdicts per day, and says what uptime is worth. It is pure, and reads no clock and no table.
//!
//! A node earns uptime for each interval of ten minutes (AI Horde's unit) in which it got at least one VALID verdict on a job
//! that was not for chosen nodes. Heartbeats alone earn nothing, because a node could send them without a model. An interval is worth a hundredth of
//! what the reference machine would earn if it worked all through it. Uptime is at most 15 % of what a node earns on a
//! day, so that work is what pays.

use std::time::Duration;

use super::rows::{NodeDay, Posting, PostingEntry, Verdict, VerdictCounts};
use infera_types::day::{DAY_MS, Day};
use infera_types::ids::NodeId;

/// The length of an interval of uptime.
pub const INTERVAL: Duration = Duration::from_secs(600);

/// The intervals whose bits one number holds: eight hours.
const INTERVALS_PER_NUMBER: u64 = 48;

/// What one interval is worth, in thousandths of a point. A point is about a millisecond of the reference machine.
const INTERVAL_MILLIPOINTS: u64 = 600_000 * 1000 / 100;

/// The largest share of a day's points that uptime may be, in percent.
const UPTIME_PERCENT_MAX: u64 = 15;

impl NodeDay {
    /// Makes a day without any verdict.
    #[must_use]
    pub fn empty(day: Day) -> Self {
        Self { day, millipoints: 0, tokens: 0, verdicts: VerdictCounts::default(), valid_intervals: [0; 3] }
    }

    /// Adds the sums of another part of the same day.
    pub fn add(&mut self, other: &Self) {
        self.millipoints = self.millipoints.saturating_add(other.millipoints);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.verdicts.add(&other.verdicts);
        for (mine, theirs) in self.valid_intervals.iter_mut().zip(other.valid_intervals) {
            *mine |= theirs;
        }
    }

    /// Returns what uptime is worth on this day, in thousandths of a point.
    #[must_use]
    pub fn uptime_millipoints(&self) -> i64 {
        let intervals: u32 = self.valid_intervals.iter().map(|bits| bits.count_ones()).sum();
        let full = u64::from(intervals) * INTERVAL_MILLIPOINTS;
        let earned = u128::try_from(self.millipoints).unwrap_or(0);
        let most = earned * u128::from(UPTIME_PERCENT_MAX) / u128::from(100 - UPTIME_PERCENT_MAX);
        i64::try_from(u128::from(full).min(most)).unwrap_or(i64::MAX)
    }
}

impl VerdictCounts {
    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.valid, other.valid),
            (&mut self.invalid, other.invalid),
            (&mut self.inconclusive, other.inconclusive),
            (&mut self.missed, other.missed),
            (&mut self.neutral, other.neutral),
        ] {
            *mine = mine.saturating_add(theirs);
        }
    }
}

/// Returns the node that a posting is about and what the posting adds to the node's day; none for usage.
#[must_use]
pub fn of_posting(posting: &Posting) -> Option<(&NodeId, NodeDay)> {
    let PostingEntry::Verdict { node, verdict, millipoints, tokens, is_for_chosen_nodes, .. } =
        &posting.entry
    else {
        return None;
    };
    let mut sums = NodeDay { millipoints: *millipoints, ..NodeDay::empty(Day::of(posting.posted_ms)) };
    let count = match verdict {
        Verdict::Valid => &mut sums.verdicts.valid,
        Verdict::Invalid => &mut sums.verdicts.invalid,
        Verdict::Inconclusive => &mut sums.verdicts.inconclusive,
        Verdict::Missed => &mut sums.verdicts.missed,
        Verdict::Neutral => &mut sums.verdicts.neutral,
    };
    *count = 1;
    if *verdict == Verdict::Valid {
        sums.tokens = *tokens;
    }
    if *verdict == Verdict::Valid && !is_for_chosen_nodes {
        let interval = posting.posted_ms.as_millis() % DAY_MS / 1000 / INTERVAL.as_secs();
        let number = usize::try_from(interval / INTERVALS_PER_NUMBER).unwrap_or_default();
        if let Some(bits) = sums.valid_intervals.get_mut(number) {
            *bits = 1 << (interval % INTERVALS_PER_NUMBER);
        }
    }
    Some((node, sums))
}
