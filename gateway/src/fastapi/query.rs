//! Reads parameters of a query as FastAPI does: of several values the last counts, `+` is a blank, and values are texts
//! that pydantic converts.

use std::ops::RangeInclusive;

use super::form::{decoded_lossily, pairs};
use super::json::Json;
use super::mistakes::{Flaw, Mistakes, Step};
use super::number;

/// Returns the integer parameter `name` of a query.
///
/// # Errors
/// The one mistake: the parameter is missing, no integer, or out of `range`.
pub(crate) fn integer(
    query: Option<&str>,
    name: &'static str,
    range: RangeInclusive<i64>,
) -> Result<i64, Mistakes> {
    let mut mistakes = Mistakes::in_query();
    let Some(value) = value(query.unwrap_or_default(), name).map(Json::Text) else {
        mistakes.add(&[Step::name(name)], Flaw::missing(), &Json::Null);
        return mistakes.none_or(0);
    };
    let (least, most) = range.into_inner();
    let read = number::integer(&value).map(number::Integer::nearest).and_then(|integer| match integer {
        _ if integer < least => Err(Flaw::below(least)),
        _ if integer > most => Err(Flaw::above(most)),
        _ => Ok(integer),
    });
    match read {
        Ok(integer) => Ok(integer),
        Err(flaw) => {
            mistakes.add(&[Step::name(name)], flaw, &value);
            mistakes.none_or(0)
        }
    }
}

/// Returns the last value of a parameter.
fn value(query: &str, name: &str) -> Option<String> {
    pairs(query)
        .filter(|(key, _)| decoded_lossily(key) == name)
        .map(|(_, value)| decoded_lossily(value))
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_is_an_integer_within_its_range() {
        for (query, expected) in [
            ("time_frame=24", Some(24)),
            ("x=1&time_frame=2&time_frame=3", Some(3)),
            ("time%5Fframe=%207+", Some(7)),
            ("time_frame=5.0", Some(5)),
            ("", None),
            ("time_frame", None),
            ("time_frame=", None),
            ("time_frame=x", None),
            ("time_frame=0", None),
            ("time_frame=721", None),
            ("time_frame=99999999999999999999", None),
            ("timeframe=1", None),
        ] {
            assert_eq!(integer(Some(query), "time_frame", 1..=720).ok(), expected, "{query}");
        }
        assert!(integer(None, "time_frame", 1..=720).is_err());
    }
}
