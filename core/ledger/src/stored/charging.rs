//! Decides whether a job may be paid for, and what its end costs. Pure functions of what tables hold.

use infera_types::day::Day;
use infera_types::ids::JobId;
use infera_types::money::Price;
use infera_types::time::Timestamp;

use super::Usage;
use crate::rows::{OverLimit, Payer};

/// What a key or an account may spend in a month, and what of it is spent or reserved, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// The limit; none: no limit.
    pub limit: Option<u64>,
    /// What is spent and reserved.
    pub used: u64,
}

impl Purse {
    fn refusal(self, payer: Payer, needed: u64) -> Option<OverLimit> {
        let limit = self.limit?;
        let is_over = self.used.saturating_add(needed) > limit;
        is_over.then_some(OverLimit { payer, limit, used: self.used, needed })
    }
}

/// Returns the refusal of a job that reserves `needed`, if that is more than is left of the limit of its key or, after that, of
/// its account. A job that costs nothing is never refused.
#[must_use]
pub fn over_limit(needed: u64, key: Option<Purse>, account: Purse) -> Option<OverLimit> {
    if needed == 0 {
        return None;
    }
    let of_key = key.and_then(|key| key.refusal(Payer::Key, needed));
    of_key.or_else(|| account.refusal(Payer::Account, needed))
}

/// Returns the number of the calendar month (UTC) that a time falls into, counted from the year 0.
#[must_use]
pub const fn month(time: Timestamp) -> u64 {
    let (year, month, _) = Day::of(time).civil();
    year * 12 + month - 1
}

/// A job's charge as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCharge {
    /// The job.
    pub job: JobId,
    /// The month in which it was accepted.
    pub month: u64,
    /// The price at which it was accepted.
    pub price: Price,
    /// What is reserved for it, in billionths.
    pub reserved: u64,
    /// The purse of the key under which it was asked for, if there was one.
    pub purse: Option<String>,
}

impl StoredCharge {
    /// Returns what the job costs with this end, by what its account owes.
    #[must_use]
    pub fn cost(&self, usage: Option<&Usage>) -> u64 {
        usage.map_or(0, |usage| self.price.cost(usage.prompt_tokens, usage.completion_tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_refused_by_the_first_limit_that_it_would_exceed() {
        let purse = |limit, used| Purse { limit, used };
        let refused = |payer, limit, used, needed| Some(OverLimit { payer, limit, used, needed });
        for (needed, key, account, expected) in [
            (5, None, purse(None, u64::MAX), None),
            (5, None, purse(Some(10), 5), None),
            (6, None, purse(Some(10), 5), refused(Payer::Account, 10, 5, 6)),
            (5, Some(purse(Some(4), 0)), purse(Some(4), 0), refused(Payer::Key, 4, 0, 5)),
            (5, Some(purse(Some(5), 0)), purse(Some(4), 0), refused(Payer::Account, 4, 0, 5)),
            (5, Some(purse(None, 9)), purse(None, 9), None),
            (1, Some(purse(Some(0), 0)), purse(None, 0), refused(Payer::Key, 0, 0, 1)),
            // What costs nothing is accepted also beyond a limit that was lowered.
            (0, Some(purse(Some(0), 9)), purse(Some(0), 9), None),
            (
                u64::MAX,
                None,
                purse(Some(u64::MAX - 1), 1),
                refused(Payer::Account, u64::MAX - 1, 1, u64::MAX),
            ),
        ] {
            assert_eq!(over_limit(needed, key, account), expected, "{needed} {key:?} {account:?}");
        }
    }

    #[test]
    fn months_change_at_midnight() {
        let first: Day = "2026-12-01".parse().unwrap();
        let begins = first.number() * infera_types::day::DAY_MS;
        let of = |millis| month(Timestamp::from_millis(millis));
        assert_eq!((of(begins - 1), of(begins)), (2026 * 12 + 10, 2026 * 12 + 11));
        assert_eq!(of(begins + 31 * infera_types::day::DAY_MS), 2027 * 12);
    }
}
