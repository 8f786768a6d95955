//! `strftime` in UTC, for chat templates that print the date. It has only the directives that templates use, no
//! locale but C's, no time zone and no clock.

use infera_types::day::Day;
use infera_types::time::Timestamp;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// The days of a common year before each month.
const DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A point in time, split into its fields.
struct Fields {
    year: u64,
    month: u64,
    day: u64,
    /// Days since Monday.
    weekday: u64,
    /// The day of the year, counted from 1 on January 1st.
    day_of_year: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

impl Fields {
    fn of(now: Timestamp) -> Self {
        let seconds = now.as_secs();
        let (days, within) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = Day::of(now).civil();
        let leap_day = u64::from(month > 2 && is_leap(year));
        let day_of_year = DAYS_BEFORE[(month - 1) as usize] + leap_day + day;
        let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
        // 1970-01-01 was a Thursday.
        Self { year, month, day, weekday: (days + 3) % 7, day_of_year, hour, minute, second }
    }

    fn hour_of_twelve(&self) -> u64 {
        if self.hour.is_multiple_of(12) { 12 } else { self.hour % 12 }
    }

    /// Returns the number that a directive stands for, and the width to which it is padded with zeros; none if it is
    /// unknown.
    fn number(&self, directive: char) -> Option<(u64, usize)> {
        Some(match directive {
            'Y' => (self.year, 4),
            'y' => (self.year % 100, 2),
            'm' => (self.month, 2),
            'd' | 'e' => (self.day, 2),
            'H' => (self.hour, 2),
            'I' => (self.hour_of_twelve(), 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'j' => (self.day_of_year, 3),
            _ => return None,
        })
    }

    fn word(&self, directive: char) -> Option<String> {
        let month = MONTHS[(self.month - 1) as usize];
        let day = DAYS[self.weekday as usize];
        Some(match directive {
            'B' => month.to_owned(),
            'b' | 'h' => month[..3].to_owned(),
            'A' => day.to_owned(),
            'a' => day[..3].to_owned(),
            'p' => (if self.hour < 12 { "AM" } else { "PM" }).to_owned(),
            'F' => format!("{:04}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// Formats `now` in UTC as C's `strftime` does, with `-` for "no leading zeros".
///
/// # Errors
/// The unknown directive, in a sentence.
pub(super) fn strftime(now: Timestamp, format: &str) -> Result<String, String> {
    let fields = Fields::of(now);
    let (mut text, mut rest) = (String::new(), format.chars());
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let first = rest.next();
        let (plain, directive) = if first == Some('-') { (true, rest.next()) } else { (false, first) };
        let directive = directive.ok_or("a format ends in the middle of a directive")?;
        match (fields.number(directive), fields.word(directive)) {
            (Some((number, _)), _) if plain => text += &number.to_string(),
            (Some((number, width)), _) if directive == 'e' => text += &format!("{number:>width$}"),
            (Some((number, width)), _) => text += &format!("{number:0width$}"),
            (None, Some(word)) if !plain => text += &word,
            _ => {
                return Err(format!(
                    "strftime_now knows no directive %{}{directive}",
                    if plain { "-" } else { "" }
                ));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Seconds from `date -u -d ... +%s`.
        let table = [
            (0, "1970-01-01 Thursday 001 00:00:00 AM 12"),
            (951_782_399, "2000-02-28 Monday 059 23:59:59 PM 11"),
            (951_782_400, "2000-02-29 Tuesday 060 00:00:00 AM 12"),
            (951_868_800, "2000-03-01 Wednesday 061 00:00:00 AM 12"),
            (1_735_646_400, "2024-12-31 Tuesday 366 12:00:00 PM 12"),
            (1_763_812_800, "2025-11-22 Saturday 326 12:00:00 PM 12"),
            (4_107_542_400, "2100-03-01 Monday 060 00:00:00 AM 12"),
        ];
        for (seconds, expected) in table {
            let now = Timestamp::from_millis(seconds * 1000 + 999);
            assert_eq!(strftime(now, "%Y-%m-%d %A %j %H:%M:%S %p %I").as_deref(), Ok(expected));
        }
    }

    #[test]
    fn forms_are_those_of_strftime() {
        let now = Timestamp::from_millis(1_709_283_845_000);
        let table = [
            ("%d %b %Y", "01 Mar 2024"),
            ("%-d %B %y, %a", "1 March 24, Fri"),
            ("%e|%-m|%F|%T|%Z%z|100%%", " 1|3|2024-03-01|09:04:05|UTC+0000|100%"),
        ];
        for (format, expected) in table {
            assert_eq!(strftime(now, format).as_deref(), Ok(expected));
        }
        for wrong in ["%", "%-", "%Q", "%-B"] {
            assert!(strftime(now, wrong).is_err(), "{wrong}");
        }
    }
}
