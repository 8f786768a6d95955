//! Echoes JSON to the client that sent it, whole if it is short and cut if it is long. Where something is cut, the
//! echo says how much is missing. The result is valid JSON, and always the same for the same value.

use super::json::Json;

/// The deepest nesting of an echo. Common JSON readers stop at 128 levels, and a reply adds a few of its own.
const DEPTH_MAX: usize = 100;

/// Returns a value as JSON of about `max_bytes` at most. A cut text ends with the number of missing bytes, and a list
/// or object that is cut or nested too deep with the number of missing items or members. The closing brackets of cut
/// lists and objects may exceed the limit by one byte for each level.
#[must_use]
pub(crate) fn echo(value: &Json, max_bytes: usize) -> String {
    let mut out = String::new();
    write(value, &mut out, max_bytes, DEPTH_MAX);
    out
}

/// Writes a text as a JSON string.
pub(crate) fn write_text(text: &str, out: &mut String) {
    // Serialising a string can't fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Returns the beginning of a text, at most `max_bytes` long, and a note on how much was cut, if anything. It is
/// meant for clients' texts in replies and logs.
#[must_use]
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    with_rest(text, text.floor_char_boundary(max_bytes))
}

/// Writes a value. `out` should not grow longer than `end`, and at most `levels` more lists and objects may open.
fn write(value: &Json, out: &mut String, end: usize, levels: usize) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Int(value) => out.push_str(&value.to_string()),
        Json::BigInt(digits) if is_finite(digits) && out.len() + digits.len() <= end => out.push_str(digits),
        // Most readers of JSON refuse a whole reply for one number that is beyond theirs.
        Json::BigInt(digits) => write_cut(digits, out, end),
        Json::Float(value) if value.is_finite() => out.push_str(&serde_json::json!(value).to_string()),
        // JSON can't express `NaN` and the infinities.
        Json::Float(_) => out.push_str("null"),
        Json::Text(text) | Json::BrokenText(text) => write_cut(text, out, end),
        Json::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                if out.len() >= end || levels == 0 {
                    write_text(&format!("… {} more items", items.len() - index), out);
                    break;
                }
                write(item, out, end, levels - 1);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                if out.len() >= end || levels == 0 {
                    out.push_str(&format!("\"…\":\"{} more members\"", members.len() - index));
                    break;
                }
                write_cut(key, out, end);
                out.push(':');
                write(member, out, end, levels - 1);
            }
            out.push('}');
        }
    }
}

/// Returns whether a number of 64 bits comes near to an integer.
fn is_finite(digits: &str) -> bool {
    digits.parse().is_ok_and(f64::is_finite)
}

/// Writes a text as a JSON string, and cuts it where `out` would grow longer than `end`.
fn write_cut(text: &str, out: &mut String, end: usize) {
    let room = end.saturating_sub(out.len());
    // The quotes take two bytes, and escaping never makes a text shorter.
    if text.len() + 2 > room {
        return write_text(&with_rest(text, fitting(text, room)), out);
    }
    let before = out.len();
    write_text(text, out);
    if out.len() > end {
        out.truncate(before);
        write_text(&with_rest(text, fitting(text, room)), out);
    }
}

/// Returns how many bytes of the text, once escaped, fit into `room`.
fn fitting(text: &str, room: usize) -> usize {
    let mut left = room;
    for (at, character) in text.char_indices() {
        let cost = match character {
            '"' | '\\' | '\u{8}' | '\u{9}' | '\u{a}' | '\u{c}' | '\u{d}' => 2,
            '\0'..='\u{1f}' => 6,
            character => character.len_utf8(),
        };
        let Some(rest) = left.checked_sub(cost) else { return at };
        left = rest;
    }
    text.len()
}

/// Returns the text up to the byte `kept`, and a note on how many bytes follow, if any.
fn with_rest(text: &str, kept: usize) -> String {
    if kept == text.len() {
        return text.to_owned();
    }
    format!("{}… ({} more bytes)", &text[..kept], text.len() - kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fastapi::json::read;

    fn parsed(text: &str) -> Json {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_short_is_echoed_whole() {
        for text in ["null", "[1,2.5,true]", r#"{"a":[{"b":"é\n"}]}"#, "12345678901234567890123", "[]", "{}"]
        {
            assert_eq!(echo(&parsed(text), 100), text);
        }
    }

    /// The largest number of 64 bits has 309 digits and begins with 17.
    #[test]
    fn an_integer_that_no_common_reader_takes_is_echoed_as_a_text() {
        for (digits, is_number) in
            [("1".repeat(309), true), ("2".repeat(309), false), ("9".repeat(4_000), false)]
        {
            for (text, number) in [(digits.clone(), digits.as_str()), (format!("[-{digits}]"), &digits)] {
                let echo = echo(&parsed(&text), 8 * 1024);
                assert_eq!(echo.contains('"'), !is_number, "{echo}");
                assert!(echo.contains(number));
                assert!(serde_json::from_str::<serde_json::Value>(&echo).is_ok(), "{echo}");
            }
        }
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        for (text, max_bytes, expected) in [
            (r#""aaaaaaaaaa""#, 4, r#""aaaa… (6 more bytes)""#),
            (r#""a\n\n\n\n\n""#, 4, r#""a\n… (4 more bytes)""#),
            (r#""ééé""#, 3, r#""é… (4 more bytes)""#),
            ("[1,2,3,4,5,6]", 4, r#"[1,2,"… 4 more items"]"#),
            (r#"{"a":1,"b":2,"c":3}"#, 6, r#"{"a":1,"…":"2 more members"}"#),
            ("[[[[[1]]]]]", 3, r#"[[["… 1 more items"]]]"#),
            ("12345678901234567890123", 4, r#""1234… (19 more bytes)""#),
        ] {
            assert_eq!(echo(&parsed(text), max_bytes), expected, "{text}");
        }
        let deep = echo(&parsed(&format!("{}{}", "[".repeat(500), "]".repeat(500))), 10_000);
        assert_eq!(deep, format!("{}\"… 1 more items\"{}", "[".repeat(101), "]".repeat(101)));
        assert_eq!(cut("éé", 3), "é… (2 more bytes)");
        assert_eq!(cut("éé", 4), "éé");
    }

    proptest! {
        #[test]
        fn an_echo_is_json_and_bounded(text in any::<String>(), items in 0..300_usize, max_bytes in 0..600_usize) {
            let list = Json::List(vec![Json::Object(vec![(text.clone(), Json::Text(text))]); items]);
            let echo = echo(&list, max_bytes);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&echo).is_ok(), "{echo}");
            // A key, a text, an object and a list may each be cut, in some thirty bytes.
            prop_assert!(echo.len() <= max_bytes + 4 * 40, "{} bytes", echo.len());
        }
    }
}
