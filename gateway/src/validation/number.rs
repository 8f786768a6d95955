//! How pydantic (lax mode) makes integers and numbers out of what JSON holds: `"5"`, `5.0` and `true` are integers,
//! `"5.5"` isn't. Found out by trying pydantic 2.14; `tests/fastapi.rs` compares. No ranges: those are ours.

use super::json::Json;

/// Longer texts are refused unread.
const DIGITS_MAX: usize = 4300;

/// Why something is no number: pydantic's word and its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANumber {
    /// The error's `type`.
    pub kind: &'static str,
    /// The error's `msg`.
    pub message: &'static str,
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

/// The integer that `value` stands for; one beyond 64 bits is the nearest that fits (no field takes either).
///
/// # Errors
/// [`NotANumber`], in pydantic's words.
pub fn integer(value: &Json) -> Result<i64, NotANumber> {
    match value {
        Json::Int(value) => Ok(*value),
        Json::BigInt(digits) => Ok(saturated(digits)),
        Json::Bool(value) => Ok(i64::from(*value)),
        Json::Float(value) => integer_of_float(*value),
        Json::Text(text) => integer_of_text(text),
        Json::BrokenText(_) => Err(INT_PARSING),
        Json::Null | Json::List(_) | Json::Object(_) => Err(INT_TYPE),
    }
}

fn integer_of_float(value: f64) -> Result<i64, NotANumber> {
    /// 2^63: the first number on either side that pydantic finds too large, the lower bound included.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
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

/// A sign, digits with single underscores between them, and perhaps a point and zeros.
fn integer_of_text(text: &str) -> Result<i64, NotANumber> {
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
    Ok(if digits.is_empty() { 0 } else { saturated(&format!("{sign}{digits}")) })
}

fn saturated(digits: &str) -> i64 {
    digits.parse().unwrap_or(if digits.starts_with('-') { i64::MIN } else { i64::MAX })
}

/// The number that `value` stands for. Unlike pydantic's default it must be finite: FastAPI itself fails with 500
/// when it has to print one that isn't.
///
/// # Errors
/// [`NotANumber`], in pydantic's words.
pub fn number(value: &Json) -> Result<f64, NotANumber> {
    let value = match value {
        #[expect(clippy::cast_precision_loss, reason = "what Python's float() does, too")]
        Json::Int(value) => *value as f64,
        // Rust reads any run of digits; one beyond the largest float is no number to pydantic.
        Json::BigInt(digits) => {
            digits.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(FLOAT_TYPE)?
        }
        Json::Bool(value) => f64::from(u8::from(*value)),
        Json::Float(value) => *value,
        Json::Text(text) => number_of_text(text.trim()).ok_or(FLOAT_PARSING)?,
        Json::BrokenText(_) => return Err(FLOAT_PARSING),
        Json::Null | Json::List(_) | Json::Object(_) => return Err(FLOAT_TYPE),
    };
    if value.is_finite() { Ok(value) } else { Err(FINITE) }
}

/// What Rust reads as a float, or would without single underscores inside.
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
