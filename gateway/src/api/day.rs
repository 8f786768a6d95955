//! Days of the calendar (UTC), counted since 1970.

/// The last day that can be written with four digits: 9999-12-31.
pub(crate) const LAST: u64 = 2_932_896;

/// The days of 400 years, after which the calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// The days from 0000-03-01 to 1970-01-01. Years are counted from March, so that a leap day is the last of its year.
const BEFORE_1970: u64 = 719_468;

/// Returns a day as `2026-11-30`.
#[must_use]
pub(crate) fn write(day: u64) -> String {
    let days = day.min(LAST) + BEFORE_1970;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

/// Reads a day such as `2026-11-30`; none if there is no such day since 1970.
#[must_use]
pub(crate) fn read(text: &str) -> Option<u64> {
    let is_form = |(index, byte): (usize, u8)| {
        if index == 4 || index == 7 { byte == b'-' } else { byte.is_ascii_digit() }
    };
    if text.len() != 10 || !text.bytes().enumerate().all(is_form) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let year_from_march = if month <= 2 { year.checked_sub(1)? } else { year };
    let month_from_march = (month + 9) % 12;
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let found = (era * ERA_DAYS + of_era).checked_sub(BEFORE_1970)?;
    // The 31st of a short month would be a day of the next one.
    (write(found) == text).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_787, "2026-11-30"),
            (LAST, "9999-12-31"),
        ] {
            assert_eq!((write(day).as_str(), read(text)), (text, Some(day)));
        }
        for day in (0..LAST).step_by(97) {
            assert_eq!(read(&write(day)), Some(day));
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
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
