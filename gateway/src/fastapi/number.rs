//! Converts JSON values to integers and numbers as pydantic's lax mode does: `"5"`, `5.0` and `true` are integers,
//! `"5.5"` isn't. The rules were found by trying pydantic 2.14, and `tests/fastapi.rs` compares the results. The only
//! range that is checked here is that of 64 bits; our own limits are checked elsewhere.

use super::json::Json;
use super::mistakes::Flaw;

/// The largest number of digits. Texts with more are refused unread.
const DIGITS_MAX: usize = 4300;

/// A flaw that needs no context: pydantic's word and its message.
struct NotANumber {
    kind: &'static str,
    message: &'static str,
}

impl From<NotANumber> for Flaw {
    fn from(NotANumber { kind, message }: NotANumber) -> Self {
        Self::new(kind, message)
    }
}

const INT_TYPE: NotANumber = NotANumber { kind: "int_type", message: "Input should be a valid integer" };
const INT_PARSING: NotANumber = NotANumber {
    kind: "int_parsing",
    message: "Input should be a valid integer, unable to parse string as an integer",
};
const INT_FROM_FLOAT: NotANumber = NotANumber {
    kind: "int_from_float",
    message: "Input should be a valid integer, got a number with a fractional part",
};
const INT_SIZE: NotANumber = NotANumber {
    kind: "int_parsing_size",
    message: "Unable to parse input string as an integer, exceeded maximum size",
};
const FINITE: NotANumber = NotANumber { kind: "finite_number", message: "Input should be a finite number" };
const FLOAT_TYPE: NotANumber = NotANumber { kind: "float_type", message: "Input should be a valid number" };
const FLOAT_PARSING: NotANumber = NotANumber {
    kind: "float_parsing",
    message: "Input should be a valid number, unable to parse string as a number",
};

/// How an integer of a body compares with the range of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integer {
    /// It fits.
    Within(i64),
    /// It fits without a sign only.
    Large(u64),
    /// It is less than the least.
    Below,
    /// It is more than the largest.
    Above,
}

impl Integer {
    /// Returns the nearest integer that 64 bits can hold.
    #[must_use]
    pub(crate) const fn nearest(self) -> i64 {
        match self {
            Self::Within(value) => value,
            Self::Below => i64::MIN,
            Self::Large(_) | Self::Above => i64::MAX,
        }
    }

    /// Reads digits, with a sign if negative. A number that doesn't fit is `Below` or `Above`.
    fn of_digits(digits: &str) -> Self {
        if let Ok(value) = digits.parse() {
            return Self::Within(value);
        }
        let beyond = if digits.starts_with('-') { Self::Below } else { Self::Above };
        digits.parse().map_or(beyond, Self::Large)
    }
}

/// Returns the integer that `value` stands for.
///
/// # Errors
/// A flaw in pydantic's words.
pub(crate) fn integer(value: &Json) -> Result<Integer, Flaw> {
    match value {
        Json::Int(value) => Ok(Integer::Within(*value)),
        Json::BigInt(digits) => Ok(Integer::of_digits(digits)),
        Json::Bool(value) => Ok(Integer::Within(i64::from(*value))),
        Json::Float(value) => Ok(Integer::Within(integer_of_float(*value)?)),
        Json::Text(text) => Ok(integer_of_text(text)?),
        Json::BrokenText(_) => Err(INT_PARSING.into()),
        Json::Null | Json::List(_) | Json::Object(_) => Err(INT_TYPE.into()),
    }
}

/// Returns the integer that `value` stands for, where two integers must never be mistaken for one: it is within 64 bits, with
/// or without a sign. Any other is refused, and so is a number with a fraction or an exponent that is so large that its
/// neighbours read as the same.
///
/// # Errors
/// A flaw in pydantic's words, which names the range.
pub(crate) fn exact_integer(value: &Json) -> Result<Integer, Flaw> {
    /// 2^53: from here on, a float stands for several integers.
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
    let (is_ambiguous, is_negative) = match value {
        Json::Float(value) => {
            (value.abs() >= EXACT_BELOW && (-BOUND..2.0 * BOUND).contains(value), *value < 0.0)
        }
        Json::Text(text) => (false, text.trim_start().starts_with('-')),
        _ => (false, false),
    };
    match integer(value) {
        _ if is_ambiguous => {
            let message = "Input should be an integer written with digits alone: with a fraction or an exponent it is exact \
                           up to 9007199254740991 only";
            Err(Flaw::new(INT_FROM_FLOAT.kind, message))
        }
        Ok(Integer::Below) => Err(Flaw::below(i64::MIN)),
        Ok(Integer::Above) => Err(Flaw::above(u64::MAX)),
        Ok(fits) => Ok(fits),
        // Pydantic names no range in this case.
        Err(flaw) if flaw.kind == INT_SIZE.kind && is_negative => Err(Flaw::below(i64::MIN)),
        Err(flaw) if flaw.kind == INT_SIZE.kind => Err(Flaw::above(u64::MAX)),
        Err(flaw) => Err(flaw),
    }
}

/// 2^63: the smallest absolute value of a float that pydantic finds too large, on either side.
const BOUND: f64 = 9_223_372_036_854_775_808.0;

fn integer_of_float(value: f64) -> Result<i64, NotANumber> {
    if !value.is_finite() {
        Err(FINITE)
    } else if value.fract() != 0.0 {
        Err(INT_FROM_FLOAT)
    } else if value.abs() >= BOUND {
        Err(INT_SIZE)
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 64 bits, as tested above")]
        Ok(value as i64)
    }
}

/// Reads a sign, digits with single underscores between them, and optionally a point and zeros.
fn integer_of_text(text: &str) -> Result<Integer, NotANumber> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    // Pydantic strips leading zeros, and underscores among them, before it looks at the rest.
    let rest = if whole.starts_with('0') { whole.trim_start_matches(['0', '_']) } else { whole };
    let is_digits = |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
    let only_leading = rest.is_empty() && !whole.is_empty() && !whole.ends_with('_');
    let groups_are_digits = only_leading || rest.split('_').all(is_digits);
    let only_zeros = |zeros: &str| !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0');
    if !groups_are_digits || !fraction.is_none_or(only_zeros) {
        return Err(INT_PARSING);
    }
    let digits: String = rest.chars().filter(|digit| *digit != '_').collect();
    if digits.len() > DIGITS_MAX {
        return Err(INT_SIZE);
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    Ok(if digits.is_empty() { Integer::Within(0) } else { Integer::of_digits(&format!("{sign}{digits}")) })
}

/// Returns the number that `value` stands for. Unlike in pydantic by default, it must be finite: FastAPI itself fails
/// with 500 when it has to print another one.
///
/// # Errors
/// A flaw in pydantic's words.
pub(crate) fn number(value: &Json) -> Result<f64, Flaw> {
    let value = match value {
        #[expect(clippy::cast_precision_loss, reason = "what Python's float() does, too")]
        Json::Int(value) => *value as f64,
        // Rust reads any run of digits. Pydantic takes no number beyond the largest float.
        Json::BigInt(digits) => {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(FLOAT_TYPE)?
        }
        Json::Bool(value) => f64::from(u8::from(*value)),
        Json::Float(value) => *value,
        Json::Text(text) => number_of_text(text.trim()).ok_or(FLOAT_PARSING)?,
        Json::BrokenText(_) => return Err(FLOAT_PARSING.into()),
        Json::Null | Json::List(_) | Json::Object(_) => return Err(FLOAT_TYPE.into()),
    };
    if value.is_finite() { Ok(value) } else { Err(FINITE.into()) }
}

/// Returns the float that Rust reads in the text, without single underscores between its digits.
fn number_of_text(text: &str) -> Option<f64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    if misplaced || !text.contains('_') {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastapi::json::read;

    fn exact(text: &str) -> Result<Integer, Flaw> {
        exact_integer(&read(text.as_bytes()).unwrap())
    }

    #[test]
    fn an_exact_integer_is_kept_or_refused_in_whichever_spelling() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("1.0", 1),
            ("1e3", 1_000),
            ("true", 1),
            ("\"7\"", 7),
            ("9007199254740991.0", 9_007_199_254_740_991),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9223372036854775807", i64::MAX),
            ("\"9223372036854775807\"", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(exact(text), Ok(Integer::Within(value)), "{text}");
        }
        for (text, value) in [
            ("9223372036854775808", i64::MAX.cast_unsigned() + 1),
            ("18446744073709551615", u64::MAX),
            ("\"9223372036854775808\"", i64::MAX.cast_unsigned() + 1),
        ] {
            assert_eq!(exact(text), Ok(Integer::Large(value)), "{text}");
        }
        let ten_to_forty = format!("1{}", "0".repeat(40));
        let long = format!("\"{}\"", "1".repeat(5_000));
        for text in ["18446744073709551616", "\"18446744073709551616\"", "1e20", &ten_to_forty, &long] {
            assert_eq!(exact(text), Err(Flaw::above(u64::MAX)), "{text}");
        }
        for text in ["-9223372036854775809", "\"-9223372036854775809\"", "-1e19", "-1e300"] {
            assert_eq!(exact(text), Err(Flaw::below(i64::MIN)), "{text}");
        }
        // Each of these stands for several integers.
        for text in [
            "9007199254740992.0",
            "9007199254740993.0",
            "9223372036854774784.0",
            "-9.223372036854775808e18",
            "1e18",
            "1e19",
        ] {
            assert_eq!(exact(text).map_err(|flaw| flaw.kind), Err("int_from_float"), "{text}");
        }
    }

    #[test]
    fn a_range_names_its_bound_as_pydantic_prints_it() {
        let flaw = Flaw::above(2.0);
        assert_eq!(flaw.message, "Input should be less than or equal to 2");
        assert_eq!(flaw.context.unwrap().to_string(), "{\"le\":2.0}");
        assert_eq!(Flaw::below(1_u32).context.unwrap().to_string(), "{\"ge\":1}");
    }
}
