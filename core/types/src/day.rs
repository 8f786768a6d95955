//! Days of the calendar in UTC, for sums per day.

use std::fmt;

use crate::time::Timestamp;

/// The length of a day, in milliseconds. UTC in computers has no leap seconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// One day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// Makes the day with this number; 1970-01-01 is day 0.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the day that `time` falls on.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        Self(time.as_millis() / DAY_MS)
    }

    /// Returns the number of days since 1970-01-01.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns the day this many days before; no day is before 1970-01-01.
    #[must_use]
    pub const fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Returns year, month (from 1) and day of the month (from 1).
    #[must_use]
    pub const fn civil(self) -> (u64, u64, u64) {
        // The civil calendar repeats every 146,097 days; years are counted from March, so that the leap day comes
        // last.
        let shifted = self.0.saturating_add(719_468);
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let day = day_from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
        (year, month, day)
    }
}

impl fmt::Display for Day {
    /// Writes the day as ISO 8601 does: `2026-11-30`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_the_calendars() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (86_400, "1970-01-02"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (1_796_083_200, "2026-12-01"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::of(Timestamp::from_millis(seconds * 1000)).to_string(), expected);
        }
        assert_eq!(Day::new(40).before(30), Day::new(10));
        assert_eq!(Day::new(3).before(9), Day::new(0));
        assert!(!Day::new(u64::MAX).to_string().is_empty());
    }
}
