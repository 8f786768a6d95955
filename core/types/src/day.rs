//! Days of the calendar in UTC, for sums per day.

use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;

/// The length of a day, in milliseconds. UTC in computers has no leap seconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// One day in UTC, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(u64);

impl Day {
    /// The last day that is written with four digits of a year: 9999-12-31.
    pub const LAST: Self = Self(2_932_896);

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

/// A text that is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no day from 1970-01-01 to 9999-12-31, written as 2026-11-30")]
pub struct NoDay;

impl FromStr for Day {
    type Err = NoDay;

    /// Reads a day such as `2026-11-30`.
    fn from_str(text: &str) -> Result<Self, NoDay> {
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let read = || {
            let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
            // Years are counted from March, as in `civil`.
            let year = if month <= 2 { year.checked_sub(1)? } else { year };
            let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
            let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
            (year / 400 * 146_097 + of_era).checked_sub(719_468).map(Self)
        };
        // Other spellings, and the 31st of a short month, would be written otherwise.
        read().filter(|day| *day <= Self::LAST && day.to_string() == text).ok_or(NoDay)
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

    #[test]
    fn days_are_read_as_they_are_written() {
        for (number, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_787, "2026-11-30"),
            (Day::LAST.number(), "9999-12-31"),
        ] {
            assert_eq!((Day::new(number).to_string().as_str(), text.parse()), (text, Ok(Day::new(number))));
        }
        for number in (0..Day::LAST.number()).step_by(97) {
            assert_eq!(Day::new(number).to_string().parse(), Ok(Day::new(number)));
        }
        for wrong in [
            "",
            "1969-12-31",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2026-1-01",
            "20261-1-1",
            "0000-01-01",
        ] {
            assert_eq!(wrong.parse::<Day>(), Err(NoDay), "{wrong}");
        }
    }
}
